"""Rollouts: a group of distinct Semantic IDs for each request, from the policy itself and on request from the log.

Every rollout is a SID of the catalogue, because the policy samples or searches under the trie. With sparse rewards most groups of few
rollouts hold nothing but failures and teach nothing; EG-GRPO (Tmall, 2605.14434) then puts the SIDs that the log asks for into the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..preference.likelihoods import PROMPT_COLUMNS

if TYPE_CHECKING:
    from onesearch.modeling_onesearch.search_onesearch import SearchMixin

ROLLOUTS = ("sample", "beam")
"""Ways to draw a group: `sample` without replacement (stochastic beam search), or the best SIDs of the `beam` search."""

Example = dict[str, Any]
"""One row of a dataset: columns by name."""


@dataclass(frozen=True, eq=False)
class Rollouts:
    """Groups of Semantic IDs, one per request.

    Args:
        codes: (requests, group, levels) codes, -1 throughout where the catalogue has fewer SIDs than the group has places.
        examples: the dataset's row of each request.
        is_expert: (requests, group) whether a SID was put there from the log.
        weights: (requests, group) probability of each SID over the probability that the sample holds it, with mean 1 over the group: the
            weighted mean over a group estimates the mean over the policy's distribution. 1 for experts, and throughout for beams.
    """

    codes: torch.Tensor
    examples: Sequence[Example]
    is_expert: torch.Tensor
    weights: torch.Tensor

    @property
    def is_sid(self) -> torch.Tensor:
        """Whether each place holds a SID, (requests, group)."""
        return self.codes[..., 0] >= 0


@torch.no_grad()
def draw_rollouts(
    model: SearchMixin,
    prompts: dict[str, torch.Tensor],
    examples: Sequence[Example],
    group: int,
    seeds: Sequence[int],
    how: str = "sample",
    temperature: float = 1.0,
    experts: torch.Tensor | None = None,
) -> Rollouts:
    """Draw a group of distinct SIDs for each request.

    Args:
        model: the policy, in evaluation mode.
        prompts: `input_ids` and `attention_mask` (requests, length), and optionally those of `PromptViews`.
        examples: the dataset's row of each request.
        group: number of SIDs for each request.
        seeds: one number per request; equal seeds give equal samples.
        how: one of `ROLLOUTS`.
        temperature: temperature of the samples. A higher one draws unlikely SIDs more often.
        experts: (requests, experts, levels) SIDs that each group must hold, -1 throughout where there are fewer. Those that were not
            drawn replace the SIDs that were drawn last.
    """
    inputs: dict[str, Any] = {name: prompts.get(name) for name in PROMPT_COLUMNS}
    if how == "sample":
        samples = model.sample_sids(**inputs, num_samples=group, seeds=seeds, temperature=temperature)
        codes, weights = samples.codes, (samples.scores - samples.log_inclusion).exp()
    else:
        codes = model.search_sids(**inputs, num_beams=group)[0]
        weights = torch.ones(codes.shape[:2], device=codes.device)
    missing = group - codes.shape[1]
    if missing > 0:
        codes = torch.cat([codes, codes.new_full((len(codes), missing, codes.shape[2]), -1)], dim=1)
        weights = nn.functional.pad(weights, (0, missing))
    is_expert = torch.zeros_like(weights, dtype=torch.bool)
    if experts is not None and experts.shape[1]:
        codes, is_expert = _with_experts(codes, experts.to(codes.device))
    is_sid = codes[..., 0] >= 0
    weights = torch.where(is_sid & ~is_expert & weights.isfinite(), weights, 0.0)
    drawn = (weights > 0).sum(1, keepdim=True)
    weights = weights * drawn / weights.sum(1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
    return Rollouts(codes, examples, is_expert, torch.where(is_expert, 1.0, weights))


def _with_experts(codes: torch.Tensor, experts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Put the experts that a group lacks into its last places, but not over an expert that was drawn.

    Returns:
        The codes, and (requests, group) where an expert was put.
    """
    codes, group = codes.clone(), codes.shape[1]
    placed = torch.zeros_like(codes[..., 0], dtype=torch.bool)
    taken = (codes[:, :, None] == experts[:, None]).all(-1)  # (requests, group, experts)
    taken &= experts[:, None, :, 0] >= 0
    held = taken.any(2)  # places that hold an expert already
    for number in range(experts.shape[1]):
        own = experts[:, number]
        is_new = (own[:, 0] >= 0) & ~taken[:, :, number].any(1)
        is_new &= ~(own[:, None] == experts[:, :number]).all(-1).any(1)  # the same SID twice in the log
        free = torch.where(held, -1, torch.arange(group, device=codes.device)).amax(1)  # last place without an expert
        rows = (is_new & (free >= 0)).nonzero()[:, 0]
        codes[rows, free[rows]] = own[rows]
        held[rows, free[rows]] = True
        placed[rows, free[rows]] = True
    return codes, placed


__all__ = ["ROLLOUTS", "Example", "Rollouts", "draw_rollouts"]
