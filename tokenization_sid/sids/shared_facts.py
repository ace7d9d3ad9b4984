"""The meaning of a code: values of category, brand and attributes that the items under a prefix share, and the items above it do not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onesearch.data.schema import ATTRIBUTE_TYPES

LEAST_SHARE = 0.5
"""Least share of the items under a prefix that a value must have to be told of them; our choice."""

WORD_ITEMS = 500
"""Number of titles that are read for the words that items share; our choice."""

_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True)
class SharedFact:
    """A value that most items under a prefix have.

    Args:
        kind: ``category``, ``brand``, an attribute type, or ``word`` for a word of the titles.
        value: the value.
        share: share of the items under the prefix that have it.
        before: share of the items under the prefix that is one code shorter.
    """

    kind: str
    value: str
    share: float
    before: float


class ItemFacts:
    """Category, brand and attributes of a catalogue, by row.

    Args:
        items: items table of a market.
    """

    def __init__(self, items: pa.Table) -> None:
        attributes = items.column("attributes").combine_chunks()
        columns = {kind: _first(pc.struct_field(attributes, kind)) for kind in ATTRIBUTE_TYPES}
        columns["brand"] = pc.coalesce(items.column("brand").combine_chunks(), columns["brand"])
        categories = items.column("categories").combine_chunks()
        self.depth = int(pc.max(pc.list_value_length(categories)).as_py() or 0)
        paths = {f"category {level}": _at(categories, level) for level in range(self.depth)}
        encoded = {kind: pc.fill_null(column, "").dictionary_encode() for kind, column in {**paths, **columns}.items()}
        self.numbers = {kind: np.asarray(column.indices) for kind, column in encoded.items()}
        self.names = {kind: column.dictionary.to_pylist() for kind, column in encoded.items()}
        self.titles = items.column("title").combine_chunks()

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.titles)

    def shared(self, rows: np.ndarray, above: np.ndarray, most: int = 3) -> list[SharedFact]:
        """Find the values that most items at `rows` have, those first whose share is furthest above that of the items at `above`.

        Args:
            rows: rows under a prefix, (n,).
            above: rows under the prefix that is one code shorter, (m,).
            most: largest number of values. Words of titles join only where too few categories, brands and attributes are shared.
        """
        rows, above = rows[rows < len(self)], above[above < len(self)]
        if not len(rows):
            return []
        found = [fact for kind in self.numbers for fact in self._most_frequent(kind, rows, above)]
        found.sort(key=_surprise)
        told: list[SharedFact] = []
        for fact in found:
            another_category = fact.kind == "category" and any(other.kind == "category" for other in told)
            if not another_category and not _is_told(fact, told):
                told.append(fact)
        if len(told) < most:
            told += [fact for fact in self._words(rows, above, most) if not _is_told(fact, told)]
        return told[:most]

    def _most_frequent(self, kind: str, rows: np.ndarray, above: np.ndarray) -> list[SharedFact]:
        """The most frequent value of one kind, if enough items have it."""
        names = self.names[kind]
        counts = np.bincount(self.numbers[kind][rows], minlength=len(names))
        best = int(counts.argmax())
        share = counts[best] / len(rows)
        if share < LEAST_SHARE or not names[best]:
            return []
        before = float((self.numbers[kind][above] == best).mean())
        return [SharedFact(kind.split(" ")[0], names[best], float(share), before)]

    def _words(self, rows: np.ndarray, above: np.ndarray, most: int) -> list[SharedFact]:
        """Words that most titles share, of a sample of the items."""
        own, base = self._word_counts(rows), self._word_counts(above)
        sizes = min(len(rows), WORD_ITEMS), max(min(len(above), WORD_ITEMS), 1)
        facts = [SharedFact("word", word, count / sizes[0], base[word] / sizes[1]) for word, count in own.items()]
        facts = [fact for fact in facts if fact.share >= LEAST_SHARE]
        return sorted(facts, key=_surprise)[:most]

    def _word_counts(self, rows: np.ndarray) -> Counter[str]:
        sample = rows[np.unique(np.linspace(0, len(rows) - 1, WORD_ITEMS).astype(int))] if len(rows) > WORD_ITEMS else rows
        titles: Sequence[str | None] = self.titles.take(pa.array(sample)).to_pylist()
        return Counter(word for title in titles for word in set(_WORD.findall((title or "").casefold())))


def _surprise(fact: SharedFact) -> tuple[float, float, bool, str]:
    """Sort key: the values that a prefix adds most to come first; equal ones by share, categories before others, then by value."""
    return fact.before - fact.share, -fact.share, fact.kind != "category", fact.value


def _is_told(fact: SharedFact, told: Sequence[SharedFact]) -> bool:
    """Whether a value, or a longer one that holds it, is told already: an attribute may repeat the category."""
    return any(fact.value.casefold() in other.value.casefold() for other in told)


def _first(column: pa.Array) -> pa.Array:
    """The first entry of each list, null where there is none."""
    return _at(column, 0)


def _at(column: pa.Array, place: int) -> pa.Array:
    """The entry of each list at a place, null where the list is shorter."""
    long_enough = pc.fill_null(pc.greater(pc.list_value_length(column), place), False)
    lists = pc.if_else(long_enough, column, None)
    filler = pa.array([""] * (place + 1), column.type.value_type)
    filled = pc.fill_null(lists, pa.scalar(filler, column.type))
    return pc.list_element(filled, place)


__all__ = ["ItemFacts", "SharedFact"]
