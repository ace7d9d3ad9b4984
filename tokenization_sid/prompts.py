"""What the encoder reads, as data: every template once, with a stable name, for training, evaluation and serving alike.

A prompt is a begin token and groups, each closed by an end token; a group of which nothing is known is left out. The same template
renders text (`render`) and token ids (`encode`).
Travels to the Hub with the tokenizer: imports nothing of this package.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .ragged import Ragged, join, offsets_of, repeat


class SidVocabulary(Protocol):
    """What prompts need of `SidTokenizer`."""

    bos_token_id: int
    eos_token: str
    eos_token_id: int
    long_view_token_id: int | None
    all_special_tokens: Sequence[str]
    backend_tokenizer: Any

    def sids_to_ids(self, codes: np.ndarray) -> np.ndarray:
        """(n, levels) → (n, levels)."""

    def users_to_ids(self, signatures: np.ndarray) -> np.ndarray:
        """(n, levels) → (n, levels)."""

    def sid_string(self, sid: Sequence[int]) -> str:
        """Text of a SID."""

    def user_string(self, signature: Sequence[int]) -> str:
        """Text of a signature."""


_TOKEN_LIKE = re.compile(r"<(?=/?[a-z]+(?:_\d+)?>)")

FIELDS = ("text", "item", "sid", "user", "long_view", "items", "queries", "profile", "keywords")
"""What a section of a prompt can hold: the text of a query, that of an item, its SID, the user's signatures, the place of the long view,
recent items as SIDs, recent queries, the user's profile, keywords of what is meant (which the teacher of self-distillation sees)."""

ONCE = ("text", "item", "sid", "user", "long_view", "items")
"""Fields that are there where they have tokens; the others are lists of texts, and a strange text may have no token and still be there."""

CODED = ("sid", "user", "long_view", "items")
"""Fields that are no text. Only before these is a label tokenised on its own: between texts the border would not survive rendering."""


@dataclass(frozen=True)
class Section:
    """A field, and the words before it."""

    field: str
    label: str = ""


@dataclass(frozen=True)
class PromptTemplate:
    """Order and wording of one kind of prompt.

    Args:
        name: stable id, stored with the checkpoint; a changed template gets a new name.
        groups: sections that stand together, in order; the first group is there even when empty.
    """

    name: str
    groups: tuple[tuple[Section, ...], ...]


@dataclass(frozen=True)
class PromptLayout:
    """Which views of a user a search prompt holds, and how much of each; travels with the tokenizer.

    The defaults are OneSearch's input M(uid, q, SID_q, Seq_q, Seq_short, Seq_long, U) (arXiv 2509.03236); limits in tokens are ours.

    Args:
        name: of the template.
        text_tokens: a query is cut to so many tokens; item_tokens: an item's text; query_tokens: an earlier query.
        items: most recent items, 0 for none; the paper's explicit short view has at most 5.
        queries: most recent queries; at most 5 in the paper.
        sid: the query's own SID.
        user: the user's two signatures, of the recent items and of the long sequence (see `user_ids.py`).
        long_view_tokens: placeholder tokens whose embeddings the model replaces by its implicit long view; N_M, 3 as far as is known.
        long_view_sequences: what the long view pools, of ``clicked``, ``purchased`` and ``shown``; the paper has click, order and RSU.
        long_items: most recent events of a long sequence.
        profile: words of the user's profile.
        default_history: users without history get what others clicked after the same query.
    """

    name: str = "search/2"
    text_tokens: int = 32
    item_tokens: int = 48
    query_tokens: int = 12
    items: int = 5
    queries: int = 5
    sid: bool = True
    user: bool = True
    long_view_tokens: int = 3
    long_view_sequences: tuple[str, ...] = ("clicked", "purchased")
    long_items: int = 1000
    profile: bool = True
    default_history: bool = True

    def __post_init__(self):
        object.__setattr__(self, "long_view_sequences", tuple(self.long_view_sequences))  # JSON and YAML know lists only
        counts = ("text_tokens", "item_tokens", "query_tokens", "items", "queries", "long_view_tokens", "long_items")
        wrong = [f"{count}={getattr(self, count)!r}" for count in counts if getattr(self, count) < 0]
        if wrong:
            raise ValueError(f"prompt layout with {', '.join(wrong)}: limits are 0 or more")

    @property
    def needs_query_sids(self) -> bool:
        """Whether a search must know the SID of its query."""
        return self.sid or self.default_history


