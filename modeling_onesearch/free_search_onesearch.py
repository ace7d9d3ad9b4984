"""Beam search over the codes without a trie: it shows how much of the catalogue a model has learned by itself.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

import torch

from .generation_onesearch import StepFunction


def free_beams(step: StepFunction, levels: int, num_beams: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Most likely sequences of codes, one per level; nothing says which of them exist.

    Args:
        step: the model on some prompts, whose second result normalises the scores of a level.
        levels: number of levels.
        num_beams: sequences kept at each level.

    Returns:
        codes (queries, beams, levels) and scores (queries, beams), best first.
    """
    logits, norms = step(None, None, 0)  # (queries, codes)
    scores, codes = _log_probs(logits, norms).topk(min(num_beams, logits.shape[1]), dim=1)
    queries, beams = codes.shape
    rows = torch.arange(queries, device=codes.device)[:, None]
    found, parents = codes[..., None], rows.expand(-1, beams).flatten()
    for level in range(1, levels):
        logits, norms = step(codes, parents, level)  # (queries * beams, codes)
        size = logits.shape[1]
        extended = scores[..., None] + _log_probs(logits, norms).view(queries, beams, size)
        scores, places = extended.flatten(1).topk(min(num_beams, beams * size), dim=1)
        before, codes = places // size, places % size
        found = torch.cat([found[rows, before], codes[..., None]], dim=-1)
        parents = (rows * beams + before).flatten()
        beams = codes.shape[1]
    return found, scores


def _log_probs(logits: torch.Tensor, norms: torch.Tensor | None) -> torch.Tensor:
    return logits.log_softmax(-1) if norms is None else logits - norms[:, None]


__all__ = ["free_beams"]
