"""Prompts as data: the contents of a prompt, their order, their wording and their length. Every template has a stable name.

A prompt is a begin token and groups of sections; an end token closes each group. A group without content is left out.
The file travels to the Hub with the tokenizer and imports nothing of this package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Field = Literal["text", "item", "sid", "vector", "user", "long_view", "items", "queries", "profile", "keywords"]
"""What one section holds: the text of a query or of an item, its SID, a placeholder of its text vector, the user's signatures,
placeholders of the long view, recent items as SIDs or as placeholders, earlier queries, the user's profile, or keywords of the wanted item
(for the teacher of self-distillation)."""

LONG_VIEW_TOKEN = "<longview>"
"""Placeholder token: the model replaces its embedding by the long view."""

ITEM_TOKEN = "<item>"
"""Placeholder token: the model replaces its embedding by the vector of an item of the history."""

SUMMARY_TOKEN = "<itemsummary>"
"""Placeholder token: the model replaces its embedding by the mean of one kind of facet over the history."""

QUERY_TOKEN = "<queryvector>"
"""Placeholder token: the model replaces its embedding by the projected text vector of the query."""

ITEM_FORMS = ("tokens", "vector")
"""Allowed values of `PromptLayout.item_form`."""

ITEM_EVENTS = ("clicked", "purchased")
"""Kinds of events whose items a history can hold."""

ITEM_INPUTS = ("text", "facets", "kind", "age")
"""Inputs of an item's vector besides its codes and its place."""


@dataclass(frozen=True)
class Section:
    """One field of a prompt.

    Args:
        field: what the section holds.
        label: words before it; left out together with the field.
    """

    field: Field
    label: str = ""


@dataclass(frozen=True)
class PromptTemplate:
    """Order and wording of one kind of prompt.

    Args:
        name: stable name, stored with the checkpoint; a changed template gets a new name.
        groups: sections that share an end token, in order; the first group is kept even when it is empty.
    """

    name: str
    groups: tuple[tuple[Section, ...], ...]


LONG_VIEW_SEQUENCES = ("clicked", "purchased", "shown")
"""Sequences of a user's events that a long view can pool."""


