"""Tokenizers to compare RQ-OPQ with, trained without gradients: plain residual k-means, and projection residuals (PRQ-KMeans)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..parallel.threads import one_thread
from .balance import balanced_k_means
from .configs import PRQConfig, RQKMeansConfig
from .k_means import k_means, weighted_sums
from .rq_opq import RQOPQ


class RQKMeans(RQOPQ):
    """Plain residual k-means."""

    kind = "rq-k-means"
    config_class = RQKMeansConfig

    @classmethod
    def _train_level(
        cls, residual: np.ndarray, level: int, config: Any, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        width = config.residual_sizes[level]
        if config.balanced and level == len(config.residual_sizes) - 1 and width > 1:
            return balanced_k_means(residual, width, config.iterations, generator)
        return k_means(residual, width, config.iterations, generator, rounds=0), None


class PRQ(RQOPQ):
    """PRQ-KMeans (arXiv 2608.24207): what all vectors share is projected out first, and every level projects its centroid out.

    r₀ = norm(x − (x·m) m) with m the direction of the mean of the unit vectors; rₗ₊₁ = norm(rₗ − (rₗ·c) c / ‖c‖²). Centroids are unit
    vectors, drawn and then refined by the `top_k` nearest of each vector with weights e^{β cos}; codes go to the largest cosine. The paper
    removes shared parts so that no level spends codes on them. Prefer it when embeddings are anisotropic.
    """

    kind = "prq-k-means"
    config_class = PRQConfig

    @classmethod
    def _prepare(cls, vectors: np.ndarray) -> dict[str, np.ndarray]:
        unit = _unit(vectors)
        mean = unit.mean(axis=0, dtype=np.float64)
        length = np.linalg.norm(mean)
        direction = (mean / length if length > 1e-6 else 0 * mean).astype(np.float32)
        along = np.einsum("ij,j->i", vectors, direction).mean(dtype=np.float64)
        return {"mean_direction": direction, "centre": (along * direction).astype(np.float32)}

    @classmethod
    def _start(cls, vectors: np.ndarray, tensors: dict[str, np.ndarray]) -> np.ndarray:
        direction = tensors["mean_direction"]
        return vectors - np.einsum("ij,j->i", vectors, direction)[:, None] * direction

    @classmethod
    def _train_level(
        cls, residual: np.ndarray, level: int, config: Any, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        width = config.residual_sizes[level]
        centroids = _unit(residual[generator.choice(len(residual), width, replace=False)])
        for _ in range(config.iterations):
            centroids = _refined(residual, centroids, min(config.top_k, width), config.beta)
        if config.balanced and level == len(config.residual_sizes) - 1 and width > 1:
            return centroids, np.zeros(width)
        return centroids, None

    @classmethod
    def _left(cls, residual: np.ndarray, centroids: np.ndarray, codes: np.ndarray) -> np.ndarray:
        chosen = centroids[codes]
        square = np.maximum(np.einsum("ij,ij->i", chosen, chosen), np.finfo(np.float32).tiny)
        return residual - (np.einsum("ij,ij->i", residual, chosen) / square)[:, None] * chosen


def _refined(vectors: np.ndarray, centroids: np.ndarray, top_k: int, beta: float) -> np.ndarray:
    sums, width = np.zeros(centroids.shape, dtype=np.float64), len(centroids)
    for start in range(0, len(vectors), 4096):
        block = vectors[start : start + 4096]
        with one_thread():
            cosines = block @ centroids.T
        near = np.argpartition(-cosines, top_k - 1, axis=1)[:, :top_k]
        weights = np.exp(beta * (np.take_along_axis(cosines, near, axis=1) - 1))
        for place in range(top_k):
            sums += weighted_sums(block, near[:, place], width, weights[:, place])[0]
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return np.where(lengths > 0, sums / np.where(lengths > 0, lengths, 1), centroids).astype(np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    return vectors / np.where(lengths > 0, lengths, 1)
