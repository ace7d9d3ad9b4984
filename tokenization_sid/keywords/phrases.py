"""Parts of queries and of attribute values that may be keywords of their own."""

from __future__ import annotations

import re
from typing import NamedTuple

from .matching import is_unspaced, normalise

MAX_RUNS = 4
"""Upper bound of the words (or stretches of an unspaced script) of a phrase. Our choice."""


class _Run(NamedTuple):
    """A word of a spaced script, or a stretch of an unspaced one: text[start:end]."""

    start: int
    end: int


def bilingual_halves(text: str) -> tuple[str, ...]:
    """Both names of a bilingual value such as 苹果/apple or apple(苹果), and () for other values.

    One half must be in an unspaced script and the other in a spaced one. A half of one character is left out.
    """
    halves = [half.strip() for half in re.split(r"[/()|]", text) if half.strip()]
    if len(halves) != 2 or len({any(map(is_unspaced, half)) for half in halves}) == 1:
        return ()
    return tuple(half for half in halves if len(half) > 1)


def phrases_of(query: str) -> set[str]:
    """Phrases of a query: 1 to `MAX_RUNS` consecutive runs, of at least two characters.

    A run is a word of a spaced script or a stretch of an unspaced one, so that no word segmentation is guessed.
    """
    query = normalise(query)
    runs = _runs(query)
    phrases = set()
    for place, first in enumerate(runs):
        for last in runs[place : place + MAX_RUNS]:
            if last.end - first.start > 1:
                phrases.add(query[first.start : last.end])
    return phrases


def _runs(query: str) -> list[_Run]:
    """Runs of a normalised query: it is cut at spaces and at changes between spaced and unspaced scripts."""
    runs: list[_Run] = []
    for match in re.finditer(r"\S+", query):
        start = match.start()
        for place in range(match.start() + 1, match.end() + 1):
            if place == match.end() or is_unspaced(query[place]) != is_unspaced(query[place - 1]):
                runs.append(_Run(start, place))
                start = place
    return runs


__all__ = ["bilingual_halves", "phrases_of"]
