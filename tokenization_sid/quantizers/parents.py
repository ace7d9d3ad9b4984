"""Parents of the last residual level, and the prices that its codes have inside them.

The parent of a vector is the prefix of its SID before the last residual level: the codes of levels 1 and 2, if there are three. Inside a
parent the codes of the last level may have prices, so that no code gets more than its share of the parent's vectors
(`parent_balance.py`). Only codes that a balanced parent uses have one; all other prices are 0, so that there are at most as many prices as
training vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Entries(NamedTuple):
    """Prices of some rows, ordered by row and code.

    Attributes:
        rows: (entries,) row that the price is for.
        codes: (entries,) code that has the price in the parent of the row.
        prices: (entries,) float64, in squared distance.
    """

    rows: np.ndarray
    codes: np.ndarray
    prices: np.ndarray

    def of(self, rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Price (pairs,) float64 of each pair of a row and a code; 0 if it has none."""
        if not len(self.rows):
            return np.zeros(len(rows))
        size = 1 + max(int(self.codes.max()), int(codes.max(initial=0)))
        keys, wanted = self.rows * size + self.codes, rows * size + codes
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[place] == wanted, self.prices[place], 0.0)


class ParentPrices(NamedTuple):
    """Prices of the codes of the last residual level, by parent.

    Attributes:
        parents: (parents with prices,) int64 number of each, ascending; see `parent_ids`.
        starts: (parents with prices + 1,) int64 first entry of each parent; the last value is the number of entries.
        codes: (entries,) int32; ascending inside a parent.
        prices: (entries,) float64 price of the code in the parent, in squared distance. It may be negative.
    """

    parents: np.ndarray
    starts: np.ndarray
    codes: np.ndarray
    prices: np.ndarray

    def tensors(self) -> dict[str, np.ndarray]:
        """Arrays as they are saved with the codebooks."""
        return {f"parent_{name}": value for name, value in self._asdict().items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray]) -> ParentPrices | None:
        """Prices among saved `tensors`; None if these codebooks are not balanced inside parents."""
        if "parent_parents" not in tensors:
            return None
        return cls(*(tensors[f"parent_{name}"] for name in cls._fields))

    def entries(self, parents: np.ndarray) -> Entries:
        """Prices of the codes for rows with the given `parents`, (rows,) int64."""
        place = np.searchsorted(self.parents, parents)
        inside = place < len(self.parents)
        rows = np.flatnonzero(inside)
        rows = rows[self.parents[place[rows]] == parents[rows]]
        first = self.starts[place[rows]]
        counts = self.starts[place[rows] + 1] - first
        before = np.cumsum(counts) - counts
        entry = np.arange(int(counts.sum())) + np.repeat(first - before, counts)
        return Entries(np.repeat(rows, counts), self.codes[entry], self.prices[entry])


class RowPrices(NamedTuple):
    """Prices by parent, and the parent (n,) int64 of each vector that is encoded."""

    prices: ParentPrices
    parents: np.ndarray

    def block(self, rows: slice) -> RowPrices:
        """The same for some of the vectors."""
        return RowPrices(self.prices, self.parents[rows])

    def entries(self) -> Entries:
        """Prices of all rows."""
        return self.prices.entries(self.parents)


def parent_ids(codes: np.ndarray, residual_sizes: Sequence[int]) -> np.ndarray:
    """Number the parents of SIDs: c₁ · k₂ + c₂ for three residual levels; 0 for a single one.

    Args:
        codes: (n, levels) codes; those from the last residual level on are not read.
        residual_sizes: codebook size of each residual level.

    Returns:
        (n,) int64.
    """
    found = np.zeros(len(codes), dtype=np.int64)
    for level, size in enumerate(residual_sizes[:-1]):
        found = found * size + codes[:, level]
    return found


__all__ = ["Entries", "ParentPrices", "RowPrices", "parent_ids"]
