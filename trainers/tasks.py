"""Tasks of supervised fine-tuning, and the paper's three stages (OneSearch, arXiv 2509.03236, §"PARS", supervised fine-tuning).

A task says which rows its examples are made from, what the prompt gives and what the model must generate. The prompt template of a task
has the same name (`onesearch.tokenization_sid.templates`). Only the generated part counts in the loss: a Semantic ID is scored over the
codes of its levels, text over the whole vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

ROWS = ("items", "queries", "pairs", "words", "facets", "made-queries", "matches", "tastes", "requests")
"""Row kinds that tasks are made from: the items of the catalogue; the distinct queries of the training split; its distinct pairs of a query
and an item that was clicked or bought after it; sampled words of item texts; sampled facets of items; queries made of titles, categories
and brands; these with items that match their text; made users, whose history shares facets with an item; and whole requests with their
user's views."""

MADE_ROWS = ("words", "facets", "made-queries", "matches")
"""Row kinds whose prompt is a made query alone."""


@dataclass(frozen=True)
class Task:
    """One kind of example.

    Args:
        rows: one of `ROWS`.
        given: thing and field in the prompt, for instance ``("query", "text")``; ``("query", "search")`` is the whole search prompt.
        wanted: thing and field of the target; the field is ``sid``, ``text`` or ``category``.
        events: column of the sessions whose items are the targets, ``clicked`` or ``purchased``; for requests only.
    """

    rows: str
    given: tuple[str, str]
    wanted: tuple[str, str]
    events: str = ""


TASKS = {
    "item-text-to-sid": Task("items", ("item", "text"), ("item", "sid")),
    "query-text-to-sid": Task("queries", ("query", "text"), ("query", "sid")),
    "item-sid-to-text": Task("items", ("item", "sid"), ("item", "text")),
    "query-sid-to-text": Task("queries", ("query", "sid"), ("query", "text")),
    "item-text-to-category": Task("items", ("item", "text"), ("item", "category")),
    "query-text-to-category": Task("queries", ("query", "text"), ("query", "category")),
    "item-sid-to-category": Task("items", ("item", "sid"), ("item", "category")),
    "query-sid-to-category": Task("queries", ("query", "sid"), ("query", "category")),
    "query-text-to-item-text": Task("pairs", ("query", "text"), ("item", "text")),
    "item-text-to-query-text": Task("pairs", ("item", "text"), ("query", "text")),
    "query-sid-to-item-sid": Task("pairs", ("query", "sid"), ("item", "sid")),
    "item-sid-to-query-sid": Task("pairs", ("item", "sid"), ("query", "sid")),
    "purchases": Task("requests", ("query", "search"), ("item", "sid"), "purchased"),
    "clicks": Task("requests", ("query", "search"), ("item", "sid"), "clicked"),
    # For a catalogue without queries, made ones take their place: a few words of an item's text; its category, brand and attributes; or a
    # query by a template, whose target is that item, or one that BM25 finds for it. Our additions.
    "item-words": Task("words", ("query", "search"), ("item", "sid")),
    "item-facets": Task("facets", ("query", "search"), ("item", "sid")),
    "item-queries": Task("made-queries", ("query", "search"), ("item", "sid")),
    "item-matches": Task("matches", ("query", "search"), ("item", "sid")),
    # Made users, whose history shares facets with the target: they teach what a taste says of the items of the whole catalogue.
    "item-tastes": Task("tastes", ("query", "search"), ("item", "sid")),
}
"""All tasks. `clicks` leaves out items that were also bought: with `purchases`, each clicked or bought item is a target once."""

COPIED = tuple(name for name, task in TASKS.items() if task.rows in (*MADE_ROWS, "tastes"))
"""Tasks with several examples per item, whose queries differ; see `ExampleConfig.copies`."""

STAGES = {
    "alignment": tuple(name for name, task in TASKS.items() if task.rows in ("items", "queries")),
    "co-occurrence": tuple(name for name, task in TASKS.items() if task.rows == "pairs"),
    "personalised": ("purchases", "clicks"),
}
"""The paper's stages, in its order, and their tasks."""


__all__ = ["COPIED", "MADE_ROWS", "ROWS", "STAGES", "TASKS", "Task"]