@dataclass(frozen=True)
class PromptLayout:
    """Which views of a user a search prompt holds, and how much of each; saved with the tokenizer.

    The defaults are OneSearch's input M(uid, q, SID_q, Seq_q, Seq_short, Seq_long, U) (arXiv 2509.03236). The limits in tokens are our
    choice; the paper gives none.

    Args:
        name: name of the prompt template.
        text_tokens: most tokens of a query; the rest is cut. On the demo 4 cost 0.026 [0.007, 0.046] of HR@10.
        item_tokens: most tokens of an item's text.
        query_tokens: most tokens of each earlier query.
        items: number of most recent items; 0 shows none. The paper's explicit short view has at most 5. Against 10, 5 cost 0.045 [0.024,
            0.067] of HR@10 on the demo, and none 0.082 [0.059, 0.106].
        queries: number of most recent earlier queries; 0 shows none. The paper has at most 5. On the demo, whose searches do not depend on
            earlier ones, 5 cost 0.027 [0.007, 0.047] of HR@10.
        sid: shows the SID of the query.
        query_vector: gives the query's text vector, of the encoder that the Semantic IDs are made with, a place of its own (our addition).
            A query of words that no training example held still points at codes then. It needs the encoder at search.
        user: shows the user's two signatures, of the recent items and of the long history (see `user_ids.py`).
        long_view_tokens: number of placeholder tokens whose embeddings the model replaces by the long view; 0 leaves the long view out.
            The paper's N_M; 3 is its value as far as is known.
        long_view_sequences: sequences that the long view pools, of ``clicked``, ``purchased`` and ``shown``; the paper has click, order
            and RSU.
        long_items: most recent events of each long sequence; older ones are ignored.
        item_form: how recent items stand in the prompt: ``tokens`` writes the codes of their SIDs (the paper's form), ``vector`` gives each
            item one place, whose vector is made of its codes and of `item_inputs` (our addition). A vector costs one place instead of one
            per level, so `items` can be large.
        item_events: kinds of events whose items the history holds, in the order of time, of ``clicked`` and ``purchased``.
        item_inputs: what the vector of an item is made of besides its codes: ``text`` (its frozen text vector), ``facets``
            (brand, category, price band, attributes and tags), ``kind`` (clicked or bought) and ``age`` (time since the event).
        item_summaries: kinds of facets, for instance ``brand`` and ``color``, whose mean over the whole history takes one more place each.
        item_id_events: number of clicks and purchases in training from which on an item gets an embedding of its own as well; 0 gives
            none. With few events per item such embeddings learn the training set by heart.
        profile: shows the words of the user's profile.
        default_history: gives users without history the items that others clicked after the same query.

    Raises:
        ValueError: a limit is negative, a name is unknown, or a setting of vectors is given for items as tokens.
    """

    name: str = "search/2"
    text_tokens: int = 32
    item_tokens: int = 48
    query_tokens: int = 12
    items: int = 5
    queries: int = 5
    sid: bool = True
    query_vector: bool = False
    user: bool = True
    long_view_tokens: int = 3
    long_view_sequences: tuple[str, ...] = ("clicked", "purchased")
    long_items: int = 1000
    item_form: str = "tokens"
    item_events: tuple[str, ...] = ITEM_EVENTS
    item_inputs: tuple[str, ...] = ITEM_INPUTS
    item_summaries: tuple[str, ...] = ()
    item_id_events: int = 0
    profile: bool = True
    default_history: bool = True

    def __post_init__(self) -> None:
        for name in ("long_view_sequences", "item_events", "item_inputs", "item_summaries"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON and YAML know lists only
        counts = (
            *("text_tokens", "item_tokens", "query_tokens", "items", "queries", "long_view_tokens", "long_items"),
            "item_id_events",
        )
        wrong = [f"{count}={getattr(self, count)!r}" for count in counts if getattr(self, count) < 0]
        if wrong:
            raise ValueError(f"prompt layout with {', '.join(wrong)}: limits are 0 or more")
        unknown = [kind for kind in self.long_view_sequences if kind not in LONG_VIEW_SEQUENCES]
        if unknown:
            raise ValueError(f"long_view_sequences holds {unknown[0]!r}; allowed are {', '.join(LONG_VIEW_SEQUENCES)}")
        self._check_items()

    def _check_items(self) -> None:
        """Raise ValueError if the settings of the items do not fit each other."""
        if self.item_form not in ITEM_FORMS:
            raise ValueError(f"item_form={self.item_form!r} is unknown; allowed are {', '.join(ITEM_FORMS)}")
        for name, allowed in {"item_events": ITEM_EVENTS, "item_inputs": ITEM_INPUTS}.items():
            wrong = [value for value in getattr(self, name) if value not in allowed]
            if wrong:
                raise ValueError(f"{name} holds {wrong[0]!r}; allowed are {', '.join(allowed)}")
        if not self.item_events:
            raise ValueError(
                "item_events is empty; name clicked, purchased or both, or set items to 0 for prompts without a history"
            )
        if len(set(self.item_summaries)) < len(self.item_summaries):
            raise ValueError(f"item_summaries={list(self.item_summaries)} names a kind twice; each has one place")
        if self.item_summaries and "facets" not in self.item_inputs:
            raise ValueError("item_summaries are means of facets; add facets to item_inputs")
        if self.item_form == "tokens" and (self.item_summaries or self.item_id_events):
            raise ValueError("item_summaries and item_id_events belong to item_form: vector; set it, or leave them out")

    @property
    def has_vectors(self) -> bool:
        """Whether the prompts have places for the vectors of recent items."""
        return self.item_form == "vector" and self.items > 0

    @property
    def needs_query_sids(self) -> bool:
        """Whether a search needs the SID of its query."""
        return self.sid or self.default_history

    @property
    def needs_query_encoder(self) -> bool:
        """Whether a search needs the encoder of queries, for their SIDs or their vectors."""
        return self.needs_query_sids or self.query_vector


PLAIN_LAYOUT = PromptLayout(
    queries=0, sid=False, user=False, long_view_tokens=0, long_view_sequences=(), profile=False, default_history=False
)
"""The query and recent items alone: the layout of a tokenizer that is made without one."""


def _search(
    name: str, query: str = "", user: str = "", items: str = "", queries: str = "", profile: str = "", keywords: str = ""
) -> PromptTemplate:
    return PromptTemplate(
        name,
        (
            (Section("text", query), Section("sid"), Section("vector")),
            (Section("user", user), Section("long_view")),
            (Section("items", items),),
            (Section("queries", queries),),
            (Section("profile", profile),),
            (Section("keywords", keywords),),
        ),
    )


def _task(name: str, label: str, field: Field) -> PromptTemplate:
    return PromptTemplate(name, ((Section(field, label),),))


LANGUAGES = ("en", "zh")
"""Languages in which the tasks have templates."""

# Task → the field that its prompt gives, and the label in each of `LANGUAGES`.
_TASKS: dict[str, tuple[Field, str, str]] = {
    "query-text-to-sid": ("text", "codes of query:", "搜索编码："),
    "item-sid-to-text": ("sid", "title of item:", "商品标题："),
    "query-sid-to-text": ("sid", "text of query:", "搜索词："),
    "item-text-to-category": ("item", "category of item:", "商品类目："),
    "query-text-to-category": ("text", "category of query:", "搜索类目："),
    "item-sid-to-category": ("sid", "category of item:", "商品类目："),
    "query-sid-to-category": ("sid", "category of query:", "搜索类目："),
    "query-text-to-item-text": ("text", "item for query:", "搜索对应商品："),
    "item-text-to-query-text": ("item", "query for item:", "商品对应搜索："),
    "query-sid-to-item-sid": ("sid", "item for query:", "搜索对应商品："),
    "item-sid-to-query-sid": ("sid", "query for item:", "商品对应搜索："),
}

TEMPLATES = {
    template.name: template
    for template in (
        # Without words, the views differ in the kind and order of their tokens. These are the shortest prompts, for models from scratch.
        _search("search/2"),
        _search("search-en/1", "search:", "user:", "recent items:", "recent searches:", "profile:", "keywords:"),
        _search("search-zh/1", "搜索：", "用户：", "最近商品：", "最近搜索：", "画像：", "关键词："),
        # The text of an item takes the place of a query: it is the most exact query for that item.
        _task("item-text-to-sid/1", "", "item"),
        *(
            _task(f"{task}-{language}/1", label, field)
            for task, (field, *labels) in _TASKS.items()
            for language, label in zip(LANGUAGES, labels)
        ),
    )
}
"""All templates by name."""


def template(name: str) -> PromptTemplate:
    """The template of this name; ValueError lists the known names."""
    if name not in TEMPLATES:
        raise ValueError(f"prompt template {name!r} is unknown; known are {', '.join(TEMPLATES)}")
    return TEMPLATES[name]


def task_template(task: str, language: str) -> str:
    """Name of a task's template in a language of `LANGUAGES`."""
    return f"{task}/1" if f"{task}/1" in TEMPLATES else template(f"{task}-{language}/1").name


__all__ = [
    "ITEM_EVENTS",
    "ITEM_FORMS",
    "ITEM_INPUTS",
    "ITEM_TOKEN",
    "LANGUAGES",
    "LONG_VIEW_SEQUENCES",
    "LONG_VIEW_TOKEN",
    "PLAIN_LAYOUT",
    "QUERY_TOKEN",
    "SUMMARY_TOKEN",
    "TEMPLATES",
    "Field",
    "PromptLayout",
    "PromptTemplate",
    "Section",
    "task_template",
    "template",
]
