"""The list-wise loss that may stand beside the towers' binary cross-entropy."""

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
    wanted = labels.clamp(min=0)
    bought, clicked = wanted[..., 2], wanted[..., 0]
    target = torch.where(bought.sum(-1, keepdim=True) > 0, bought, clicked)
    total = target.sum(-1, keepdim=True)
    answered = total[:, 0] > 0
    if not answered.any():
        return logits.sum() * 0.0
    scores = logits.masked_fill(candidates < 0, torch.finfo(logits.dtype).min)
    share = target[answered] / total[answered]
    return -(torch.log_softmax(scores[answered], dim=-1) * share).sum(-1).mean()


__all__ = ["list_wise"]
