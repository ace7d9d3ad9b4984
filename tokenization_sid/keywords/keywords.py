"""Core keywords of a run, and their fusion into embeddings (OneSearch, arXiv 2509.03236, KHQE step B).

`keyword_mining.py` makes the lists, `keyword_files.py` reads and writes them, and `matching.py` finds them in texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..embedding.text_encoder import unit_rows
from .matching import KeywordMatcher


@dataclass(frozen=True)
class Keyword:
    """A value of one of the 18 attribute types.

    Args:
        text: the normalised value.
        kind: attribute type.
        page_views: how often users met it; see `mine_keywords`.
    """

    text: str
    kind: str
    page_views: int


@dataclass(frozen=True, eq=False)
class CoreKeywords:
    """The frozen keywords of a run with their vectors; building SIDs, searching and appending fuse the same ones.

    Args:
        keywords: keywords of all types. A text that stands under two types is found as the first of them.
        embeddings: (keywords, dimension) unit vectors of the run's encoder.
    """

    keywords: list[Keyword]
    embeddings: np.ndarray

    @cached_property
    def matcher(self) -> KeywordMatcher:
        """Automaton over the keywords, built at first use."""
        return KeywordMatcher([keyword.text for keyword in self.keywords])

    def match(self, texts: Sequence[str]) -> list[list[int]]:
        """Rows of the keywords that each of `texts` names."""
        return [self.matcher.match(text) for text in texts] if self.keywords else [[]] * len(texts)

    def fuse(self, texts: Sequence[str], vectors: np.ndarray) -> np.ndarray:
        """Unit vectors of `texts` with their keywords fused in: (texts, dimension) → (texts, dimension) float32."""
        return fuse(vectors, self.match(texts), self.embeddings)


def fuse(embeddings: np.ndarray, matches: Sequence[Sequence[int]], keyword_embeddings: np.ndarray) -> np.ndarray:
    """Average each text's vector with the mean of its keywords' vectors: e° = ½(e + mean eₖ) (OneSearch, KHQE step B).

    Every row is then scaled to unit length. The authors' code leaves rows without keywords at their length, and k-means then separates
    rows by length.

    Args:
        embeddings: (texts, dimension) unit vectors.
        matches: per text the rows of its keywords.
        keyword_embeddings: (keywords, dimension) unit vectors.

    Returns:
        (texts, dimension) float32. A text without keywords keeps its direction.
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


__all__ = ["CoreKeywords", "Keyword", "fuse"]
