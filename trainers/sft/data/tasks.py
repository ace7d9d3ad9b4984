"""What a model is taught, as data: tasks, and the three stages they make up (OneSearch, arXiv 2509.03236, §"PARS", supervised fine-tuning).

A task says which rows it is made from, what the prompt gives and what is wanted. Its template is the prompt template of the same name
(`onesearch.tokenization_sid.prompts`). Only the wanted part counts in the loss; a SID is scored over its levels' slices, text over the
whole vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ROWS = ("items", "queries", "pairs", "words", "requests")
"""What tasks are made from: the catalogue, the distinct queries of the training split, its distinct pairs of a query and an item clicked or
bought after it, drawn words of item texts, and whole requests with their user's views."""


@dataclass(frozen=True)
class Task:
    """One kind of example.

    Args:
        rows: of `ROWS`.
        given: thing and field in the prompt, for instance ``("query", "text")``; of requests it is the whole search prompt.
        wanted: thing and field of the target: ``sid``, ``text`` or ``category``.
        events: which items of a request are targets.
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
    # A few words of an item's text stand in for queries of a catalogue that has none; ours.
    "item-words": Task("words", ("query", "search"), ("item", "sid")),
}
"""All tasks. `clicks` leaves out what was also bought: with `purchases` every touched item is one target."""

STAGES = {
    "alignment": tuple(name for name, task in TASKS.items() if task.rows in ("items", "queries")),
    "co-occurrence": tuple(name for name, task in TASKS.items() if task.rows == "pairs"),
    "personalised": ("purchases", "clicks"),
}
"""The paper's stages, in its order, and their tasks."""


@dataclass(frozen=True)
class StageConfig:
    """One stage of training, with an optimiser and a schedule of its own.

    Args:
        name: of its folder in ``training/``; one of `STAGES` brings that stage's tasks.
        tasks: {task: weight}. Weight 1 takes every example once an epoch, 2 twice, 0.5 a random half.
        arguments: fields of `SidSFTConfig`, over those of the whole training.
    """

    name: str
    tasks: dict[str, float] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if not self.tasks and self.name not in STAGES:
            raise ValueError(f"stage {self.name!r} names no tasks; name some, or take one of the stages {', '.join(STAGES)}")
        weights = dict(self.tasks) or dict.fromkeys(STAGES[self.name], 1.0)
        unknown = [task for task in weights if task not in TASKS]
        if unknown:
            raise ValueError(f"stage {self.name!r}: task {unknown[0]!r} is unknown; allowed are {', '.join(TASKS)}")
        wrong = {task: weight for task, weight in weights.items() if not weight > 0}
        if wrong:
            raise ValueError(f"stage {self.name!r}: weights {wrong} must be positive; leave a task out instead")
        object.__setattr__(self, "tasks", weights)

    @property
    def personal(self) -> bool:
        """Whether it learns from requests, so that held-out requests measure it."""
        return any(TASKS[task].rows == "requests" for task in self.tasks)


__all__ = ["ROWS", "STAGES", "TASKS", "StageConfig", "Task"]
