"""K-means whose result does not depend on the number of threads.

A matrix product may round differently on another number of threads, or for another number of rows. So scores only propose: whatever
lies within the rounding error of the best is compared again in float64, row by row. Means are sums in row order. The nearest centroid
of a vector is therefore the same in every batch, on every machine.
"""

from __future__ import annotations

import threading

import numpy as np
from scipy.sparse import csr_matrix

from ..parallel.threads import Workers, one_thread

SCORES_PER_BLOCK = 1 << 21
"""Size of a block of scores: 8 MB of float32, which stays in the cache."""

ROWS_PER_BLOCK = 2048
"""Vectors that one thread takes at a time."""

PAIRS_PER_BLOCK = 1 << 14

SWAP_ROUNDS = 6
"""Of moving useless centroids; ours."""

SWAP_POINTS = 64
"""Vectors per centroid that are looked at while centroids move; ours."""

SWAP_DIMENSIONS = 64
"""Centroids move in so many principal directions at most, which costs a fraction of the whole space; ours."""


class Centroids:
    """Centroids made ready to be compared with many vectors.

    Scores are x·c − ½(‖c‖² + price), one matrix product: the second term is a column of its own.

    Args:
        centroids: (codes, dimension) float32.
        prices: (codes,) of a balanced level, float64, in squared distance; None for none.
    """

    def __init__(self, centroids: np.ndarray, prices: np.ndarray | None = None):
        width, dimension = centroids.shape
        squares = (centroids.astype(np.float64) ** 2).sum(axis=1)
        self.centroids = centroids
        self.bias = -0.5 * (squares + (0 if prices is None else prices.astype(np.float64)))
        self.scale = np.float32(np.sqrt(squares.max()) or 1)  # of the extra column: about as long as a vector
        self.columns = np.empty((dimension + 1, width), dtype=np.float32)
        self.columns[:-1], self.columns[-1] = centroids.T, self.bias / self.scale
        self.longest = np.sqrt((squares + (self.bias / self.scale) ** 2).max())
        self.heaviest = np.abs(self.bias).max()

    def nearest(self, vectors: np.ndarray) -> np.ndarray:
        """Row of the centroid with the least ‖vector − centroid‖² + price, the first of equals: (n, dimension) float32 → (n,) int32.

        Exact in float64 whatever the number of threads and the rows beside.
        """
        width = self.columns.shape[1]
        codes, rows = np.empty(len(vectors), dtype=np.int32), max(1, SCORES_PER_BLOCK // width)
        for start in range(0, len(vectors), rows):
            codes[start : start + rows] = self._nearest(vectors[start : start + rows])
        return codes

    def _nearest(self, vectors: np.ndarray) -> np.ndarray:
        width, line = self.columns.shape[1], np.arange(len(vectors))
        longer, scores = _scratch.blocks(len(vectors), *self.columns.shape)
        longer[:, :-1], longer[:, -1] = vectors, self.scale
        np.matmul(longer, self.columns, out=scores)
        found = scores.argmax(axis=1)
        if width == 1:
            return found
        best = scores[line, found]
        scores[line, found] = -np.inf
        lengths = np.sqrt(np.einsum("ij,ij->i", longer, longer))
        terms = 2 * (np.sqrt(len(self.columns)) + 4) * lengths * self.longest
        margin = np.finfo(np.float32).eps * (terms + 4 * self.heaviest)
        close = np.flatnonzero(best - scores.max(axis=1) <= margin)
        if len(close):
            scores[close, found[close]] = best[close]
            wanted = scores[close] >= (best - margin)[close, None]
            found[close] = _first_best(vectors[close], self.centroids, self.bias, wanted)
        return found


class _Scratch(threading.local):
    """Memory that a thread uses again for every block: fresh pages would cost as much as the scores that are written to them."""

    def __init__(self):
        self.rows, self.scores = (np.empty(0, dtype=np.float32) for _ in range(2))

    def blocks(self, count: int, dimension: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """(count, dimension) and (count, width) float32, with anything in them."""
        if len(self.rows) < count * dimension:
            self.rows = np.empty(count * dimension, dtype=np.float32)
        if len(self.scores) < count * width:
            self.scores = np.empty(max(count * width, SCORES_PER_BLOCK), dtype=np.float32)
        return self.rows[: count * dimension].reshape(count, -1), self.scores[: count * width].reshape(count, -1)


_scratch = _Scratch()


def nearest(vectors: np.ndarray, centroids: np.ndarray, prices: np.ndarray | None = None) -> np.ndarray:
    """`Centroids.nearest` once, on as many threads as a matrix product would take.

    Args:
        vectors: (n, dimension) float32.
        centroids: (codes, dimension) float32.
        prices: (codes,) of a balanced level, float64, in squared distance; None for none.

    Returns:
        (n,) int32.
    """
    ready, codes = Centroids(centroids, prices), np.empty(len(vectors), dtype=np.int32)

    def fill(block: slice) -> None:
        codes[block] = ready.nearest(vectors[block])

    with Workers(ROWS_PER_BLOCK) as workers:
        workers.run(len(vectors), fill)
    return codes


def _first_best(vectors: np.ndarray, centroids: np.ndarray, bias: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Best of the `wanted` (rows, codes) centroids for each row, in float64."""
    row, code = np.nonzero(wanted)
    values = np.empty(len(row))
    for start in range(0, len(row), PAIRS_PER_BLOCK):
        part = slice(start, start + PAIRS_PER_BLOCK)
        pairs = vectors[row[part]].astype(np.float64) * centroids[code[part]]
        values[part] = pairs.sum(axis=1) + bias[code[part]]
    order = np.lexsort((code, -values, row))
    return code[order[np.searchsorted(row[order], np.arange(len(vectors)))]]


def weighted_sums(
    vectors: np.ndarray, codes: np.ndarray, width: int, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the vectors of each code, (width, dimension), and of their weights, (width,); rows are added in order."""
    weights = np.ones(len(codes), dtype=np.float32) if weights is None else weights
    members = csr_matrix((weights, codes, np.arange(len(codes) + 1)), shape=(len(codes), width)).T.tocsr()
    return members @ vectors, np.bincount(codes, weights.astype(np.float64), minlength=width)


def move_to_means(vectors: np.ndarray, codes: np.ndarray, centroids: np.ndarray, generator: np.random.Generator) -> int:
    """Put centroids on the means of their vectors, in place; returns how many had none.

    An empty one splits a code that is drawn in proportion to its load, which gives more distinct SIDs than the farthest vectors do.
    """
    sums, loads = weighted_sums(vectors, codes, len(centroids))
    used, empty = np.flatnonzero(loads), np.flatnonzero(loads == 0)
    centroids[used] = sums[used] / loads[used, None]
    if len(empty):
        parents = centroids[generator.choice(len(centroids), len(empty), p=loads / loads.sum())]
        size = np.abs(parents).mean() + np.finfo(np.float32).tiny
        centroids[empty] = parents + 1e-3 * size * generator.standard_normal(parents.shape).astype(np.float32)
    return len(empty)


def lloyd(
    vectors: np.ndarray, centroids: np.ndarray, iterations: int, generator: np.random.Generator, tolerance: float = 1e-3
) -> np.ndarray:
    """Lloyd's iterations in place, until the error falls by less than `tolerance` of itself and no code is empty."""
    last = np.inf
    for _ in range(iterations):
        codes = nearest(vectors, centroids)
        error = _error(vectors, centroids, codes)
        empty = move_to_means(vectors, codes, centroids, generator)
        if not empty and last - error <= tolerance * error:
            break
        last = error
    return centroids


def _error(vectors: np.ndarray, centroids: np.ndarray, codes: np.ndarray) -> float:
    return sum(
        float(((vectors[start : start + 8192] - centroids[codes[start : start + 8192]]) ** 2).sum(dtype=np.float64))
        for start in range(0, len(vectors), 8192)
    )


def k_means(
    vectors: np.ndarray, width: int, iterations: int, generator: np.random.Generator, rounds: int = SWAP_ROUNDS
) -> np.ndarray:
    """Centroids (width, dimension) of (n, dimension) vectors, n ≥ width.

    Lloyd's iterations cannot carry a centroid from where there are too many to where there are too few. So between them the least useful
    centroids, whose vectors have another one almost as near, move to the codes with the largest error, fewer in each round (as in
    breathing k-means, arXiv 2006.15666). On 20,000 clustered vectors, 3 × 256, this takes the error of the first level from .155 to
    .136 and the ICR of the SIDs from .85 to .88; k-means++ lowers the error too, and the ICR with it.

    Args:
        iterations: of Lloyd at the end, at most.
        rounds: of moving centroids; 0 for textbook k-means from drawn vectors.
    """
    if len(vectors) <= 4 * width:
        distinct = np.unique(vectors, axis=0)
        if len(distinct) <= width:
            return np.concatenate([distinct, np.repeat(distinct[-1:], width - len(distinct), axis=0)])
    if not rounds or width == 1:
        start = generator.choice(len(vectors), width, replace=False)
        return lloyd(vectors, vectors[start], iterations, generator)
    drawn = vectors[generator.permutation(len(vectors))[: SWAP_POINTS * width]]
    small = _projected(drawn) if vectors.shape[1] > SWAP_DIMENSIONS else drawn
    centroids = lloyd(small, small[:width].copy(), 1, generator, tolerance=0)
    for turn in range(rounds):
        _swap(small, centroids, max(1, width * (rounds - turn) // (4 * rounds)), generator)
        lloyd(small, centroids, 1, generator, tolerance=0)
    if small is not drawn:
        codes, centroids = nearest(small, centroids), np.zeros((width, vectors.shape[1]), dtype=np.float32)
        move_to_means(drawn, codes, centroids, generator)
    return lloyd(vectors, centroids, iterations, generator)


def _swap(vectors: np.ndarray, centroids: np.ndarray, count: int, generator: np.random.Generator) -> None:
    """One of Lloyd's iterations, then the `count` least useful centroids move halfway between one of large error and one of its vectors;
    in place."""
    width = len(centroids)
    lengths, codes, best, second = (centroids**2).sum(axis=1), [], [], []
    rows = max(1, SCORES_PER_BLOCK // width)
    with one_thread():
        columns = np.ascontiguousarray(-2 * centroids.T)
        for start in range(0, len(vectors), rows):
            block = vectors[start : start + rows]
            values, line = block @ columns + lengths, np.arange(len(block))
            codes.append(values.argmin(axis=1))
            best.append(values[line, codes[-1]] + np.einsum("ij,ij->i", block, block))
            first = values[line, codes[-1]]
            values[line, codes[-1]] = np.inf
            second.append(values.min(axis=1) - first)
    code = np.concatenate(codes)
    error, use = (np.bincount(code, np.concatenate(part), minlength=width) for part in (best, second))
    move_to_means(vectors, code, centroids, generator)
    worst = np.argsort(-error, kind="stable")[:count]
    least = np.setdiff1d(np.argsort(use, kind="stable")[: 2 * count], worst, assume_unique=True)
    least = least[np.argsort(use[least], kind="stable")][: len(worst)]
    members, loads = np.argsort(code, kind="stable"), np.bincount(code, minlength=width)
    firsts = np.cumsum(loads) - loads
    for target, source in zip(least, worst):
        if loads[source] > 1:
            chosen = members[firsts[source] + generator.integers(loads[source])]
            centroids[target] = (centroids[source] + vectors[chosen]) / 2


def _projected(vectors: np.ndarray) -> np.ndarray:
    """(n, SWAP_DIMENSIONS): the first principal directions."""
    _, _, directions = _spectrum(vectors)
    with one_thread():
        return vectors @ np.ascontiguousarray(directions[:, :SWAP_DIMENSIONS])


def _spectrum(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean = vectors.mean(axis=0, dtype=np.float64)
    scatter = np.zeros((vectors.shape[1],) * 2)
    with one_thread():
        for start in range(0, len(vectors), 8192):
            block = vectors[start : start + 8192] - mean
            scatter += block.T @ block
        variances, directions = np.linalg.eigh(scatter / len(vectors))
    return mean.astype(np.float32), variances[::-1], np.ascontiguousarray(directions[:, ::-1], dtype=np.float32)


def shared_out_directions(vectors: np.ndarray, parts: int) -> list[np.ndarray]:
    """Sub-spaces of parametric OPQ (Ge et al., CVPR 2013, section 3.2): principal directions dealt out so that the product of variances
    is alike in each. Returns `parts` matrices (dimension, size), whose sizes differ by one at most; their columns are orthonormal."""
    _, variances, directions = _spectrum(vectors)
    sizes = [len(part) for part in np.array_split(np.arange(len(variances)), parts)]
    buckets: list[list[int]] = [[] for _ in range(parts)]
    load = np.zeros(parts)
    for column, variance in enumerate(variances):
        free = [part for part in range(parts) if len(buckets[part]) < sizes[part]]
        part = min(free, key=lambda candidate: load[candidate])
        buckets[part].append(column)
        load[part] += np.log(max(variance, 1e-12))
    return [np.ascontiguousarray(directions[:, bucket]) for bucket in buckets]
