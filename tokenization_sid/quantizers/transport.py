"""The end of a balanced assignment: shortest augmenting paths between codes.

An auction in steps leaves a few vectors too many when the bound is tight. Those are moved one at a time along the cheapest chain of
codes (a vector of a goes to b, one of b to c, …), which is exact for the transportation problem; then prices are chosen that keep every
vector where it is.
"""

from __future__ import annotations

import numpy as np

MARGINS = 16
"""Tried between a vector's code and its next best, each a quarter of the last."""

CHAIN = 200
"""Codes in the longest chain of prices that follow from one another."""


class Transport:
    """Vectors in codes, and what the cheapest move between two codes costs.

    Args:
        near: (n, candidates) codes that a vector may have, each once.
        costs: (n, candidates) squared distances up to a constant per vector.
        prices: (codes,) under which the vectors take their codes.
    """

    def __init__(self, near: np.ndarray, costs: np.ndarray, prices: np.ndarray):
        self.near, self.costs, self.prices = near, costs.astype(np.float64), prices.astype(np.float64)
        line = np.arange(len(near))
        first = (self.costs + self.prices[near]).argmin(axis=1)
        self.code, self.own = near[line, first].copy(), self.costs[line, first].copy()
        self.loads = np.bincount(self.code, minlength=len(prices))
        self.moves = np.full((len(prices), len(prices)), np.inf)
        np.minimum.at(self.moves, (self.code[:, None], near), self.costs - self.own[:, None])

    def excess(self, limit: int) -> int:
        """Vectors above the limit, over all codes."""
        return int(np.maximum(self.loads - limit, 0).sum())

    def relieve(self, limit: int) -> bool:
        """Move one vector out of the codes above `limit`, into one below it; False if no chain of candidates leads there."""
        reduced = np.maximum(self.moves + self.prices - self.prices[:, None], 0)
        distance = np.where(self.loads > limit, 0.0, np.inf)
        before = np.full(len(distance), -1)
        while True:
            through = distance[:, None] + reduced
            best = through.argmin(axis=0)
            shorter = through[best, np.arange(len(best))]
            better = shorter < distance
            if not better.any():
                break
            distance, before = np.where(better, shorter, distance), np.where(better, best, before)
        room = np.where(self.loads < limit, distance, np.inf)
        target = int(room.argmin())
        if not np.isfinite(room[target]):
            return False
        self.prices -= np.minimum(distance, room[target])
        while before[target] >= 0:
            self._move(int(before[target]), target)
            target = int(before[target])
        return True

    def _move(self, source: int, target: int) -> None:
        members = np.flatnonzero(self.code == source)
        extra = np.where(self.near[members] == target, self.costs[members] - self.own[members, None], np.inf)
        row, place = np.unravel_index(extra.argmin(), extra.shape)
        chosen = members[row]
        self.code[chosen], self.own[chosen] = target, self.costs[chosen, place]
        self.loads[source] -= 1
        self.loads[target] += 1
        for code in (source, target):
            members = np.flatnonzero(self.code == code)
            self.moves[code] = np.inf
            np.minimum.at(self.moves[code], self.near[members], self.costs[members] - self.own[members, None])

    def settled_prices(self) -> np.ndarray:
        """(codes,) prices under which every vector prefers its code to all its other candidates, by the first margin of a falling series
        that is possible."""
        margin = float(np.abs(self.moves[np.isfinite(self.moves)]).max(initial=0.0)) / 2
        for _ in range(MARGINS):
            margin /= 4
            prices = self._potentials(margin)
            if prices is not None:
                return prices - prices.min()
        return self.prices

    def _potentials(self, margin: float) -> np.ndarray | None:
        """Prices with price[a] + margin ≤ price[b] + move[a, b] for all a ≠ b; None if none are found (a cycle would gain)."""
        limits = self.moves - margin
        np.fill_diagonal(limits, 0)
        prices = self.prices - self.prices.min()
        for _ in range(min(len(limits) + 1, CHAIN)):
            lower = np.minimum(prices, (prices + limits).min(axis=1))
            if np.array_equal(lower, prices):
                return prices
            prices = lower
        return None