PLAIN_LAYOUT = PromptLayout(
    queries=0, sid=False, user=False, long_view_tokens=0, long_view_sequences=(), profile=False, default_history=False
)
"""Query and recent items alone: what a tokenizer has unless told otherwise."""


@dataclass(frozen=True)
class PromptFields:
    """What is known for each of n prompts; None leaves a field out of all.

    Args:
        texts: of the queries or items.
        sids: (n, levels) their SIDs; -1 where not known.
        users: (n, signatures, levels) signatures; -1 where a user has none.
        items: SIDs (…, levels) of the items in each history, oldest first.
        queries: texts of earlier queries, oldest first.
        profiles: words of each profile.
        keywords: for each prompt; no search has them.
    """

    texts: Sequence[str] | None = None
    sids: np.ndarray | None = None
    users: np.ndarray | None = None
    items: Ragged | None = None
    queries: Sequence[Sequence[str]] | None = None
    profiles: Sequence[Sequence[str]] | None = None
    keywords: Sequence[Sequence[str]] | None = None

    def __len__(self) -> int:
        given = (self.texts, self.sids, self.users, self.items, self.queries, self.profiles, self.keywords)
        lengths = {len(field) for field in given if field is not None}
        if len(lengths) > 1:
            raise ValueError(f"fields of {sorted(lengths)} prompts: each field needs one entry per prompt")
        return lengths.pop() if lengths else 0


def _search(name: str, query="", user="", items="", queries="", profile="", keywords="") -> PromptTemplate:
    return PromptTemplate(
        name,
        (
            (Section("text", query), Section("sid")),
            (Section("user", user), Section("long_view")),
            (Section("items", items),),
            (Section("queries", queries),),
            (Section("profile", profile),),
            (Section("keywords", keywords),),
        ),
    )


def _task(name: str, label: str, field: str) -> PromptTemplate:
    return PromptTemplate(name, ((Section(field, label),),))


