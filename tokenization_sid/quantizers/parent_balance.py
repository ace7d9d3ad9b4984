"""Balance inside parents: each code of the last residual level gets its share of the vectors of a parent (OneSearch, arXiv 2509.03236).

The paper balances the last residual level and reports an independent coding rate of 68 % after 43 %. A bound of the whole level's loads
does not have that effect: k-means spreads the level, while the vectors of one parent (the prefix before the last level) are alike and
crowd into a few codes. Therefore the bound holds inside each parent: at most ⌈n / codes⌉ of its n vectors share a code. The assignment
with the least total squared distance is found parent by parent, so that no more than the distances of one parent are in memory.

An assignment is saved as prices (`parents.py`): inside its parent, a vector takes the code with the least squared distance + price. The
code of a training vector is then a function of that vector, and encoding it again gives the same code. Identical vectors count once,
because they always share a code.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..parallel.threads import one_thread
from .balance import Blocks, capacity, enforce_capacity, even_prices
from .nearest import nearest
from .parents import ParentPrices

logger = logging.getLogger(__name__)

ROWS_HELD = 1 << 18
"""Number of residuals that are held while their parents are balanced; a parent with more is held alone."""

CELLS = 1 << 18
"""Largest matrix of costs (vectors × places) of an exact assignment: 2 MB, for 512 vectors. Larger parents are balanced by auction
(`enforce_capacity`), which holds 16 candidates per vector and takes less time. Our choice."""

MARGINS = 16
"""Number of margins that are tried between a vector's code and its next best; each is a quarter of the last."""

CHAIN = 200
"""Upper bound of the sweeps in which prices follow from one another."""


class CodePrices(NamedTuple):
    """Prices of the codes of one parent: (entries,) int32 codes, ascending, and their (entries,) float64 prices."""

    codes: np.ndarray
    prices: np.ndarray


def balance_parents(blocks: Blocks, parents: np.ndarray, centroids: np.ndarray, slack: float) -> ParentPrices:
    """Prices under which no code has more than ⌈n / codes⌉ of the n vectors of any parent.

    1. Pass over all vectors: count the vectors of each parent and code, where each takes its nearest centroid.
    2. A parent that keeps the bound has no prices.
    3. For each of the others, find the assignment of least total squared distance, and prices that give it.

    A warning says how many vectors are above the bound, which happens if vectors of a parent are alike up to rounding.

    Args:
        blocks: starts a pass over the vectors; the union of the blocks is (n, dimension).
        parents: (n,) int64 parent of each vector.
        centroids: (codes, dimension) centroids that all parents share.
        slack: tolerance of the bound in parents that are too large for an exact assignment (`CELLS`).
    """
    crowded = _crowded(blocks, parents, centroids)
    found: list[CodePrices] = []
    for group in _groups(crowded, parents):
        for vectors in _members(blocks, parents, group):
            found.append(prices_in_parent(vectors, centroids, slack))
    counts = np.array([len(entry.codes) for entry in found], dtype=np.int64)
    priced = counts > 0
    starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts[priced])])
    codes = np.concatenate([np.zeros(0, dtype=np.int32), *(entry.codes for entry in found)])
    prices = np.concatenate([np.zeros(0), *(entry.prices for entry in found)])
    return ParentPrices(crowded[priced], starts, codes, prices)


