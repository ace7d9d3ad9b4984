"""Queries that shoppers might ask for an item, made of its title's phrases, its category, brand and attributes.

They stand in for a query log where there is none, as the generated queries of doc2query (Nogueira et al., 2019, arXiv 1904.08375) do, and
those of ICEGR for the items of a whole catalogue. A template says which parts a query has; within a part, frequent values are sampled less
often, so that each of a catalogue's words is seen. Our own generator: it needs no language model and no list of words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from onesearch.data.made_queries import UNSPACED, sampled_words
from onesearch.data.market import Market
from onesearch.data.schema import ATTRIBUTE_TYPES
from onesearch.data.text import item_texts

PHRASE_WORDS = 3
"""Largest number of words of a phrase; our choice."""

TITLE_WORDS = 24
"""Number of first words of a title in which phrases are looked for; our choice."""

VALUE_WORDS = 3
"""Largest number of words of a category, brand or attribute that a shopper would type; our choice."""

COMMON = (0.2, 5)
"""A word that more than this share of the titles have, and more than this number, says nothing: no phrase begins or ends with it. Our
choice."""

PIECE = (2, 4)
"""Letters of the shortest and of the longest phrase in scripts without blanks; our choice."""

TEMPLATES: tuple[tuple[str, ...], ...] = (
    ("phrase",),
    ("phrase",),
    ("category",),
    ("brand", "phrase"),
    ("brand", "category"),
    ("attribute", "category"),
    ("attribute", "phrase"),
)
"""Parts of a query, in order. One of the templates whose parts an item has is drawn, all alike; our choice."""

PARTS = ("phrase", "category", "brand", "attribute")

_WORD = re.compile(r"[^\W_]+(?:[-.'’][^\W_]+)*")
_UNSPACED = re.compile(f"[{UNSPACED}]+")


@dataclass(frozen=True)
class _Values:
    """The values of one part, item after item.

    Args:
        texts: distinct values.
        rows: numbers of the values of all items, int64 ``(entries,)``.
        ends: end of each item's entries, and 0 before the first, int64 ``(items + 1,)``.
        sums: cumulative sampling weights of all entries with 0 before the first, float64 ``(entries + 1,)``.
    """

    texts: list[str]
    rows: np.ndarray
    ends: np.ndarray
    sums: np.ndarray

    @classmethod
    def of(cls, values: Sequence[Sequence[str]]) -> _Values:
        """Values of each item; the weight of a value that n items have is n^-½."""
        number: dict[str, int] = {}
        rows = np.array([number.setdefault(text, len(number)) for own in values for text in own], dtype=np.int64)
        weights = np.bincount(rows, minlength=len(number)) ** -0.5 if len(rows) else np.zeros(0)
        ends = np.cumsum([0, *map(len, values)])
        return cls(list(number), rows, ends, np.append(0.0, np.cumsum(weights[rows])))

    def has(self, item: int) -> bool:
        """Whether an item has a value."""
        return bool(self.ends[item + 1] > self.ends[item])

    def draw(self, item: int, random: np.random.Generator) -> str:
        """One value of an item that has some."""
        start, end = self.ends[item], self.ends[item + 1]
        point = self.sums[start] + random.random() * (self.sums[end] - self.sums[start])
        return self.texts[self.rows[min(np.searchsorted(self.sums, point, side="right") - 1, end - 1)]]


class CatalogueQueries:
    """Samples queries for the items of a catalogue.

    Args:
        market: the catalogue.

    Example:
        >>> CatalogueQueries(market).sample(0, np.random.default_rng(0))  # doctest: +SKIP
        'red running shoe'
    """

    def __init__(self, market: Market) -> None:
        column = market.items.data.column
        self.texts = item_texts(market)
        titles = [title or "" for title in column("title").to_pylist()]
        brands = column("brand").to_pylist()
        paths = column("categories").to_pylist()
        details = zip(column("attributes").to_pylist(), column("tags").to_pylist())
        attributes = [_attribute_values(attributes or {}, tags or ()) for attributes, tags in details]
        values = {
            "phrase": title_phrases(titles),
            "category": [_short(path or ()) for path in paths],
            "brand": [_short([brand or ""]) for brand in brands],
            "attribute": [_short(own) for own in attributes],
        }
        self._values = {part: _Values.of(values[part]) for part in PARTS}

    def __len__(self) -> int:
        """Number of items."""
        return len(self.texts)

    def sample(self, item: int, random: np.random.Generator, words: int = 4) -> str:
        """A query for an item; "" for one without any text.

        Args:
            item: row of the item.
            random: source of the sampling.
            words: largest number of words of the query of an item that fits no template; these are words of its text.
        """
        possible = [parts for parts in TEMPLATES if all(self._values[part].has(item) for part in parts)]
        if not possible:
            return sampled_words(self.texts[item], words, random)
        found: list[str] = []
        for part in possible[int(random.integers(len(possible)))]:
            text = self._values[part].draw(item, random)
            if not any(text in other or other in text for other in found):
                found.append(text)
        return " ".join(found)


def title_phrases(titles: Sequence[str]) -> list[list[str]]:
    """Phrases of each title: 1 to `PHRASE_WORDS` words in a row that no punctuation parts, in lower case, each once.

    A phrase of several words counts if at least two titles have it, so that it is a term of the catalogue. In scripts without blanks, runs
    of letters of the lengths `PIECE` that at least two titles have take the place of words.
    """
    candidates = [_candidates(title.lower()) for title in titles]
    counts = Counter(phrase for own in candidates for phrase in own)
    common = {phrase for phrase, count in counts.items() if count > max(COMMON[0] * len(titles), COMMON[1])}

    def is_phrase(phrase: str) -> bool:
        words = phrase.split()
        if words[0] in common or words[-1] in common:
            return False
        return counts[phrase] > 1 or (len(words) == 1 and not _UNSPACED.match(phrase))

    return [[phrase for phrase in own if is_phrase(phrase)] for own in candidates]


def _candidates(title: str) -> list[str]:
    """All runs of words of a title in lower case, each once, in order."""
    runs: list[list[str]] = [[]]
    end, seen = 0, 0
    for match in _WORD.finditer(title):
        if title[end : match.start()].strip():
            runs.append([])
        end = match.end()
        if seen == TITLE_WORDS:
            break
        seen += 1
        runs[-1].append(match.group())
    found: dict[str, None] = {}
    for run in runs:
        found |= dict.fromkeys(_phrases(run))
    return list(found)


def _phrases(words: Sequence[str]) -> Iterable[str]:
    """Runs of 1 to `PHRASE_WORDS` words; pieces of words without blanks. A number or a letter alone is no phrase."""
    for start, word in enumerate(words):
        for letters in _UNSPACED.findall(word):
            yield from _pieces(letters)
        for end in range(start + 1, min(start + PHRASE_WORDS, len(words)) + 1):
            own = words[start:end]
            if any(_UNSPACED.search(part) for part in own):
                break
            if len(own[0]) > 1 and not all(part.replace(".", "").isdigit() for part in own):
                yield " ".join(own)


def _pieces(letters: str) -> Iterable[str]:
    """Pieces of a run of letters without blanks."""
    for size in range(PIECE[0], PIECE[1] + 1):
        for start in range(len(letters) - size + 1):
            yield letters[start : start + size]


def _attribute_values(attributes: dict[str, Sequence[str] | None], tags: Sequence[str]) -> list[str]:
    """Values of all attributes but the brand, and the tags."""
    named = [value for kind in ATTRIBUTE_TYPES if kind != "brand" for value in attributes.get(kind) or ()]
    return [*named, *tags]


def _short(values: Iterable[str | None]) -> list[str]:
    """Values in lower case that a shopper would type, each once."""
    found = dict.fromkeys((value or "").strip().lower() for value in values)
    return [value for value in found if value and len(value.split()) <= VALUE_WORDS]


__all__ = ["PHRASE_WORDS", "TEMPLATES", "CatalogueQueries", "title_phrases"]
