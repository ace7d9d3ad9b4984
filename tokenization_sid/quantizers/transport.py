"""End of a balanced assignment: moves of single vectors along shortest paths between codes.

An auction with price steps leaves a few vectors too many when the bound is tight. The transportation problem (each vector in one of its
candidate codes, at most `limit` vectors in a code, least total cost) is then solved exactly, by successive shortest paths:

1. The cheapest move from code a to code b costs moves[a, b] = min over vectors i in a of cost(i, b) − cost(i, a).
2. The reduced cost of a move is moves[a, b] + price[b] − price[a].
3. A shortest path of moves leads from any code above the limit to a code below it. One vector moves along each edge of the path, and the
   prices change by the distances.
4. Repeat step 3 until no code is above the limit.

Invariant: the code of every vector has the least cost + price of all its candidates, so that no reduced cost is negative and the total
cost is the least for the loads.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

MARGINS = 16
"""Number of margins that are tried between a vector's code and its next best; each is a quarter of the last."""

CHAIN = 200
"""Upper bound of the sweeps in which the prices for a margin follow from one another."""


class Candidates(NamedTuple):
    """Codes that each vector may have.

    Attributes:
        codes: (n, candidates) int32; the codes of a row differ.
        costs: (n, candidates) float64 squared distances, up to a constant per vector.
    """

    codes: np.ndarray
    costs: np.ndarray

    def values(self, prices: np.ndarray) -> np.ndarray:
        """Cost + price of every candidate, (n, candidates), for prices (codes,)."""
        return self.costs + prices[self.codes]


class Transport:
    """Assignment of vectors to codes, with prices that support it.

    Args:
        candidates: codes that the vectors may have.
        prices: (codes,). Every vector starts in the candidate with the least cost + price.

    Attributes:
        code: (n,) present code of each vector.
        own: (n,) cost of that code.
        loads: (codes,) number of vectors of each code.
        moves: (codes, codes) cost of the cheapest move between two codes; infinite if no vector of the first has the second as a
            candidate.
        prices: (codes,) under which the invariant of the module holds.
    """

    def __init__(self, candidates: Candidates, prices: np.ndarray) -> None:
        self.candidates = Candidates(candidates.codes, candidates.costs.astype(np.float64))
        self.prices = prices.astype(np.float64)
        line = np.arange(len(candidates.codes))
        first = self.candidates.values(self.prices).argmin(axis=1)
        self.code = candidates.codes[line, first].copy()
        self.own = self.candidates.costs[line, first].copy()
        self.loads = np.bincount(self.code, minlength=len(prices))
        self.moves = np.full((len(prices), len(prices)), np.inf)
        np.minimum.at(self.moves, (self.code[:, None], candidates.codes), self.candidates.costs - self.own[:, None])

    def excess(self, limit: int) -> int:
        """Number of vectors above `limit`, over all codes."""
        return int(np.maximum(self.loads - limit, 0).sum())

    def relieve(self, limit: int) -> bool:
        """Move one vector out of the codes above `limit` into a code below it, along the shortest path.

        Returns:
            False if no path of candidates leads from the ones to the other; nothing has changed then.
        """
        distance, before = self._shortest_paths(self.loads > limit)
        open_distance = np.where(self.loads < limit, distance, np.inf)
        target = int(open_distance.argmin())
        if not np.isfinite(open_distance[target]):
            return False
        self.prices -= np.minimum(distance, open_distance[target])  # keeps reduced costs at 0 or more, and at 0 along the path
        while before[target] >= 0:
            self._move(int(before[target]), target)
            target = int(before[target])
        return True

    def _shortest_paths(self, sources: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bellman–Ford over reduced costs, from all `sources` (codes,) bool at once.

        Returns:
            (codes,) distances, infinite where no path leads; and (codes,) the code before each on its path, -1 at the sources.
        """
        reduced = np.maximum(self.moves + self.prices - self.prices[:, None], 0)
        distance = np.where(sources, 0.0, np.inf)
        before = np.full(len(distance), -1)
        while True:
            through = distance[:, None] + reduced
            best = through.argmin(axis=0)
            shorter = through[best, np.arange(len(best))]
            better = shorter < distance
            if not better.any():
                return distance, before
            distance, before = np.where(better, shorter, distance), np.where(better, best, before)

    def _move(self, source: int, target: int) -> None:
        """Move the vector for which it costs least from `source` to `target`."""
        members = np.flatnonzero(self.code == source)
        codes, costs = self.candidates.codes[members], self.candidates.costs[members]
        extra = np.where(codes == target, costs - self.own[members, None], np.inf)
        row, place = np.unravel_index(extra.argmin(), extra.shape)
        chosen = members[row]
        self.code[chosen], self.own[chosen] = target, costs[row, place]
        self.loads[source] -= 1
        self.loads[target] += 1
        for code in (source, target):
            members = np.flatnonzero(self.code == code)
            self.moves[code] = np.inf
            extra = self.candidates.costs[members] - self.own[members, None]
            np.minimum.at(self.moves[code], self.candidates.codes[members], extra)

    def strict_prices(self) -> np.ndarray:
        """Prices under which every vector strictly prefers its code to all its other candidates.

        The margin of the preference is the first of a falling series for which there are such prices; if there are none for any, the
        present prices are returned, which leave ties.

        Returns:
            (codes,) float64.
        """
        margin = float(np.abs(self.moves[np.isfinite(self.moves)]).max(initial=0.0)) / 2
        for _ in range(MARGINS):
            margin /= 4
            prices = self._prices_with(margin)
            if prices is not None:
                return prices - prices.min()
        return self.prices

    def _prices_with(self, margin: float) -> np.ndarray | None:
        """Prices (codes,) with price[a] + margin ≤ price[b] + moves[a, b] for all a ≠ b; None if none are found.

        Every sweep lowers each price to what its inequalities allow. They contradict each other, and the sweeps do not end, if a cycle of
        moves costs less than its margins.
        """
        limits = self.moves - margin
        np.fill_diagonal(limits, 0)
        prices = self.prices - self.prices.min()
        for _ in range(min(len(limits) + 1, CHAIN)):
            lower = np.minimum(prices, (prices + limits).min(axis=1))
            if np.array_equal(lower, prices):
                return prices
            prices = lower
        return None


__all__ = ["Candidates", "Transport"]
