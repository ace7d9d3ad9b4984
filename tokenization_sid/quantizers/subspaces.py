"""Principal directions of vectors, and the orthogonal sub-spaces of product codes (OPQ)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..parallel.threads import one_thread

ROWS_AT_ONCE = 8192
"""Number of vectors whose scatter matrix is added at a time."""


class Spectrum(NamedTuple):
    """Eigenvalues and eigenvectors of the covariance, the largest first.

    Attributes:
        variances: (dimension,) float64.
        directions: (dimension, dimension) float32; the columns are orthonormal.
    """

    variances: np.ndarray
    directions: np.ndarray


def spectrum(vectors: np.ndarray) -> Spectrum:
    """Principal directions of `vectors`, (n, dimension), and the variance along each."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    scatter = np.zeros((vectors.shape[1],) * 2)
    with one_thread():
        for start in range(0, len(vectors), ROWS_AT_ONCE):
            block = vectors[start : start + ROWS_AT_ONCE] - mean
            scatter += block.T @ block
        variances, directions = np.linalg.eigh(scatter / len(vectors))
    return Spectrum(variances[::-1], np.ascontiguousarray(directions[:, ::-1], dtype=np.float32))


def project(vectors: np.ndarray, dimension: int) -> np.ndarray:
    """Coordinates of `vectors` (n, size) in their first `dimension` principal directions: (n, dimension)."""
    directions = np.ascontiguousarray(spectrum(vectors).directions[:, :dimension])
    with one_thread():
        return vectors @ directions


def product_subspaces(vectors: np.ndarray, parts: int) -> list[np.ndarray]:
    """Sub-spaces of parametric OPQ, whose variances have equal products (Ge et al., CVPR 2013, section 3.2).

    1. Take the principal directions, the one with the largest variance first.
    2. Give each direction to the sub-space whose sum of log variances is least, among those with a free place.

    Invariant: every direction lies in one sub-space, so that the sub-spaces are orthogonal and span the whole space.

    Args:
        vectors: (n, dimension).
        parts: number of sub-spaces, at most the dimension.

    Returns:
        `parts` matrices (dimension, size) with orthonormal columns. Their sizes differ by at most 1.
    """
    variances, directions = spectrum(vectors)
    sizes = [len(part) for part in np.array_split(np.arange(len(variances)), parts)]
    columns: list[list[int]] = [[] for _ in range(parts)]
    log_variance = np.zeros(parts)
    for column, variance in enumerate(variances):
        free = [part for part in range(parts) if len(columns[part]) < sizes[part]]
        part = min(free, key=lambda candidate: log_variance[candidate])
        columns[part].append(column)
        log_variance[part] += np.log(max(variance, 1e-12))
    return [np.ascontiguousarray(directions[:, of_part]) for of_part in columns]


__all__ = ["Spectrum", "product_subspaces", "project", "spectrum"]
