"""Quantizers to compare RQ-OPQ with, trained without gradients: plain residual k-means, and projection residuals (PRQ-KMeans)."""

from __future__ import annotations

import numpy as np

from ..parallel.threads import one_thread
from .balance import balanced_k_means
from .configs import PRQConfig, RQKMeansConfig
from .k_means import k_means, weighted_sums
from .residual import ResidualQuantizer
from .residual_training import Level, Tensors

ROWS_AT_ONCE = 4096
"""Number of vectors whose cosines to all centroids are held at a time."""


class RQKMeans(ResidualQuantizer[RQKMeansConfig]):
    """Textbook residual k-means, as in the authors' script: sampled first centroids, 25 iterations, residuals as they are."""

    kind = "rq-k-means"
    config_class = RQKMeansConfig

    @classmethod
    def _train_level(cls, residual: np.ndarray, level: int, config: RQKMeansConfig, generator: np.random.Generator) -> Level:
        size = config.residual_sizes[level]
        if config.balanced != "none" and level == len(config.residual_sizes) - 1 and size > 1:
            return Level(*balanced_k_means(residual, size, config.iterations, generator))
        return Level(k_means(residual, size, config.iterations, generator, rounds=0), None)


class PRQ(ResidualQuantizer[PRQConfig]):
    """PRQ-KMeans: residuals are projections, so that no level spends codes on what all vectors share (arXiv 2608.24207).

    Encoding:

    1. Remove the mean direction m of the unit vectors: r₀ = norm(x − (x·m) m).
    2. At each level take the centroid c with the largest cosine to the residual.
    3. Remove its direction: rₗ₊₁ = norm(rₗ − (rₗ·c) c / ‖c‖²).

    Training starts every level from sampled residuals and refines the centroids `iterations` times: a centroid moves to the direction of
    the weighted sum of the vectors that have it among their `top_k` nearest, with weights e^{β cos}.

    Decoding: vector ≈ centre + weighted sum of codewords, as for all residual quantizers (`AdditiveDecoder`); the centre is the mean
    component of the training vectors along m. Invariant: rₗ₊₁ is orthogonal to the centroid of level l, and r₀ to m.

    Prefer it when the embeddings are anisotropic, that is when all vectors have a large common component.
    """

    kind = "prq-k-means"
    config_class = PRQConfig

    @classmethod
    def _prepare(cls, vectors: np.ndarray) -> Tensors:
        unit = _unit(vectors)
        mean = unit.mean(axis=0, dtype=np.float64)
        length = np.linalg.norm(mean)
        direction = (mean / length if length > 1e-6 else 0 * mean).astype(np.float32)
        along = np.einsum("ij,j->i", vectors, direction).mean(dtype=np.float64)
        return {"mean_direction": direction, "centre": (along * direction).astype(np.float32)}

    @classmethod
    def _start(cls, vectors: np.ndarray, tensors: Tensors) -> np.ndarray:
        direction = tensors["mean_direction"]
        return vectors - np.einsum("ij,j->i", vectors, direction)[:, None] * direction

    @classmethod
    def _train_level(cls, residual: np.ndarray, level: int, config: PRQConfig, generator: np.random.Generator) -> Level:
        size = config.residual_sizes[level]
        centroids = _unit(residual[generator.choice(len(residual), size, replace=False)])
        for _ in range(config.iterations):
            centroids = _refined(residual, centroids, min(config.top_k, size), config.beta)
        if config.balanced != "none" and level == len(config.residual_sizes) - 1 and size > 1:
            return Level(centroids, np.zeros(size))
        return Level(centroids, None)

    @classmethod
    def _left(cls, residual: np.ndarray, centroids: np.ndarray, codes: np.ndarray) -> np.ndarray:
        chosen = centroids[codes]
        square = np.maximum(np.einsum("ij,ij->i", chosen, chosen), np.finfo(np.float32).tiny)
        return residual - (np.einsum("ij,ij->i", residual, chosen) / square)[:, None] * chosen


def _refined(vectors: np.ndarray, centroids: np.ndarray, top_k: int, beta: float) -> np.ndarray:
    """Directions (codes, dimension) float32 of the weighted sums of unit vectors (n, dimension); unchanged where there are none.

    A vector counts in its `top_k` nearest of the `centroids` (codes, dimension), with weights e^{β (cos − 1)}.
    """
    sums, size = np.zeros(centroids.shape, dtype=np.float64), len(centroids)
    for start in range(0, len(vectors), ROWS_AT_ONCE):
        block = vectors[start : start + ROWS_AT_ONCE]
        with one_thread():
            cosines = block @ centroids.T
        near = np.argpartition(-cosines, top_k - 1, axis=1)[:, :top_k]
        weights = np.exp(beta * (np.take_along_axis(cosines, near, axis=1) - 1))
        for place in range(top_k):
            sums += weighted_sums(block, near[:, place], size, weights[:, place]).vectors
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(lengths > 0, sums / np.where(lengths > 0, lengths, 1), centroids).astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Rows (n, dimension) scaled to length 1; zeros stay zeros."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    return vectors / np.where(lengths > 0, lengths, 1)


__all__ = ["PRQ", "RQKMeans"]
