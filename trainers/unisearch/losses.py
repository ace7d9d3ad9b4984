"""Losses of UniSearch (arXiv 2509.06887, "Unified pre-training"): L = λ₁ L_contrast + λ₂ L_codebook + λ₃ L_NTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from onesearch.modeling_onesearch.sim_vq_unisearch import Quantised, distances


class Negatives(NamedTuple):
    """Hard negatives of one level, which have no gradient.

    Args:
        vectors: (batch, negatives, dim) vectors that the queries are compared with.
        is_there: (batch, negatives) False for a place without a negative.
    """

    vectors: torch.Tensor
    is_there: torch.Tensor


def similarities(queries: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """sim = 1 − ‖q − d‖² of every query (batch, dim) with every vector (items, dim), in float32: (batch, items)."""
    return 1 - distances(queries, vectors)


def info_nce(
    queries: torch.Tensor,
    vectors: torch.Tensor,
    positives: torch.Tensor,
    is_same: torch.Tensor,
    temperature: float,
    negatives: Negatives | None = None,
) -> torch.Tensor:
    """InfoNCE: negative log-probability of each query's own item among the items of the batch and its hard negatives.

    Args:
        queries: (batch, dim).
        vectors: (items, dim), those of all processes.
        positives: (batch,) place of each query's item in `vectors`.
        is_same: (batch, items) whether a place holds the query's item again, which is no negative.
        temperature: τ.
        negatives: hard negatives.

    Returns:
        (batch,).
    """
    logits = similarities(queries, vectors) / temperature
    own = torch.nn.functional.one_hot(positives, len(vectors)).bool()
    logits = logits.masked_fill(is_same & ~own, -torch.inf)
    if negatives is not None:
        queries, hard = queries.float(), negatives.vectors.float()
        products = (hard @ queries[..., None])[..., 0]  # (batch, negatives)
        found = (1 - queries.square().sum(-1, keepdim=True) + 2 * products - hard.square().sum(-1)) / temperature
        logits = torch.cat([logits, found.masked_fill(~negatives.is_there, -torch.inf)], 1)
    return logits.logsumexp(1) - logits.gather(1, positives[:, None])[:, 0]


def contrastive_loss(
    queries: torch.Tensor,
    sums: torch.Tensor,
    positives: torch.Tensor,
    is_same: torch.Tensor,
    temperature: float,
    negatives: Sequence[Negatives | None] = (),
) -> torch.Tensor:
    """L_contrast: the sum of `info_nce` over the levels, mean over the queries.

    Args:
        queries: (batch, dim).
        sums: (items, levels, dim); see `partial_sums`.
        positives: as in `info_nce`.
        is_same: as in `info_nce`.
        temperature: τ.
        negatives: hard negatives of each level; empty for none.
    """
    hard = list(negatives) or [None] * sums.shape[1]
    levels = [info_nce(queries, sums[:, n], positives, is_same, temperature, hard[n]) for n in range(sums.shape[1])]
    return torch.stack(levels).sum(0).mean()


def codebook_loss(quantised: Quantised, commitment: float) -> torch.Tensor:
    """L_codebook: Σₙ ‖sg[d⁽ⁿ⁾] − c‖² + β ‖d⁽ⁿ⁾ − sg[c]‖², mean over the items.

    Args:
        quantised: quantised vectors of the items.
        commitment: β.
    """
    return (quantised.codebook_loss + commitment * quantised.commitment_loss).sum(1).mean()


def token_loss(log_probs: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """L_NTP: −w log p of the target's codes, mean over the examples and codes.

    Args:
        log_probs: (batch, levels).
        weights: (batch,) quality of each example; their mean over the data is 1.
    """
    return -(weights[:, None] * log_probs).mean()


__all__ = ["Negatives", "codebook_loss", "contrastive_loss", "info_nce", "similarities", "token_loss"]
