"""Core keywords of a run, and their fusion into embeddings (OneSearch, arXiv 2509.03236, KHQE step B).

`keyword_mining.py` makes the lists, `keyword_files.py` reads and writes them, and `matching.py` finds them in texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

from ..embedding.text_encoder import unit_rows
from .catalogue_values import column_texts
from .matching import KeywordMatcher, normalise
from .price_bands import PriceBands


@dataclass(frozen=True)
class Keyword:
    """A value of one of the 18 attribute types.

    Args:
        text: the normalised value.
        kind: attribute type.
        page_views: how often users met it; see `mine_keywords`.
        asked: ask rate: how often a query that leads to a click on an item with the keyword names it; see `mine_keywords`.
    """

    text: str
    kind: str
    page_views: int
    asked: float = field(default=0.0, compare=False)


@dataclass(frozen=True, eq=False)
class CoreKeywords:
    """The frozen keywords of a run with their vectors; building SIDs, searching and appending fuse the same ones.

    Args:
        keywords: keywords of all types. A text that stands under two types is found as the first of them.
        embeddings: (keywords, dimension) unit vectors of the run's encoder.
        core: upper bound of the keywords of one text, those with the highest ask rates; None keeps all.
        bands: price bands of the catalogue, which give items a keyword that their text may lack.
        fused: fuse the keywords into vectors; False leaves vectors as they are, and the keywords are still found in texts.
    """

    keywords: list[Keyword]
    embeddings: np.ndarray
    core: int | None = None
    bands: PriceBands = field(default_factory=PriceBands)
    fused: bool = True

    @cached_property
    def matcher(self) -> KeywordMatcher:
        """Automaton over the keywords, built at first use."""
        return KeywordMatcher([keyword.text for keyword in self.keywords])

    def match(self, texts: Sequence[str], further: Sequence[Sequence[str]] | None = None) -> list[list[int]]:
        """Rows of the core keywords of texts.

        Args:
            texts: texts of queries or items.
            further: normalised values of each text's item, as `column_texts` gives them. One that is a keyword and does not stand in the
                text is a keyword of the text as well.
        """
        if not self.keywords:
            return [[]] * len(texts)
        found = [self.matcher.match(text) for text in texts]
        if further is not None:
            found = [self._with_further(*parts) for parts in zip(found, texts, further)]
        return [self._core_of(rows) for rows in found]

    def further_texts(self, items: pa.Table) -> list[list[str]]:
        """Values that the columns of an items table give beside its text, for `match`."""
        return column_texts(items, self.bands) if self.keywords else [[]] * len(items)

    def fuse(self, texts: Sequence[str], vectors: np.ndarray, further: Sequence[Sequence[str]] | None = None) -> np.ndarray:
        """Unit vectors of `texts` with their keywords fused in: (texts, dimension) → (texts, dimension) float32.

        Args:
            texts: as in `match`.
            vectors: (texts, dimension) unit vectors.
            further: as in `match`.
        """
        return self.fuse_matched(vectors, self.match(texts, further))

    def fuse_matched(self, vectors: np.ndarray, matches: Sequence[Sequence[int]]) -> np.ndarray:
        """Unit vectors (texts, dimension) float32 with the keywords in the rows `matches` fused in, as `match` gives them."""
        return fuse(vectors, matches if self.fused else [[]] * len(matches), self.embeddings)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        """Row of each text, the first of equal ones."""
        rows: dict[str, int] = {}
        for row, keyword in enumerate(self.keywords):
            rows.setdefault(keyword.text, row)
        return rows

    def _with_further(self, rows: list[int], text: str, values: Sequence[str]) -> list[int]:
        """`rows` and those of the keywords among `values` that `text` does not hold."""
        absent = [value for value in values if value in self._row_of]
        if absent:
            plain = normalise(text)
            absent = [value for value in absent if value not in plain]
        return list(dict.fromkeys([*rows, *(self._row_of[value] for value in absent)]))

    def _core_of(self, rows: list[int]) -> list[int]:
        """The `core` rows with the highest ask rates, in the order in which they were given."""
        if self.core is None or len(rows) <= self.core:
            return rows
        kept = set(sorted(rows, key=lambda row: -self.keywords[row].asked)[: self.core])
        return [row for row in rows if row in kept]


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
