"""Rollouts: a group of distinct Semantic IDs for each request, from the policy itself and on request from the log.

Every rollout is a SID of the catalogue, because the policy samples or searches under the trie. With sparse rewards most groups of few
rollouts hold nothing but failures and teach nothing; EG-GRPO (Tmall, 2605.14434) then puts the SIDs that the log asks for into the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

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
    """

    codes: torch.Tensor
    examples: Sequence[Example]
    is_expert: torch.Tensor

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
        prompts: `input_ids` and `attention_mask` (requests, length), and optionally `long_view_codes`.
        examples: the dataset's row of each request.
        group: number of SIDs for each request.
        seeds: one number per request; equal seeds give equal samples.
        how: one of `ROLLOUTS`.
        temperature: temperature of the samples. A higher one draws unlikely SIDs more often.
        experts: (requests, experts, levels) SIDs that each group must hold, -1 throughout where there are fewer. Those that were not
            drawn replace the SIDs that were drawn last.
    """
    inputs: dict[str, Any] = {name: prompts.get(name) for name in ("input_ids", "attention_mask", "long_view_codes")}
    if how == "sample":
        codes = model.sample_sids(**inputs, num_samples=group, seeds=seeds, temperature=temperature).codes
    else:
        codes = model.search_sids(**inputs, num_beams=group)[0]
    missing = group - codes.shape[1]
    if missing > 0:
        codes = torch.cat([codes, codes.new_full((len(codes), missing, codes.shape[2]), -1)], dim=1)
    if experts is None or not experts.shape[1]:
        return Rollouts(codes, examples, torch.zeros_like(codes[..., 0], dtype=torch.bool))
    return _with_experts(codes, experts.to(codes.device), examples)


def _with_experts(codes: torch.Tensor, experts: torch.Tensor, examples: Sequence[Example]) -> Rollouts:
    """Put the experts that a group lacks into its last places, but not over an expert that was drawn."""
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
    return Rollouts(codes, examples, placed)


__all__ = ["ROLLOUTS", "Example", "Rollouts", "draw_rollouts"]
