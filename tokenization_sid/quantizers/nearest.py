"""Exact nearest centroids; the result does not depend on batches, threads or machines.

A float32 matrix product may round differently for another number of threads or rows, so that its scores alone do not decide. For each
vector:

1. compute the scores of all centroids with one matrix product in float32;
2. keep the best centroid, and every other one whose score lies within the rounding error of the best;
3. compare these few again in float64, pair by pair. Equal values go to the centroid with the smallest row.

Most vectors have one candidate after step 2 and skip step 3.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np

from ..parallel.threads import Workers
from .parents import Entries, RowPrices

SCORES_PER_BLOCK = 1 << 21
"""Number of scores that are computed at a time: 8 MB of float32, which stays in the cache."""

ROWS_PER_BLOCK = 2048
"""Number of vectors that one thread takes at a time."""

PAIRS_PER_BLOCK = 1 << 14
"""Number of vector–centroid pairs that are compared in float64 at a time."""


class Centroids:
    """Centroids, prepared for comparison with many vectors.

    The score of a centroid c with price p for a vector x is x·c − ½(‖c‖² + p), which is largest where ‖x − c‖² + p is least. The second
    term is a further column of the matrix product.

    Args:
        centroids: (codes, dimension) float32.
        prices: (codes,) float64 prices of a balanced level, in squared distance; None stands for prices of 0.
    """

    def __init__(self, centroids: np.ndarray, prices: np.ndarray | None = None) -> None:
        codes, dimension = centroids.shape
        squares = (centroids.astype(np.float64) ** 2).sum(axis=1)
        self.centroids = centroids
        self.bias = -0.5 * (squares + (0 if prices is None else prices.astype(np.float64)))
        self.scale = np.float32(
            np.sqrt(squares.max()) or 1
        )  # of the further column: about as large as the other entries of a vector
        self.columns = np.empty((dimension + 1, codes), dtype=np.float32)
        self.columns[:-1], self.columns[-1] = centroids.T, self.bias / self.scale
        self.longest = np.sqrt((squares + (self.bias / self.scale) ** 2).max())
        self.heaviest = np.abs(self.bias).max()

    def nearest(self, vectors: np.ndarray, row_prices: RowPrices | None = None) -> np.ndarray:
        """Row of the centroid with the least ‖vector − centroid‖² + price; the smallest row if several are equal.

        Args:
            vectors: (n, dimension) float32.
            row_prices: prices of the codes inside the parent of each vector, added to those of the level; None adds nothing.

        Returns:
            (n,) int32.
        """
        codes = np.empty(len(vectors), dtype=np.int32)
        rows = max(1, SCORES_PER_BLOCK // self.columns.shape[1])
        for start in range(0, len(vectors), rows):
            part = slice(start, start + rows)
            entries = None if row_prices is None else row_prices.block(part).entries()
            codes[part] = self._nearest(vectors[part], entries)
        return codes

    def _nearest(self, vectors: np.ndarray, entries: Entries | None) -> np.ndarray:
        line = np.arange(len(vectors))
        longer, scores = _scratch.blocks(len(vectors), *self.columns.shape)
        longer[:, :-1], longer[:, -1] = vectors, self.scale
        np.matmul(longer, self.columns, out=scores)
        margin = self._rounding_error(longer)
        if entries is not None and len(entries.rows):
            halves = 0.5 * entries.prices
            scores[entries.rows, entries.codes] -= halves.astype(np.float32)
            margin = margin + 4 * np.finfo(np.float32).eps * np.abs(halves).max()
        found = scores.argmax(axis=1)
        if scores.shape[1] == 1:
            return found
        best = scores[line, found]
        scores[line, found] = -np.inf
        close = np.flatnonzero(best - scores.max(axis=1) <= margin)
        if len(close):
            scores[close, found[close]] = best[close]
            candidates = scores[close] >= (best - margin)[close, None]
            found[close] = self._best_in_float64(vectors, close, candidates, entries)
        return found

    def _rounding_error(self, longer: np.ndarray) -> np.ndarray:
        """Bound (n,) of the error of the difference of two scores, for vectors (n, dimension + 1) with the further column."""
        lengths = np.sqrt(np.einsum("ij,ij->i", longer, longer))
        terms = 2 * (np.sqrt(len(self.columns)) + 4) * lengths * self.longest
        return np.finfo(np.float32).eps * (terms + 4 * self.heaviest)

    def _best_in_float64(
        self, vectors: np.ndarray, close: np.ndarray, candidates: np.ndarray, entries: Entries | None
    ) -> np.ndarray:
        """Compare the candidates of some vectors again.

        Args:
            vectors: (n, dimension).
            close: (rows,) row of each vector that has several candidates.
            candidates: (rows, codes) bool.
            entries: prices of the codes for the vectors.

        Returns:
            (rows,) the best candidate of each.
        """
        row, code = np.nonzero(candidates)
        values = np.empty(len(row))
        for start in range(0, len(row), PAIRS_PER_BLOCK):
            part = slice(start, start + PAIRS_PER_BLOCK)
            pairs = vectors[close[row[part]]].astype(np.float64) * self.centroids[code[part]]
            values[part] = pairs.sum(axis=1) + self.bias[code[part]]
        if entries is not None:
            values -= 0.5 * entries.of(close[row], code)
        order = np.lexsort((code, -values, row))
        first = np.searchsorted(row[order], np.arange(len(close)))
        return np.asarray(code[order[first]])


class _Blocks(NamedTuple):
    """Uninitialised memory: rows (count, dimension) and scores (count, codes), float32."""

    rows: np.ndarray
    scores: np.ndarray


class _Scratch(threading.local):
    """Memory that a thread uses again for every block: allocating pages anew costs as much as computing the scores."""

    def __init__(self) -> None:
        self.rows = np.empty(0, dtype=np.float32)
        self.scores = np.empty(0, dtype=np.float32)

    def blocks(self, count: int, dimension: int, codes: int) -> _Blocks:
        """Memory for `count` vectors; it is valid until the next call in this thread."""
        if len(self.rows) < count * dimension:
            self.rows = np.empty(count * dimension, dtype=np.float32)
        if len(self.scores) < count * codes:
            self.scores = np.empty(max(count * codes, SCORES_PER_BLOCK), dtype=np.float32)
        rows = self.rows[: count * dimension].reshape(count, -1)
        return _Blocks(rows, self.scores[: count * codes].reshape(count, -1))


_scratch = _Scratch()


def nearest(
    vectors: np.ndarray, centroids: np.ndarray, prices: np.ndarray | None = None, row_prices: RowPrices | None = None
) -> np.ndarray:
    """Compute `Centroids.nearest` once, on as many threads as a matrix product would use.

    Args:
        vectors: (n, dimension) float32.
        centroids: (codes, dimension) float32.
        prices: (codes,) float64 prices of a balanced level, in squared distance; None stands for prices of 0.
        row_prices: prices of the codes inside the parent of each vector, added to those of the level; None adds nothing.

    Returns:
        (n,) int32 codes.
    """
    ready, codes = Centroids(centroids, prices), np.empty(len(vectors), dtype=np.int32)

    def fill(block: slice) -> None:
        codes[block] = ready.nearest(vectors[block], None if row_prices is None else row_prices.block(block))

    with Workers(ROWS_PER_BLOCK) as workers:
        workers.run(len(vectors), fill)
    return codes


__all__ = ["ROWS_PER_BLOCK", "SCORES_PER_BLOCK", "Centroids", "nearest"]
