"""The five losses of OneSearch's alignment (arXiv 2509.03236, KHQE), as sentence-transformers losses.

    L = λ₁ L_q2q + λ₂ L_i2i + λ₃ L_q2i + λ₄ L_rank + λ₅ L_rel

The first three are `InBatchContrast`. The rank margin is sentence-transformers' `TripletLoss` with cosine distance, for
max(0, (1 − s(q, u)) − (1 − s(q, v)) + m) = max(0, m − s(q, u) + s(q, v)). The regression is its `CosineSimilarityLoss`, the squared
error. The paper publishes neither their forms nor their values; our choice is the usual ones.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.merged_forward import embed_columns
from sentence_transformers.sentence_transformer.losses import CosineSimilarityLoss, TripletDistanceMetric, TripletLoss
from sentence_transformers.util import cos_sim
from torch import Tensor, nn


class InBatchContrast(nn.Module):
    """InfoNCE in both directions. The negatives are the other rows of the batch, except those that are positives themselves.

        −½ log exp(s(x, x⁺)/τ) / Σ_{x'} exp(s(x, x')/τ)  −½ the same from x⁺ to x,  s the cosine

    It is `MultipleNegativesRankingLoss` with the directions ``query_to_doc`` and ``doc_to_query``, each with its own softmax, plus the
    mask. In a small catalogue a batch holds many pairs that the sessions show to be positive, and pushing them apart would unlearn them.

    Args:
        model: encoder.
        temperature: temperature τ. Lowering it stresses the hardest negatives.
        positives: (pairs, 2) rows. No pair of these is a negative, whichever of the two is the anchor.
        symmetric: the left and the right rows count in the same table, so that (a, b) also excludes (b, a), and a row is no negative
            of itself.
    """

    def __init__(self, model: SentenceTransformer, temperature: float, positives: np.ndarray, symmetric: bool) -> None:
        super().__init__()
        self.model, self.temperature, self.symmetric = model, temperature, symmetric
        pairs = torch.as_tensor(np.asarray(positives, dtype=np.int64).reshape(-1, 2))
        if symmetric:
            pairs = torch.cat([pairs, pairs.flip(1)])
        self.stride = int(pairs.max()) + 1 if len(pairs) else 1  # key of a pair: left · stride + right
        self.keys = nn.Buffer(torch.unique(pairs[:, 0] * self.stride + pairs[:, 1]), persistent=False)

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Embed both columns of a batch, then compute `compute_loss_from_embeddings`."""
        left, right = embed_columns(self.model, sentence_features)
        return self.compute_loss_from_embeddings([left, right], labels)

    def compute_loss_from_embeddings(self, embeddings: list[Tensor], labels: Tensor) -> Tensor:
        """Loss of one batch.

        Args:
            embeddings: left and right, (batch, dimension) each.
            labels: (batch, 2) rows of left and right in their tables.
        """
        left, right = embeddings
        scores = cos_sim(left, right) / self.temperature
        scores = scores.masked_fill(self.known_others(labels), -torch.inf)
        target = torch.arange(len(scores), device=scores.device)
        return (nn.functional.cross_entropy(scores, target) + nn.functional.cross_entropy(scores.T, target)) / 2

    def known_others(self, labels: Tensor) -> Tensor:
        """Mark the pairs of a batch that are positive (or one text) and not the pair of their own row.

        Args:
            labels: (batch, 2) rows of left and right in their tables.

        Returns:
            (batch, batch) bool, left rows by right rows.
        """
        left, right = labels[:, :1], labels[None, :, 1]
        known = self._positive(left, right)
        if self.symmetric:
            known = known | (left == right)
        return known & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)

    def _positive(self, left: Tensor, right: Tensor) -> Tensor:
        """Whether left (batch, 1) and right (1, batch) are one of the positive pairs, (batch, batch)."""
        keys = left * self.stride + right
        if not len(self.keys):
            return torch.zeros_like(keys, dtype=torch.bool)
        place = torch.searchsorted(self.keys, keys).clamp(max=len(self.keys) - 1)
        return (self.keys[place] == keys) & (right < self.stride)


class Weighted(nn.Module):
    """A loss times a weight, as `SentenceTransformerTrainer` takes it.

    Args:
        loss: loss of one kind of example.
        weight: factor λ.
    """

    def __init__(self, loss: nn.Module, weight: float) -> None:
        super().__init__()
        self.loss, self.weight = loss, weight

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Weighted loss of one batch."""
        return self.weight * self.loss(sentence_features, labels)


def rank_margin(model: SentenceTransformer, margin: float) -> nn.Module:
    """Mean of max(0, m − s(q, u) + s(q, v)) over triples of query q, stronger item u and weaker item v, with the margin m."""
    return TripletLoss(model, distance_metric=TripletDistanceMetric.COSINE, triplet_margin=margin)


def relevance_regression(model: SentenceTransformer) -> nn.Module:
    """Mean of (s(q, i) − label)² over judged pairs of query q and item i; the label is the grade as a share of the highest."""
    return CosineSimilarityLoss(model)


__all__ = ["InBatchContrast", "Weighted", "rank_margin", "relevance_regression"]