def _crowded(blocks: Blocks, parents: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Parents, ascending, in which a code is above the bound if every vector takes its nearest centroid."""
    size = len(centroids)
    codes = np.concatenate([nearest(block, centroids) for block in blocks()])
    names, parent, counts = np.unique(parents, return_inverse=True, return_counts=True)
    cells, loads = np.unique(parent * size + codes, return_counts=True)
    limits = -(-counts // size)
    full = loads > limits[cells // size]
    return np.asarray(names[np.unique(cells[full] // size)])


def _groups(crowded: np.ndarray, parents: np.ndarray) -> Iterator[np.ndarray]:
    """Cut the `crowded` parents into groups of at most `ROWS_HELD` vectors, or of one parent."""
    names, counts = np.unique(parents, return_counts=True)
    held = np.cumsum(counts[np.searchsorted(names, crowded)])
    start = 0
    while start < len(crowded):
        before = int(held[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(held, before + ROWS_HELD, side="right")))
        yield crowded[start:stop]
        start = stop


def _members(blocks: Blocks, parents: np.ndarray, group: np.ndarray) -> Iterator[np.ndarray]:
    """Vectors (n, dimension) of each parent of a `group`, in its order; one pass over all vectors."""
    wanted = np.isin(parents, group)
    parts, start = [], 0
    for block in blocks():
        parts.append(block[wanted[start : start + len(block)]])
        start += len(block)
    vectors, inside = np.concatenate(parts), parents[wanted]
    order = np.argsort(inside, kind="stable")
    for rows in np.split(order, np.searchsorted(inside[order], group[1:])):
        yield vectors[rows]


def prices_in_parent(vectors: np.ndarray, centroids: np.ndarray, slack: float) -> CodePrices:
    """Prices that keep the bound for the vectors of one parent.

    Args:
        vectors: (n, dimension) float32.
        centroids: (codes, dimension) float32.
        slack: tolerance of the bound, if the parent is too large for an exact assignment.

    Returns:
        Codes with a price other than 0; none if the nearest centroids keep the bound.
    """
    size = len(centroids)
    distinct = np.unique(vectors, axis=0)
    limit = capacity(len(distinct), size, 0)
    if len(distinct) * size * limit > CELLS:
        start, limit = even_prices(distinct, centroids, np.zeros(size)), capacity(len(distinct), size, slack)
        return _without_zeros(enforce_capacity(lambda: iter([distinct]), centroids, start, limit).prices)
    costs = _costs(distinct, centroids)
    if np.bincount(costs.argmin(axis=1), minlength=size).max() <= limit:
        return _without_zeros(np.zeros(size))
    prices = _supporting_prices(costs, assign(costs, limit))
    above = int(np.maximum(np.bincount((costs + prices).argmin(axis=1), minlength=size) - limit, 0).sum())
    if above:
        logger.warning(
            "%s of %s vectors of a parent are above the bound of %s per code: they are alike up to rounding",
            f"{above:,}", f"{len(vectors):,}", f"{limit:,}",
        )  # fmt: skip
    return _without_zeros(prices)


def _costs(vectors: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    """Squared distances (n, codes) float64, up to a constant per vector."""
    exact = centroids.astype(np.float64)
    with one_thread():
        return np.asarray(vectors.astype(np.float64) @ (-2 * exact.T) + (exact**2).sum(axis=1))


def assign(costs: np.ndarray, limit: int) -> np.ndarray:
    """Code (n,) of each vector, with the least total of `costs` (n, codes) and at most `limit` vectors in a code."""
    from scipy.optimize import linear_sum_assignment

    _, places = linear_sum_assignment(np.repeat(costs, limit, axis=1))
    return np.asarray(places // limit)


def _supporting_prices(costs: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Prices (codes,) under which every vector strictly prefers its code, 0 for codes without vectors.

    1. The cheapest move from code a to code b costs moves[a, b] = min over vectors i in a of cost(i, b) − cost(i, a).
    2. Prices with price[a] + margin ≤ price[b] + moves[a, b] make every vector prefer its code by the margin.
    3. They exist if no cycle of moves costs less than its margins. The first margin is half of what cycles of two codes allow, and it
       falls until there are such prices. After `MARGINS` margins without any, all prices are 0 and the vectors share codes.

    Args:
        costs: (n, codes).
        code: (n,) code of each vector, in an assignment of least total cost.
    """
    used, group = np.unique(code, return_inverse=True)
    order = np.argsort(group, kind="stable")
    extra = (costs - costs[np.arange(len(code)), code][:, None])[order]
    moves = np.minimum.reduceat(extra, np.searchsorted(group[order], np.arange(len(used))), axis=0)
    unused = np.ones(costs.shape[1], dtype=bool)
    unused[used] = False
    outside = moves[:, unused].min(axis=1, initial=np.inf)
    inside = moves[:, used]
    np.fill_diagonal(inside, np.inf)
    margin = float((inside + inside.T).min()) / 2
    margin = margin if 0 < margin < np.inf else 0.0
    found = None
    for _ in range(MARGINS):
        margin /= 4
        found = _highest_prices(inside - margin, outside - margin)
        if found is not None:
            break
    prices = np.zeros(costs.shape[1])
    if found is not None:
        prices[used] = found
    return prices


def _highest_prices(moves: np.ndarray, outside: np.ndarray) -> np.ndarray | None:
    """Highest prices (codes,) with price[a] ≤ price[b] + moves[a, b] and price[a] ≤ outside[a]; None if there are none.

    Every sweep lowers each price to what its inequalities allow. The sweeps end after at most as many as there are codes, unless the
    inequalities contradict each other. No more than `CHAIN` are made.
    """
    prices = np.where(np.isfinite(outside), outside, 0.0)
    for _ in range(min(len(prices) + 1, CHAIN)):
        lower = np.minimum(prices, (prices + moves).min(axis=1))
        if np.array_equal(lower, prices):
            return prices
        prices = lower
    return None


def _without_zeros(prices: np.ndarray) -> CodePrices:
    """The codes whose price is not 0."""
    codes = np.flatnonzero(prices)
    return CodePrices(codes.astype(np.int32), prices[codes])


__all__ = ["CELLS", "CodePrices", "assign", "balance_parents", "prices_in_parent"]
