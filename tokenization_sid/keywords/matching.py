"""Keywords in texts, found with one Aho–Corasick automaton.

The paper (OneSearch, arXiv 2509.03236, KHQE step B) names Aho–Corasick and no rule for boundaries and overlaps. Our choice, in this
order:

1. Text and keywords are compared as lower-cased NFKC with single spaces (`normalise`).
2. An occurrence counts if it is not cut out of a longer word. Words of spaced scripts end at spaces and punctuation; every character of
   an unspaced script (ideographs, kana, Thai, …) is a boundary itself.
3. An occurrence inside a longer kept one is dropped, as in the authors' code: "dress" inside "red dress".
4. Of two occurrences that share a character of an unspaced script, the longer is kept, and of equally long ones the earlier: 研究生 rather
   than 生命 in 研究生命. Occurrences in spaced scripts may share a word: "red dress shop" names "red dress" and "dress shop".
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import ahocorasick

_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")
"""First words of the Unicode names of characters whose scripts do not (or not only) separate words by spaces."""


class Span(NamedTuple):
    """Occurrence text[start:end] of the keyword in row `row`."""

    start: int
    end: int
    row: int


def normalise(text: str) -> str:
    """Lower-cased NFKC text with single spaces, the form in which keywords are compared."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


def is_unspaced(character: str) -> bool:
    """Whether a character belongs to a script that does not separate words by spaces alone."""
    return not character.isascii() and _is_unspaced(character)


class KeywordMatcher:
    """Finds keywords in texts.

    Args:
        texts: normalised keywords. Of equal ones the first is found.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)
        self._automaton = ahocorasick.Automaton()
        for row, text in enumerate(self.texts):
            if text not in self._automaton:
                self._automaton.add_word(text, (row, len(text)))
        self._automaton.make_automaton()

    def match(self, text: str) -> list[int]:
        """Rows of the keywords that `text` names, in the order of their first occurrence, each once."""
        if not self.texts:
            return []
        text = normalise(text)
        spans = self._spans(text)
        if len(spans) > 1:
            spans = _outermost(spans) if text.isascii() else _kept(text, spans)
        return list(dict.fromkeys(span.row for span in spans))

    def all_spans(self, text: str) -> list[Span]:
        """All occurrences in a normalised text at word boundaries, also inside longer ones and overlapping."""
        return self._spans(text) if self.texts else []

    def occurrences(self, text: str) -> list[int]:
        """Rows of all keywords that occur in `text` at word boundaries, also inside longer ones, ascending."""
        if not self.texts:
            return []
        return sorted({span.row for span in self._spans(normalise(text))})

    def _spans(self, text: str) -> list[Span]:
        """All occurrences at word boundaries (rule 2)."""
        spans = [Span(last + 1 - length, last + 1, row) for last, (row, length) in self._automaton.iter(text)]
        return [span for span in spans if _bounded(text, span)]


@lru_cache(maxsize=1 << 16)
def _is_unspaced(character: str) -> bool:
    return unicodedata.name(character, "").startswith(_UNSPACED)


def _outermost(spans: list[Span]) -> list[Span]:
    """Spans that lie in no other, in the order of their start: rules 3 and 4 in one sweep, for texts without unspaced scripts.

    Invariant: `covered` is the farthest end of the spans before. As spans are sorted by start, a span lies in one of them if and only if
    it ends there or before.
    """
    found, covered = [], -1
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if span.end > covered:
            found.append(span)
            covered = span.end
    return found


def _kept(text: str, spans: list[Span]) -> list[Span]:
    """Spans that rules 3 and 4 keep, in the order of their start: the longest first, each against all that are kept already."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start - span.end, span.start)):
        if not any(_excludes(text, other, span) for other in kept):
            kept.append(span)
    return sorted(kept)


def _excludes(text: str, kept: Span, span: Span) -> bool:
    """Whether `span` lies in the kept one, or shares a character of an unspaced script with it."""
    if kept.start <= span.start and span.end <= kept.end:
        return True
    shared = text[max(span.start, kept.start) : min(span.end, kept.end)]
    return any(map(is_unspaced, shared))


def _bounded(text: str, span: Span) -> bool:
    """Whether a span is not cut out of a longer word."""
    if span.start and _joins(text[span.start - 1], text[span.start]):
        return False
    return span.end == len(text) or not _joins(text[span.end - 1], text[span.end])


def _joins(before: str, after: str) -> bool:
    """Whether two neighbouring characters belong to one word."""
    if after.isascii() and before.isascii():
        return after.isalnum() and before.isalnum()
    if not after.isalnum():
        return unicodedata.combining(after) > 0 or unicodedata.category(after) == "Mc"  # a vowel sign belongs to its letter
    return before.isalnum() and not is_unspaced(before) and not is_unspaced(after)


__all__ = ["KeywordMatcher", "is_unspaced", "normalise"]
