"""K-means whose result does not depend on the number of threads.

Codes are exact (see `nearest.py`), and means are sums in the order of the rows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix

from ..parallel.threads import one_thread
from .nearest import SCORES_PER_BLOCK, nearest
from .subspaces import project

SWAP_ROUNDS = 6
"""Number of rounds in which useless centroids move. Our choice."""

SWAP_POINTS = 64
"""Number of vectors per centroid that are compared while centroids move. Our choice."""

SWAP_DIMENSIONS = 64
"""Upper bound of the principal directions in which centroids move; comparing whole vectors costs more. Our choice."""


class Sums(NamedTuple):
    """Sums over the vectors of each code: of the vectors, (codes, dimension), and of their weights, (codes,) float64."""

    vectors: np.ndarray
    weights: np.ndarray


def weighted_sums(vectors: np.ndarray, codes: np.ndarray, size: int, weights: np.ndarray | None = None) -> Sums:
    """Add the vectors of each code, in the order of the rows.

    Args:
        vectors: (n, dimension).
        codes: (n,) of the vectors.
        size: codebook size.
        weights: (n,) float32 factors of the vectors; None stands for 1.
    """
    weights = np.ones(len(codes), dtype=np.float32) if weights is None else weights
    members = csr_matrix((weights, codes, np.arange(len(codes) + 1)), shape=(len(codes), size)).T.tocsr()
    return Sums(members @ vectors, np.bincount(codes, weights.astype(np.float64), minlength=size))


def move_to_means(vectors: np.ndarray, codes: np.ndarray, centroids: np.ndarray, generator: np.random.Generator) -> int:
    """Move each centroid to the mean of its vectors, in place.

    A centroid without vectors moves beside another one, which is sampled with a probability in proportion to its load. This gives more
    distinct SIDs than moving it to the farthest vectors.

    Args:
        vectors: (n, dimension).
        codes: (n,) of the vectors.
        centroids: (codes, dimension), overwritten.
        generator: samples the new places of centroids without vectors.

    Returns:
        Number of centroids that had no vectors.
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
    """Lloyd's iterations: assign vectors to their nearest centroids, move centroids to their means; in place.

    Args:
        vectors: (n, dimension).
        centroids: (codes, dimension), overwritten.
        iterations: upper bound of the iterations.
        generator: samples the new places of centroids without vectors.
        tolerance: stop once an iteration lowers the error by less than this share of it and every centroid has vectors.

    Returns:
        `centroids`.
    """
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
    """Sum of the squared distances of vectors (n, dimension) to the centroids of their codes (n,)."""
    error = 0.0
    for start in range(0, len(vectors), 8192):
        part = slice(start, start + 8192)
        error += float(((vectors[part] - centroids[codes[part]]) ** 2).sum(dtype=np.float64))
    return error


