"""From codes back to vectors: codewords and scales that are fitted to codes which are already chosen.

The centroids of the residual levels decide the codes. Once all codes of a vector are known, they are not the codewords that reconstruct
best, and normalised residuals have lost their lengths. The decoder fits both by least squares, without changing a code:

    vector ≈ centre + s₀ (D₀[c₀] + s₁[c₀] (D₁[c₁] + s₂[c₁] (D₂[c₂] + … + P₁[·] + P₂[·])))

c₀, c₁, … are the codes of the residual levels, D the codewords of the residual levels, P those of the product codes, and s the scale of
all that stands in the brackets after it. This decoder is our choice; neither paper decodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .k_means import weighted_sums

SWEEPS = 4
"""Number of sweeps over all codewords and scales; the error falls by less than 0.5 % afterwards."""

ROWS = 65_536
"""Upper bound of the vectors that the decoder is fitted to."""


class AdditiveDecoder:
    """Weighted sum of codewords.

    Args:
        books: per level of the SID its codewords (codes, dimension): residual levels, then product codes.
        scales: the scale before each residual level and, if there are product codes, before them, by the code of the level before: (1,)
            for the first level, then (codes of the level before,). None stands for scales of 1.
        centre: (dimension,), added to every vector; None adds nothing.
    """

    def __init__(
        self, books: Sequence[np.ndarray], scales: Sequence[np.ndarray] | None, centre: np.ndarray | None = None
    ) -> None:
        self.books = list(books)
        self.scales = None if scales is None else list(scales)
        self.centre = centre

    @classmethod
    def fit(
        cls,
        vectors: np.ndarray,
        codes: np.ndarray,
        books: Sequence[np.ndarray],
        lengths: Sequence[np.ndarray] | None,
        centre: np.ndarray | None = None,
    ) -> AdditiveDecoder:
        """Fit codewords and scales to codes.

        1. Start from the centroids as codewords, and from the mean length of the residual as scale.
        2. In each of `SWEEPS` sweeps, solve for the codewords of one level after the other, then for the scales from the last level to
           the first, each by least squares with all others fixed.

        Args:
            vectors: (n, dimension).
            codes: (n, levels) codes of the vectors.
            books: per level of the SID its centroids (codes, dimension).
            lengths: lengths (n,) of the residual before each residual level and, if there are product codes, before them; None if
                residuals were not normalised.
            centre: (dimension,) that was subtracted from every vector; None if there is none.
        """
        scales = None
        if lengths is not None:
            keys = [np.zeros(len(codes), dtype=np.int32), *codes.T]
            sizes = [1, *(len(book) for book in books)]
            scales = [_means(length, key, size) for length, key, size in zip(lengths, keys, sizes)]
        stride = -(-len(codes) // ROWS)
        vectors, codes = vectors[::stride], codes[::stride]
        decoder = cls([book.copy() for book in books], scales, centre)
        for _ in range(SWEEPS):
            decoder._sweep(vectors, codes)
        return decoder

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """Vectors (n, dimension) float32 of codes (n, levels)."""
        weights = self._weights(codes)
        vectors = np.zeros((len(codes), self.books[0].shape[1]), dtype=np.float32)
        for level in range(len(self.books)):
            vectors += self._term(codes, weights, level)
        return vectors if self.centre is None else vectors + self.centre

    def _weights(self, codes: np.ndarray) -> list[np.ndarray] | None:
        """Per level the product of all scales before its codeword, (n, 1); None if nothing is scaled."""
        if self.scales is None:
            return None
        weights = [np.broadcast_to(self.scales[0], len(codes))[:, None].astype(np.float32)]
        for level, scale in enumerate(self.scales[1:]):
            weights.append(weights[-1] * scale[codes[:, level], None])
        return weights + weights[-1:] * (len(self.books) - len(weights))

    def _term(self, codes: np.ndarray, weights: list[np.ndarray] | None, level: int) -> np.ndarray:
        """Weighted codewords (n, dimension) of one level."""
        term = self.books[level][codes[:, level]]
        return term if weights is None else term * weights[level]

    def _sweep(self, vectors: np.ndarray, codes: np.ndarray) -> None:
        """Solve for the codewords of every level, then for the scales; in place.

        Invariant: `missing` is the vectors minus all terms with the present codewords.
        """
        weights = self._weights(codes)
        missing = vectors - self(codes)
        for level, book in enumerate(self.books):
            missing += self._term(codes, weights, level)
            if weights is None:
                sums, squares = weighted_sums(missing, codes[:, level], len(book))
            else:
                sums, _ = weighted_sums(missing * weights[level], codes[:, level], len(book))
                squares = np.bincount(codes[:, level], (weights[level][:, 0] ** 2).astype(np.float64), minlength=len(book))
            used = squares > 0
            book[used] = (sums[used] / squares[used, None]).astype(np.float32)
            missing -= self._term(codes, weights, level)
        if weights is not None and self.scales is not None:
            self.scales = self._fitted_scales(codes, weights, self.scales, missing)

    def _fitted_scales(
        self, codes: np.ndarray, weights: list[np.ndarray], scales: list[np.ndarray], missing: np.ndarray
    ) -> list[np.ndarray]:
        """Scales by least squares, from the last level to the second; the first stays, as the codewords of level 0 absorb it.

        Args:
            codes: (n, levels).
            weights: per level (n, 1).
            scales: present scales.
            missing: (n, dimension) vectors minus all terms; overwritten.
        """
        scales = list(scales)
        tail = np.zeros_like(missing)  # sum of the terms from this level on
        for level in reversed(range(1, len(self.books))):
            tail += self._term(codes, weights, level)
            if level >= len(scales):
                continue
            key, scale = codes[:, level - 1], scales[level]
            square = np.bincount(key, np.einsum("ij,ij->i", tail, tail).astype(np.float64), minlength=len(scale))
            along = np.bincount(key, np.einsum("ij,ij->i", tail, missing).astype(np.float64), minlength=len(scale))
            ratio = 1 + np.divide(along, square, out=np.zeros_like(square), where=square > 0)
            factor = np.maximum(ratio, 0.1).astype(np.float32)
            scales[level] = scale * factor
            missing -= tail * (factor[key] - 1)[:, None]
            tail *= factor[key, None]
        return scales


def _means(values: np.ndarray, keys: np.ndarray, size: int) -> np.ndarray:
    """Mean of `values` (n,) for each of the `keys` (n,) below `size`: (size,) float32. Keys that do not occur get the mean of all."""
    counts = np.bincount(keys, minlength=size)
    sums = np.bincount(keys, values.astype(np.float64), minlength=size)
    return np.where(counts, sums / np.maximum(counts, 1), values.mean(dtype=np.float64)).astype(np.float32)


__all__ = ["AdditiveDecoder"]
