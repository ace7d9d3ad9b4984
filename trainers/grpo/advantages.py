r"""Advantages: how much better a rollout is than the others of its group.

$\hat A_i = (R_i - \mathrm{mean}(R)) / (\mathrm{std}(R) + \delta)$ within the group of one request (GRPO; SPO of UniSearch, arXiv
2509.06887). A group whose rewards are all alike has no signal: its advantages are exactly 0, and so are those of a group of one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

DELTA = 1e-4
"""Added to every deviation (TRL's value)."""

ALIKE = 1e-6
"""Deviation, as a share of the largest absolute reward of the group, up to which rewards count as alike: rounding alone makes that."""

SCALES = ("group", "batch", "none")
"""Deviations that advantages are divided by."""


class Advantages(NamedTuple):
    """Advantages of groups.

    Args:
        values: same shape as the rewards, 0 where there is no SID.
        is_dead: (requests,) whether the group has no signal.
    """

    values: torch.Tensor
    is_dead: torch.Tensor


def group_advantages(
    rewards: torch.Tensor, is_sid: torch.Tensor, scale: str = "group", weights: torch.Tensor | None = None
) -> Advantages:
    """Advantages of whole SIDs.

    Args:
        rewards: (requests, group).
        is_sid: (requests, group) whether there is a SID.
        scale: divide by the deviation within the `group`, by that of the `batch`, or by `none`. `group` gives every group the same
            weight, however close its rewards are (the papers' form).
        weights: (requests, group) weight of each SID, with mean 1 over a group: mean and deviation are weighted, and so is the advantage.
            None weighs all alike.

    Raises:
        ValueError: `scale` is unknown.
    """
    if scale not in SCALES:
        raise ValueError(f"scale_rewards={scale!r}: allowed are {', '.join(map(repr, SCALES))}")
    known = torch.where(is_sid, rewards, 0.0)
    own = is_sid.to(rewards.dtype) if weights is None else torch.where(is_sid, weights, 0.0)
    mean = (own * known).sum(1, keepdim=True) / own.sum(1, keepdim=True).clamp(min=ALIKE)
    centred = torch.where(is_sid, rewards - mean, 0.0)
    count = is_sid.sum(1, keepdim=True)
    # The unbiased deviation, as TRL's; the weights sum to the count.
    std = ((own * centred.square()).sum(1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()  # (requests, 1)
    is_dead = std[:, 0] <= ALIKE * known.abs().amax(1)
    centred = (own * centred).masked_fill(is_dead[:, None], 0.0)
    if scale == "group":
        centred = centred / (std + DELTA)
    elif scale == "batch":
        centred = centred / (_deviation(rewards[is_sid]) + DELTA)
    return Advantages(centred, is_dead)


def position_advantages(
    increments: torch.Tensor, is_sid: torch.Tensor, scale: str = "group", weights: torch.Tensor | None = None
) -> Advantages:
    """Advantages of each position: its increments, normalised within the group (TPMA, arXiv 2603.24422, section "TPMA").

    Args:
        increments: (requests, group, levels) what each code added to the reward.
        is_sid: (requests, group) whether there is a SID.
        scale: as for `group_advantages`.
        weights: as for `group_advantages`.

    Returns:
        Values (requests, group, levels); a group is dead if all of its positions are.
    """
    levels = [group_advantages(increments[..., level], is_sid, scale, weights) for level in range(increments.shape[2])]
    return Advantages(torch.stack([own.values for own in levels], -1), torch.stack([own.is_dead for own in levels], -1).all(-1))


def _deviation(values: torch.Tensor) -> torch.Tensor:
    return values.std() if len(values) > 1 else values.new_zeros(())


__all__ = ["DELTA", "SCALES", "Advantages", "group_advantages", "position_advantages"]
