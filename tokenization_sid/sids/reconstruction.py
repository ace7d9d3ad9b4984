"""Reconstruction error of codes, over one set of vectors or over several together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

ROWS_AT_ONCE = 65_536
"""Number of vectors that are decoded at a time."""


@dataclass(frozen=True)
class Reconstruction:
    """Sums that give the error of a set of vectors; the sums of two sets add up (`+`).

    Args:
        count: number of vectors.
        error: Σ‖x − x̂‖² over the vectors x and their reconstructions x̂.
        total: (dimension,) Σx.
        squares: Σ‖x‖².
    """

    count: int
    error: float
    total: np.ndarray
    squares: float

    @classmethod
    def of(cls, vectors: np.ndarray, codes: np.ndarray, decode: Callable[[np.ndarray], np.ndarray]) -> Reconstruction:
        """Compute the sums of one set.

        Args:
            vectors: (n, dimension).
            codes: (n, levels) of the vectors.
            decode: codes (rows, levels) → vectors (rows, dimension).
        """
        error, squares, total = 0.0, 0.0, np.zeros(vectors.shape[1])
        for start in range(0, len(vectors), ROWS_AT_ONCE):
            part = slice(start, start + ROWS_AT_ONCE)
            exact = vectors[part].astype(np.float64)
            error += float(((exact - decode(codes[part])) ** 2).sum())
            squares += float((exact**2).sum())
            total += exact.sum(axis=0)
        return cls(len(vectors), error, total, squares)

    def __add__(self, other: Reconstruction) -> Reconstruction:
        return Reconstruction(
            self.count + other.count, self.error + other.error, self.total + other.total, self.squares + other.squares
        )

    def measures(self) -> dict[str, float | None]:
        """``mse``: mean of ‖x − x̂‖². ``unexplained_variance``: its share of the mean of ‖x − x̄‖², None if all vectors are equal."""
        mse = self.error / self.count
        variance = self.squares / self.count - float(((self.total / self.count) ** 2).sum())
        return {"mse": mse, "unexplained_variance": mse / variance if variance > 1e-9 else None}


__all__ = ["Reconstruction"]
