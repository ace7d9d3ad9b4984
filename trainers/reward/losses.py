"""Losses beside the towers' binary cross-entropy: over the candidates of a search, and over all items of a batch."""

from __future__ import annotations

import torch
from torch import Tensor


def list_wise(logits: Tensor, labels: Tensor, candidates: Tensor) -> Tensor:
    """Cross-entropy of the softmax over the candidates of each search against its most wanted ones, in equal shares.

    Args:
        logits: log-odds of click-and-purchase, ``(searches, candidates)``.
        labels: labels of the towers, ``(searches, candidates, 3)``; negative where a tower does not learn.
        candidates: item rows, -1 for padding, ``(searches, candidates)``.

    Returns:
        The mean over the searches that have a wanted candidate; 0 without any.
    """
    target = _most_wanted(labels)
    return _softmax_loss(logits.masked_fill(candidates < 0, torch.finfo(logits.dtype).min), target)


def match_loss(matches: Tensor, labels: Tensor, candidates: Tensor) -> Tensor:
    """Cross-entropy of the softmax over all items that a batch names against the most wanted candidates of each search, in equal shares.

    The items of the other searches are many and mostly of other kinds, so item embeddings learn more from them than from a few candidates.

    Args:
        matches: how well each item of the batch fits each search, ``(searches, items)``.
        labels: labels of the towers, ``(searches, candidates, 3)``; negative where a tower does not learn.
        candidates: rows of `matches`' items, -1 for padding, ``(searches, candidates)``.

    Returns:
        The mean over the searches that have a wanted candidate; 0 without any.
    """
    target = torch.zeros_like(matches).scatter_add_(1, candidates.clamp(min=0), _most_wanted(labels))
    return _softmax_loss(matches, target)


def _most_wanted(labels: Tensor) -> Tensor:
    """1 for the bought candidates of each search, or the clicked ones where nothing was bought, float ``(searches, candidates)``."""
    wanted = labels.clamp(min=0)
    bought, clicked = wanted[..., 2], wanted[..., 0]
    return torch.where(bought.sum(-1, keepdim=True) > 0, bought, clicked)


def _softmax_loss(scores: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of the softmax of scores against the shares of `target`, both ``(searches, entries)``."""
    total = target.sum(-1, keepdim=True)
    answered = total[:, 0] > 0
    if not answered.any():
        return scores.sum() * 0.0
    return -(torch.log_softmax(scores[answered], dim=-1) * target[answered] / total[answered]).sum(-1).mean()


__all__ = ["list_wise", "match_loss"]
