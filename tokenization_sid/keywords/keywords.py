"""Core keywords: which attribute values a text names, and their fusion into its embedding (OneSearch, arXiv 2509.03236, KHQE step B).

Where the lists come from is in `keyword_mining.py`, the files that hold them in `keyword_files.py`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import ahocorasick
import numpy as np

from ..embedding.text_encoder import unit_rows

_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")
"""How Unicode names begin in scripts whose words are not (or not only) set apart by spaces."""


@dataclass(frozen=True)
class Keyword:
    """A value of one of the 18 attribute types, with its page views (see `mine_keywords`)."""

    text: str
    kind: str
    page_views: int


def normalise(text: str) -> str:
    """Lower-cased NFKC text with single spaces, as keywords are compared."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


class KeywordMatcher:
    """Finds keywords in texts with one Aho–Corasick automaton.

    * Spaced scripts: a match must not be cut out of a longer word. Ideographs and kana are boundaries themselves.
    * A match inside a longer kept match is dropped, as in the authors' code ("dress" inside "red dress").
    * Unspaced scripts: of two matches that share an ideograph only the longer is kept, of equally long ones the earlier (生命 beside
      研究生 in 研究生命). Matches in spaced scripts may share a word: "red dress" and "dress shop" in "red dress shop" are both named.

    The overlap rule is ours; the paper says Aho–Corasick and no more.
    """

    def __init__(self, keywords: Sequence[Keyword]):
        self.keywords = list(keywords)
        self._automaton = ahocorasick.Automaton()
        for row, keyword in enumerate(self.keywords):
            if keyword.text not in self._automaton:  # the same text under two types is one keyword, the first type's
                self._automaton.add_word(keyword.text, (row, len(keyword.text)))
        self._automaton.make_automaton()

    def match(self, text: str) -> list[int]:
        """Positions in `keywords` of the keywords that `text` names, in order of appearance, each once."""
        if not self.keywords:
            return []
        text = normalise(text)
        spans = self._spans(text)
        if len(spans) > 1:
            spans = _outermost(spans) if text.isascii() else _kept(text, spans)
        return list(dict.fromkeys(row for _, _, row in spans))

    def occurrences(self, text: str) -> list[int]:
        """Positions of all keywords that lie in `text` at word boundaries, those inside longer ones too, ascending."""
        return sorted({row for _, _, row in self._spans(normalise(text))}) if self.keywords else []

    def _spans(self, text: str) -> list[tuple[int, int, int]]:
        """(start, end, keyword) of all occurrences at word boundaries."""
        spans = [(end + 1 - length, end + 1, row) for end, (row, length) in self._automaton.iter(text)]
        return [span for span in spans if _bounded(text, span[0], span[1])]


@dataclass(frozen=True, eq=False)
class CoreKeywords:
    """The frozen keywords of a run with their vectors: what build, search and append fuse with.

    Args:
        keywords: lists of all types.
        embeddings: (keywords, dimension) unit vectors by the run's encoder.
    """

    keywords: list[Keyword]
    embeddings: np.ndarray

    @cached_property
    def matcher(self) -> KeywordMatcher:
        """Automaton over the lists, built at first use."""
        return KeywordMatcher(self.keywords)

    def match(self, texts: Sequence[str]) -> list[list[int]]:
        """Rows of the keywords that each text names."""
        return [self.matcher.match(text) for text in texts] if self.keywords else [[]] * len(texts)

    def fuse(self, texts: Sequence[str], vectors: np.ndarray) -> np.ndarray:
        """Unit vectors of `texts` with their keywords in: (texts, dimension) → (texts, dimension) float32."""
        return fuse(vectors, self.match(texts), self.embeddings)


def fuse(embeddings: np.ndarray, matches: Sequence[Sequence[int]], keyword_embeddings: np.ndarray) -> np.ndarray:
    """Half the text's vector, half the mean of its keywords' vectors: e° = ½(e + mean eₖ) (OneSearch, KHQE step B).

    Every row has unit length afterwards; the authors' code leaves rows without keywords as they were, and k-means then splits by norm.

    Args:
        embeddings: (texts, dimension), unit rows; matches: rows of `keyword_embeddings` per text.

    Returns:
        (texts, dimension) float32; a text without keywords keeps its direction.
    """
    from scipy.sparse import csr_matrix

    fused = np.array(embeddings, dtype=np.float32)
    counts = np.array([len(rows) for rows in matches], dtype=np.int64)
    if counts.sum():
        columns = np.fromiter((row for rows in matches for row in rows), dtype=np.int64, count=int(counts.sum()))
        shares = np.repeat(1 / np.maximum(counts, 1), counts).astype(np.float32)
        ends = np.concatenate([[0], np.cumsum(counts)])
        means = csr_matrix((shares, columns, ends), shape=(len(matches), len(keyword_embeddings))) @ keyword_embeddings
        named = counts > 0
        fused[named] = 0.5 * (fused[named] + means[named])
    return unit_rows(fused)


def is_unspaced(character: str) -> bool:
    """Whether a character belongs to a script that sets words apart by something else than spaces."""
    return not character.isascii() and _is_unspaced(character)


@lru_cache(maxsize=1 << 16)
def _is_unspaced(character: str) -> bool:
    return unicodedata.name(character, "").startswith(_UNSPACED)


def _outermost(spans: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Spans that lie in no other, in order of appearance: `_kept` where no script is unspaced, in one sweep."""
    found, covered = [], -1
    for span in sorted(spans, key=lambda span: (span[0], -span[1])):
        if span[1] > covered:
            found.append(span)
            covered = span[1]
    return found


def _kept(text: str, spans: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Longest first: a span goes where it lies in a kept one or shares an ideograph with one. In order of appearance."""
    kept: list[tuple[int, int, int]] = []
    for start, end, row in sorted(spans, key=lambda span: (span[0] - span[1], span[0])):
        for left, right, _ in kept:
            if left <= start and end <= right:
                break
            if start < right and left < end and any(map(is_unspaced, text[max(start, left) : min(end, right)])):
                break
        else:
            kept.append((start, end, row))
    return sorted(kept)


def _bounded(text: str, start: int, end: int) -> bool:
    """Whether text[start:end] is not cut out of a longer word."""
    if start and _joins(text[start - 1], text[start]):
        return False
    return end == len(text) or not _joins(text[end - 1], text[end])


def _joins(before: str, after: str) -> bool:
    """Whether two neighbouring characters belong to one word."""
    if after.isascii() and before.isascii():
        return after.isalnum() and before.isalnum()
    if not after.isalnum():
        return unicodedata.combining(after) > 0 or unicodedata.category(after) == "Mc"  # a vowel sign belongs to its letter
    return before.isalnum() and not is_unspaced(before) and not is_unspaced(after)
