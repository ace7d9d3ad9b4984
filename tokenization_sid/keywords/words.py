"""Words of a text with their places, and spans of words as BIO labels.

B-color begins a span of the type color, I-color continues it, and O is a word in no span.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from onesearch.data.schema import ATTRIBUTE_TYPES

from .matching import is_unspaced

LABELS = ("O", *(f"{place}-{kind}" for kind in ATTRIBUTE_TYPES for place in ("B", "I")))
"""All labels; the label of number 0 is O."""

_NUMBERS = {label: number for number, label in enumerate(LABELS)}
_PIECES = re.compile(r"[^\W_]+|\S")


class Word(NamedTuple):
    """A word text[start:end].

    It is a run of letters and digits of a spaced script, one character of an unspaced script, or one other character.
    """

    start: int
    end: int


class TypedSpan(NamedTuple):
    """A span text[start:end] of the attribute type `kind`, with the probability that the recogniser gives it (1 for a known span)."""

    start: int
    end: int
    kind: str
    score: float = 1.0


def words_of(text: str) -> list[Word]:
    """Words of a normalised text, in order."""
    words: list[Word] = []
    for match in _PIECES.finditer(text):
        start = match.start()
        for place in range(start + 1, match.end() + 1):
            if place == match.end() or is_unspaced(text[place]) or is_unspaced(text[place - 1]):
                words.append(Word(start, place))
                start = place
    return words


def labels_of(words: Sequence[Word], spans: Iterable[TypedSpan]) -> list[int]:
    """Label number of each word.

    Args:
        words: words of the text.
        spans: spans that share no character. A word belongs to the span that it lies in.
    """
    labels = [0] * len(words)
    for span in spans:
        place = "B"
        for row, word in enumerate(words):
            if span.start <= word.start and word.end <= span.end:
                labels[row] = _NUMBERS[f"{place}-{span.kind}"]
                place = "I"
    return labels


def spans_of(words: Sequence[Word], labels: Sequence[int], scores: Sequence[float]) -> list[TypedSpan]:
    """Spans that labels describe. A continuation without a beginning of its type begins a span itself.

    Args:
        words: words of the text.
        labels: label number of each word.
        scores: probability of each label; the score of a span is the lowest of its words.
    """
    spans: list[TypedSpan] = []
    before = "O"
    for word, number, score in zip(words, labels, scores):
        label = LABELS[number]
        kind = label[2:]
        if label.startswith("I-") and before[2:] == kind:
            last = spans[-1]
            spans[-1] = TypedSpan(last.start, word.end, kind, min(last.score, score))
        elif kind:
            spans.append(TypedSpan(word.start, word.end, kind, score))
        before = label
    return spans


__all__ = ["LABELS", "TypedSpan", "Word", "labels_of", "spans_of", "words_of"]
