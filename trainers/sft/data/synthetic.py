"""Queries made of an item's own words and facets, for a catalogue with few or no real queries. Our addition; the papers have none."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from onesearch.data.market import Market
from onesearch.data.schema import ATTRIBUTE_TYPES

UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Thai, Japanese and Chinese letters, whose words have no blanks between them."""

_RUN = re.compile(f"[{UNSPACED}]+|[^{UNSPACED}]+")
_GAP = re.compile(f"(?<=[{UNSPACED}]) (?=[{UNSPACED}])")

PIECE = (2, 4)
"""Shortest and longest piece that stands for a word where there are no blanks; our choice."""

MOST_FACETS = 3
"""Largest number of facets of one query; our choice."""


def sampled_words(text: str, most: int, random: np.random.Generator) -> str:
    """Between 1 and `most` words of a text, sampled without replacement and kept in order.

    In scripts without blanks, pieces of 2 to 4 letters take the place of words, and no blank stands between two of them.
    """
    words = split_words(text, random)
    count = min(len(words), int(random.integers(1, most + 1)))
    places = np.sort(random.choice(len(words), count, replace=False)) if words else ()
    return _GAP.sub("", " ".join(words[place] for place in places))


def split_words(text: str, random: np.random.Generator) -> list[str]:
    """Words of a text; a run of letters without blanks is cut into pieces of random length."""
    words: list[str] = []
    for word in text.split():
        for run in _RUN.findall(word):
            words += _pieces(run, random) if _is_unspaced(run) else [run]
    return words


def facets_of(market: Market) -> list[list[str]]:
    """The facets of each item that a shopper might search for: leaf category, brand, attributes and tags; each value once."""
    column = market.items.data.column
    names = ("categories", "brand", "attributes", "tags")
    found = []
    for path, brand, attributes, tags in zip(*(column(name).to_pylist() for name in names)):
        values = [*(path or ())[-1:], brand or ""]
        for kind in ATTRIBUTE_TYPES:
            values += (attributes or {}).get(kind) or []
        found.append(list(dict.fromkeys(value.strip() for value in [*values, *(tags or ())] if value and value.strip())))
    return found


def facet_query(facets: Sequence[str], random: np.random.Generator) -> str:
    """Between 1 and `MOST_FACETS` facets of an item in random order; "" for an item without any."""
    if not facets:
        return ""
    count = min(len(facets), int(random.integers(1, MOST_FACETS + 1)))
    chosen = random.choice(len(facets), count, replace=False)
    return _GAP.sub("", " ".join(facets[place] for place in chosen))


def _is_unspaced(run: str) -> bool:
    return _RUN.fullmatch(run) is not None and re.match(f"[{UNSPACED}]", run) is not None


def _pieces(run: str, random: np.random.Generator) -> list[str]:
    """A run of letters in pieces of random length; the last may be shorter."""
    pieces, start = [], 0
    while start < len(run):
        end = start + int(random.integers(PIECE[0], PIECE[1] + 1))
        pieces.append(run[start:end])
        start = end
    return pieces


__all__ = ["facet_query", "facets_of", "sampled_words", "split_words"]