# What a task asks for, in the languages that templates are written in: of what, as which field.
_TASKS = {
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

LANGUAGES = ("en", "zh")

TEMPLATES = {
    template.name: template
    for template in (
        # Without words: what tells the views apart is the kind of their tokens and their order. The cheapest, for models from scratch.
        _search("search/2"),
        _search("search-en/1", "search:", "user:", "recent items:", "recent searches:", "profile:", "keywords:"),
        _search("search-zh/1", "搜索：", "用户：", "最近商品：", "最近搜索：", "画像：", "关键词："),
        # The text of an item stands where a query does: it is the most exact query for that item.
        _task("item-text-to-sid/1", "", "item"),
        *(
            _task(f"{task}-{language}/1", label, field)
            for task, (field, *labels) in _TASKS.items()
            for language, label in zip(LANGUAGES, labels)
        ),
    )
}


def template(name: str) -> PromptTemplate:
    """Template by name; ValueError lists the known ones."""
    if name not in TEMPLATES:
        raise ValueError(f"prompt template {name!r} is unknown; known are {', '.join(TEMPLATES)}")
    return TEMPLATES[name]


def task_template(task: str, language: str) -> str:
    """Name of a task's template in a language (of `LANGUAGES`)."""
    return f"{task}/1" if f"{task}/1" in TEMPLATES else template(f"{task}-{language}/1").name


def plain_text(text: str, special_tokens: Sequence[str] = ()) -> str:
    """`text` on one line, with nothing in it that the tokenizer would read as a SID or a special token.

    Args:
        special_tokens: the tokenizer's own, where they may be of another form than `<name>` (a Chinese BART's are `[SEP]` and the like).
    """
    plain = _TOKEN_LIKE.sub("< ", " ".join(text.split()))
    for token in special_tokens:
        plain = plain.replace(token, f"{token[0]} {token[1:]}")
    return plain


def encode(tokenizer: SidVocabulary, layout: PromptLayout, name: str, fields: PromptFields) -> Ragged:
    """Token ids of prompts.

    Args:
        layout: its limits; name: of the template.

    Returns:
        One row of int32 ids per prompt.
    """
    count = len(fields)
    everywhere = np.ones(count, dtype=bool)
    parts = [repeat(_ids([tokenizer.bos_token_id]), everywhere)]
    for place, group in enumerate(template(name).groups):
        filled = everywhere if place == 0 else np.zeros(count, dtype=bool)
        for section in group:
            found = _encode_section(tokenizer, layout, section, fields)
            if found is not None:
                there = found.lengths > 0 if section.field in ONCE else _given(section, fields)
                if section.label and section.field in CODED:
                    parts.append(repeat(_words(tokenizer, [section.label]).values, there))
                parts.append(found)
                filled = filled | there
        parts.append(repeat(_ids([tokenizer.eos_token_id]), filled))
    return join(parts)


def render(tokenizer: SidVocabulary, layout: PromptLayout, name: str, fields: PromptFields) -> str:
    """The first prompt of `fields` as text; the tokenizer reads it as the ids of `encode`, up to the cut of long texts."""
    groups = []
    for place, group in enumerate(template(name).groups):
        sections = [(section, _render_section(tokenizer, layout, section, fields)) for section in group]
        if place == 0 or any(found for _, found in sections):
            labels = (section.label if section.field in CODED else "" for section, _ in sections)
            groups.append("".join(label + found for label, (_, found) in zip(labels, sections) if found))
    return tokenizer.eos_token.join(groups)


def _encode_section(tokenizer: SidVocabulary, layout: PromptLayout, section: Section, fields: PromptFields) -> Ragged | None:
    """Ids of one field in every prompt; None where the layout or the fields have none of it."""
    field = section.field
    if field in ("text", "item") and fields.texts is not None:
        most = (layout.text_tokens if field == "text" else layout.item_tokens) + len(_words(tokenizer, [section.label]).values)
        return _texts(tokenizer, fields.texts, section.label).head(most)
    if field == "sid" and fields.sids is not None:
        known = fields.sids[:, 0] >= 0
        ids = tokenizer.sids_to_ids(fields.sids[known]).astype(np.int32)
        return Ragged(ids.reshape(-1), offsets_of(known * ids.shape[1]))
    if field == "items" and fields.items is not None and layout.items:
        recent = fields.items.tail(layout.items)
        return Ragged(tokenizer.sids_to_ids(recent.values).astype(np.int32), recent.offsets).flatten()
    if field == "user" and fields.users is not None and layout.user:
        known = fields.users[:, :, 0] >= 0  # (prompts, signatures)
        ids = tokenizer.users_to_ids(fields.users[known]).astype(np.int32)
        return Ragged(ids.reshape(-1), offsets_of(known.sum(1) * ids.shape[1]))
    if field == "long_view" and layout.long_view_tokens:
        ids = _ids([tokenizer.long_view_token_id] * layout.long_view_tokens)
        return repeat(ids, np.ones(len(fields), dtype=bool))
    if field == "queries" and fields.queries is not None and layout.queries:
        recent = [_not_blank(texts)[-layout.queries :] for texts in fields.queries]
        return _several(tokenizer, recent, layout.query_tokens, section.label)
    if field == "profile" and fields.profiles is not None and layout.profile:
        return _words_of(tokenizer, section, fields, MAX_PROFILE)
    if field == "keywords" and fields.keywords is not None:
        return _words_of(tokenizer, section, fields, MAX_KEYWORDS)
    return None


def _render_section(tokenizer: SidVocabulary, layout: PromptLayout, section: Section, fields: PromptFields) -> str:
    field, special = section.field, tokenizer.all_special_tokens
    if field in ("text", "item") and fields.texts is not None:
        return _labelled(section.label, plain_text(fields.texts[0], special))
    if field == "sid" and fields.sids is not None:
        return tokenizer.sid_string(fields.sids[0]) if fields.sids[0, 0] >= 0 else ""
    if field == "items" and fields.items is not None and layout.items:
        return "".join(tokenizer.sid_string(sid) for sid in fields.items.tail(layout.items)[0])
    if field == "user" and fields.users is not None and layout.user:
        return "".join(tokenizer.user_string(one) for one in fields.users[0] if one[0] >= 0)
    if field == "long_view":
        return LONG_VIEW_TOKEN * layout.long_view_tokens
    if field == "queries" and fields.queries is not None and layout.queries:
        recent = [plain_text(text, special) for text in _not_blank(fields.queries[0])[-layout.queries :]]
        return tokenizer.eos_token.join(([section.label] if section.label and recent else []) + recent)
    if field == "profile" and fields.profiles is not None and layout.profile:
        return (
            _labelled(section.label, plain_text(" ".join(fields.profiles[0]), special))
            if _not_blank(fields.profiles[0])
            else ""
        )
    return ""


LONG_VIEW_TOKEN = "<longview>"  # noqa: S105 - a placeholder, no secret
"""Its embedding is replaced by the long view."""


def _words_of(tokenizer: SidVocabulary, section: Section, fields: PromptFields, most: int) -> Ragged:
    """Ids of a list of words each, nothing where it is empty."""
    lists = fields.profiles if section.field == "profile" else fields.keywords
    words = _texts(tokenizer, [" ".join(words) for words in lists], section.label)
    return words.head(np.where(_given(section, fields), most, 0))


def _given(section: Section, fields: PromptFields) -> np.ndarray:
    """(prompts,) whether a field that is a list of texts has one."""
    rows = {"queries": fields.queries, "profile": fields.profiles, "keywords": fields.keywords}[section.field]
    return np.array([bool(_not_blank(row)) for row in rows], dtype=bool)


def _not_blank(texts: Sequence[str]) -> list[str]:
    return [text for text in texts if text.strip()]


MAX_PROFILE, MAX_KEYWORDS = 16, 48
"""Tokens that a profile and a list of keywords are cut to; ours."""


def _labelled(label: str, text: str) -> str:
    return f"{label} {text}" if label else text


def _texts(tokenizer: SidVocabulary, texts: Sequence[str], label: str = "") -> Ragged:
    """Ids of texts; equal ones are tokenised once."""
    rows: dict[str, int] = {}
    places = np.fromiter((rows.setdefault(text, len(rows)) for text in texts), dtype=np.int64, count=len(texts))
    special = tokenizer.all_special_tokens
    plain = (plain_text(text, special) for text in rows)
    return _words(tokenizer, [_labelled(label, text) for text in plain]).take(places)


def _several(tokenizer: SidVocabulary, lists: Sequence[Sequence[str]], most: int, label: str) -> Ragged:
    """Ids of lists of texts, the label first, an end token between two texts."""
    lists = [[label, *texts] if label and texts else texts for texts in lists]
    counts = np.array([len(texts) for texts in lists], dtype=np.int64)
    first, last = (np.zeros(int(counts.sum()), dtype=bool) for _ in range(2))
    ends = np.cumsum(counts)[counts > 0]
    first[ends - counts[counts > 0]] = bool(label)
    last[ends - 1] = True
    whole = _texts(tokenizer, [text for texts in lists for text in texts])
    entries = whole.head(np.where(first, whole.lengths, most))
    entries = join([entries, repeat(_ids([tokenizer.eos_token_id]), ~last)])
    return Ragged(entries.values, entries.offsets[offsets_of(counts)])


def _words(tokenizer: SidVocabulary, texts: Sequence[str]) -> Ragged:
    encoded = tokenizer.backend_tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    lengths = np.array([len(one) for one in encoded], dtype=np.int64)
    values = np.fromiter((token for one in encoded for token in one.ids), dtype=np.int32, count=int(lengths.sum()))
    return Ragged(values, offsets_of(lengths))


def _ids(tokens: Sequence[int]) -> np.ndarray:
    return np.array(tokens, dtype=np.int32)


__all__ = [
    "LONG_VIEW_TOKEN",
    "FIELDS",
    "LANGUAGES",
    "PLAIN_LAYOUT",
    "PromptFields",
    "PromptLayout",
    "PromptTemplate",
    "Section",
    "TEMPLATES",
    "encode",
    "plain_text",
    "render",
    "task_template",
    "template",
]
