"""From codes back to vectors: codewords and lengths fitted to codes that are already chosen.

The centroids of the residual levels are where the codes are decided; they are not what reconstructs best once all codes of a vector are
known, and normalised residuals have lost their lengths. Both are made up for here by least squares, without moving a code:

    vector ≈ centre + s₀ (D₀[c₀] + s₁[c₀] (D₁[c₁] + s₂[c₁] (D₂[c₂] + … + P₁[·] + P₂[·])))

Ours; neither paper decodes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .k_means import weighted_sums

SWEEPS = 4
"""Over all codewords and lengths when fitting; the error moves by less than 0.5 % afterwards."""


ROWS = 65_536
"""At most so many vectors are fitted to."""


class AdditiveDecoder:
    """Weighted sum of codewords.

    Args:
        books: per SID position (codes, dimension); residual levels, then product codes.
        scales: per residual level the length of what comes with it and after it, by the code of the level before: (1,), then (codes,) of
            each level but the last; one more for the product codes. None: nothing was scaled, all are one.
        centre: (dimension,), added to everything; None for the origin.
    """

    def __init__(self, books: Sequence[np.ndarray], scales: Sequence[np.ndarray] | None, centre: np.ndarray | None = None):
        self.books, self.scales, self.centre = list(books), None if scales is None else list(scales), centre

    @classmethod
    def fit(
        cls,
        vectors: np.ndarray,
        codes: np.ndarray,
        books: Sequence[np.ndarray],
        lengths: Sequence[np.ndarray] | None,
        centre: np.ndarray | None = None,
    ) -> AdditiveDecoder:
        """Start from the centroids and the mean lengths, then improve one book or list of lengths at a time.

        Args:
            vectors: (n, dimension); codes: (n, positions) of them.
            books: centroids per position.
            lengths: (n,) of the residual before each level and before the product codes; None if residuals were left as they are.
        """
        scales = None
        if lengths is not None:
            keys = [np.zeros(len(codes), dtype=np.int32), *codes.T]
            codebook_sizes = [1, *(len(book) for book in books)]
            scales = [_means(length, key, width) for length, key, width in zip(lengths, keys, codebook_sizes)]
        stride = -(-len(codes) // ROWS)
        vectors, codes = vectors[::stride], codes[::stride]
        decoder = cls([book.copy() for book in books], scales, centre)
        for _ in range(SWEEPS):
            decoder._sweep(vectors, codes)
        return decoder

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """Vectors (n, dimension) float32 of codes (n, positions)."""
        weights = self._weights(codes)
        vectors = np.zeros((len(codes), self.books[0].shape[1]), dtype=np.float32)
        for position in range(len(self.books)):
            vectors += self._term(codes, weights, position)
        return vectors if self.centre is None else vectors + self.centre

    def _weights(self, codes: np.ndarray) -> list[np.ndarray | None]:
        """(n, 1) by which the codeword of each position is multiplied."""
        if self.scales is None:
            return [None] * len(self.books)
        weights = [np.broadcast_to(self.scales[0], len(codes))[:, None].astype(np.float32)]
        for level, scale in enumerate(self.scales[1:]):
            weights.append(weights[-1] * scale[codes[:, level], None])
        return weights + weights[-1:] * (len(self.books) - len(weights))

    def _term(self, codes: np.ndarray, weights: list[np.ndarray | None], position: int) -> np.ndarray:
        term = self.books[position][codes[:, position]]
        return term if weights[position] is None else term * weights[position]

    def _sweep(self, vectors: np.ndarray, codes: np.ndarray) -> None:
        weights = self._weights(codes)
        missing = vectors - self(codes)
        for position, book in enumerate(self.books):
            missing += self._term(codes, weights, position)
            if weights[position] is None:
                sums, loads = weighted_sums(missing, codes[:, position], len(book))
            else:
                factor = weights[position]
                sums, loads = weighted_sums(missing * factor, codes[:, position], len(book))
                loads = np.bincount(codes[:, position], (factor[:, 0] ** 2).astype(np.float64), minlength=len(book))
            used = loads > 0
            book[used] = (sums[used] / loads[used, None]).astype(np.float32)
            missing -= self._term(codes, weights, position)
        if self.scales is not None:
            self._fit_scales(codes, weights, missing)

    def _fit_scales(self, codes: np.ndarray, weights: list[np.ndarray], missing: np.ndarray) -> None:
        """Length of what comes with and after each level, by least squares, from the last to the first."""
        tail = np.zeros_like(missing)
        for position in reversed(range(1, len(self.books))):
            tail += self._term(codes, weights, position)
            if position >= len(self.scales):
                continue
            key, scale = codes[:, position - 1], self.scales[position]
            square = np.bincount(key, np.einsum("ij,ij->i", tail, tail).astype(np.float64), minlength=len(scale))
            along = np.bincount(key, np.einsum("ij,ij->i", tail, missing).astype(np.float64), minlength=len(scale))
            factor = 1 + np.divide(along, square, out=np.zeros_like(square), where=square > 0)
            factor = np.maximum(factor, 0.1).astype(np.float32)
            self.scales[position] = scale * factor
            missing -= tail * (factor[key] - 1)[:, None]
            tail *= factor[key, None]


def _means(values: np.ndarray, keys: np.ndarray, width: int) -> np.ndarray:
    """(width,) float32; keys that do not occur get the mean of all."""
    counts = np.bincount(keys, minlength=width)
    sums = np.bincount(keys, values.astype(np.float64), minlength=width)
    return np.where(counts, sums / np.maximum(counts, 1), values.mean(dtype=np.float64)).astype(np.float32)