def k_means(
    vectors: np.ndarray, size: int, iterations: int, generator: np.random.Generator, rounds: int = SWAP_ROUNDS
) -> np.ndarray:
    """Centroids of `vectors`, from sampled vectors, with moves of useless centroids between the iterations.

    Lloyd's iterations cannot carry a centroid from a region with too many to a region with too few. Therefore

    1. sample `SWAP_POINTS` vectors per centroid and project them to `SWAP_DIMENSIONS` principal directions;
    2. start from the first of them and make one of Lloyd's iterations;
    3. in each of `rounds` rounds, move the least useful centroids to the codes with the largest error (see `_swap`), and make one of
       Lloyd's iterations. The number of moved centroids falls from a quarter of all towards 0, as in breathing k-means
       (arXiv 2006.15666);
    4. return to the whole space and to all vectors, and make at most `iterations` of Lloyd's iterations.

    On 20,000 clustered vectors with 3 levels of 256 codes, the rounds lower the error of the first level from 0.155 to 0.136 and raise
    the ICR of the SIDs from 0.85 to 0.88. k-means++ lowers the error too, but also the ICR.

    Args:
        vectors: (n, dimension) float32, n ≥ `size`.
        size: codebook size.
        iterations: upper bound of the iterations of step 4.
        generator: samples vectors and moves.
        rounds: number of rounds of step 3; 0 makes textbook k-means from sampled vectors.

    Returns:
        (size, dimension) float32. If there are no more than `size` distinct vectors, they are the centroids, and the last one is
        repeated.
    """
    if len(vectors) <= 4 * size:
        distinct = np.unique(vectors, axis=0)
        if len(distinct) <= size:
            return np.concatenate([distinct, np.repeat(distinct[-1:], size - len(distinct), axis=0)])
    if not rounds or size == 1:
        start = generator.choice(len(vectors), size, replace=False)
        return lloyd(vectors, vectors[start], iterations, generator)
    drawn = vectors[generator.permutation(len(vectors))[: SWAP_POINTS * size]]
    small = project(drawn, SWAP_DIMENSIONS) if vectors.shape[1] > SWAP_DIMENSIONS else drawn
    centroids = lloyd(small, small[:size].copy(), 1, generator, tolerance=0)
    for turn in range(rounds):
        _swap(small, centroids, max(1, size * (rounds - turn) // (4 * rounds)), generator)
        lloyd(small, centroids, 1, generator, tolerance=0)
    if small is not drawn:
        codes, centroids = nearest(small, centroids), np.zeros((size, vectors.shape[1]), dtype=np.float32)
        move_to_means(drawn, codes, centroids, generator)
    return lloyd(vectors, centroids, iterations, generator)


def _swap(vectors: np.ndarray, centroids: np.ndarray, count: int, generator: np.random.Generator) -> None:
    """Make one of Lloyd's iterations, then move at most `count` useless centroids to codes with a large error; in place.

    1. The error of a code is the sum of the squared distances of its vectors. The use of a centroid is the rise of the error if it is
       removed, when its vectors go to their second nearest.
    2. Move all centroids to their means.
    3. The targets are the `count` codes with the largest error. The useless centroids are those with the least use that are no target.
    4. Each useless centroid moves halfway between a target and one of the target's vectors, which is sampled.

    Args:
        vectors: (n, dimension).
        centroids: (codes, dimension), overwritten.
        count: upper bound of the moved centroids.
        generator: samples the vectors of step 4.
    """
    size = len(centroids)
    code, first, second = _two_nearest(vectors, centroids)
    error = np.bincount(code, first, minlength=size)
    use = np.bincount(code, second, minlength=size)
    move_to_means(vectors, code, centroids, generator)
    targets = np.argsort(-error, kind="stable")[:count]
    useless = np.setdiff1d(np.argsort(use, kind="stable")[: 2 * count], targets, assume_unique=True)
    useless = useless[np.argsort(use[useless], kind="stable")][: len(targets)]
    members, loads = np.argsort(code, kind="stable"), np.bincount(code, minlength=size)
    first_member = np.cumsum(loads) - loads
    for moved, target in zip(useless, targets):
        if loads[target] > 1:
            chosen = members[first_member[target] + generator.integers(loads[target])]
            centroids[moved] = (centroids[target] + vectors[chosen]) / 2


class _TwoNearest(NamedTuple):
    """Nearest centroid of each vector, (n,), its squared distance, and by how much the second nearest is farther."""

    code: np.ndarray
    distance: np.ndarray
    further: np.ndarray


def _two_nearest(vectors: np.ndarray, centroids: np.ndarray) -> _TwoNearest:
    """Two nearest of `centroids` (codes, dimension) for each of `vectors` (n, dimension), as exact as float32 is."""
    lengths = (centroids**2).sum(axis=1)
    rows = max(1, SCORES_PER_BLOCK // len(centroids))
    codes, distances, further = [], [], []
    with one_thread():
        columns = np.ascontiguousarray(-2 * centroids.T)
        for start in range(0, len(vectors), rows):
            block = vectors[start : start + rows]
            values, line = block @ columns + lengths, np.arange(len(block))
            code = values.argmin(axis=1)
            first = values[line, code]
            values[line, code] = np.inf
            codes.append(code)
            distances.append(first + np.einsum("ij,ij->i", block, block))
            further.append(values.min(axis=1) - first)
    return _TwoNearest(np.concatenate(codes), np.concatenate(distances), np.concatenate(further))


__all__ = ["SWAP_ROUNDS", "Sums", "k_means", "lloyd", "move_to_means", "weighted_sums"]
