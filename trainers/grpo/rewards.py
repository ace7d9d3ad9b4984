"""Rewards of rollouts that need the log alone: exact item, prefix, and feedback of the session.

A reward is called with [`Rollouts`] and returns a number for each SID, (requests, group); numbers where there is no SID are not read. Any
callable of that form can take part. The rewards here read these columns of the dataset:

* `targets`: codes of the request's targets, flattened, the most wanted first;
* `target_kinds`: for each target 0 where it was bought, 1 where it was clicked only, 2 where it was shown only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch

from .reward_mix import RewardMix
from .rollouts import Example, Rollouts

BOUGHT, CLICKED, SHOWN = 0, 1, 2
"""Kinds of targets."""

HEAVY_CODES, HEAVY_WEIGHT = 2, 2.0
"""TPMA's first codes, and their weight (arXiv 2603.24422, section "TPMA")."""


class Reward(Protocol):
    """A reward of rollouts."""

    def __call__(self, rollouts: Rollouts) -> torch.Tensor:
        """The reward of each SID, (requests, group)."""


class WeighedReward(NamedTuple):
    """A reward with its name in the log and its weight in the sum."""

    name: str
    weight: float
    reward: Callable[[Rollouts], torch.Tensor]


class Targets(NamedTuple):
    """Targets of some requests, padded.

    Args:
        codes: (requests, targets, levels), -1 throughout where a request has fewer.
        kinds: (requests, targets) `BOUGHT`, `CLICKED` or `SHOWN`; -1 for padding.
    """

    codes: torch.Tensor
    kinds: torch.Tensor

    @classmethod
    def of(cls, examples: Sequence[Example], levels: int, shown: bool = False) -> Targets:
        """Targets of the examples; those that were shown only are left out unless `shown` asks for them.

        Raises:
            KeyError: the dataset has no column `targets`.
        """
        for name in ("targets", "target_kinds"):
            if name not in examples[0]:
                raise KeyError(f"the dataset has no column {name!r}, which the rewards item, prefix and interaction need")
        rows = []
        for example in examples:
            kinds = np.asarray(example["target_kinds"], dtype=np.int64)
            codes = np.asarray(example["targets"], dtype=np.int64).reshape(len(kinds), levels)
            kept = np.ones(len(kinds), dtype=bool) if shown else kinds != SHOWN
            rows.append((codes[kept], kinds[kept]))
        width = max((len(kinds) for _, kinds in rows), default=0)
        codes = np.full((len(rows), width, levels), -1, dtype=np.int64)
        kinds = np.full((len(rows), width), -1, dtype=np.int64)
        for row, (own, own_kinds) in enumerate(rows):
            codes[row, : len(own)], kinds[row, : len(own)] = own, own_kinds
        return cls(torch.from_numpy(codes), torch.from_numpy(kinds))

    def to(self, device: torch.device) -> Targets:
        """The same on another device."""
        return Targets(self.codes.to(device), self.kinds.to(device))


class TargetReward:
    """The value of the best target whose SID a rollout is; 0 for all other SIDs.

    With values of orders and clicks it is R_C&O of OneSearch-V2; with that of shown items, too, the feedback of the session.

    Args:
        bought: value of a target that was bought.
        clicked: value of a target that was clicked only.
        shown: value of a target that was shown only.
    """

    def __init__(self, bought: float = 1.0, clicked: float = 1.0, shown: float = 0.0) -> None:
        self.values = (bought, clicked, shown, 0.0)  # the last for padding, whose kind is -1

    def __call__(self, rollouts: Rollouts) -> torch.Tensor:
        """See [`Reward`]."""
        codes = rollouts.codes
        targets = Targets.of(rollouts.examples, codes.shape[2], shown=bool(self.values[SHOWN])).to(codes.device)
        if not targets.kinds.shape[1]:
            return torch.zeros(codes.shape[:2], device=codes.device)
        hits = (codes[:, :, None] == targets.codes[:, None]).all(-1)  # (requests, group, targets)
        values = torch.tensor(self.values, device=codes.device)[targets.kinds]
        return (hits * values[:, None]).amax(-1)


class PrefixReward:
    r"""Agreement of a SID's codes with a target's, as TPMA counts it (OneSearch-V2, arXiv 2603.24422, section "TPMA").

    $R_l = \max_t \sum_{m \le l} w_m \mathrm{match}_m(t)$ over the targets t, separately for each length l, and the increment of a code is
    $R_l - R_{l-1}$.

    Args:
        weights: weight w of each code; None takes 2 for the first two codes and 1 for the others.
        last: weight of the last code where `weights` is None. TPMA has 0.
        contiguous: whether a code matches only if all codes before it do. TPMA compares each position by itself (False), although a code
            means something else behind another prefix.
    """

    def __init__(self, weights: Sequence[float] | None = None, last: float = 1.0, contiguous: bool = True) -> None:
        self.weights, self.last, self.contiguous = weights, last, contiguous

    def __call__(self, rollouts: Rollouts) -> torch.Tensor:
        """See [`Reward`]; the share of the largest possible reward."""
        return self.increments(rollouts).sum(-1)

    def increments(self, rollouts: Rollouts) -> torch.Tensor:
        """What each code adds to the reward, (requests, group, levels); all of a target's codes sum to 1."""
        weights = self.level_weights(rollouts.codes.shape[2]).to(rollouts.codes.device)
        reached = (self._matches(rollouts) * weights).cumsum(-1).amax(2)  # (requests, group, levels)
        return reached.diff(dim=-1, prepend=torch.zeros_like(reached[..., :1])) / weights.sum()

    def gates(self, rollouts: Rollouts) -> torch.Tensor:
        """TPMA's gate of each code, (requests, group, levels): 1 for the first, then the share of the codes before it that match."""
        matched = self._matches(rollouts).cumsum(-1).amax(2)[..., :-1]
        shares = matched / torch.arange(1, matched.shape[-1] + 1, device=matched.device)
        return torch.cat([torch.ones_like(rollouts.codes[..., :1], dtype=shares.dtype), shares], dim=-1)

    def level_weights(self, levels: int) -> torch.Tensor:
        """Weight of each code, (levels,).

        Raises:
            ValueError: the number of weights is not that of the levels, or all are 0.
        """
        weights = self.weights
        if weights is None:
            weights = [HEAVY_WEIGHT if level < HEAVY_CODES else 1.0 for level in range(levels - 1)] + [self.last]
        if len(weights) != levels or not sum(weights) > 0:
            raise ValueError(
                f"prefix_weights={tuple(weights)}: a SID of this model has {levels} codes, so {levels} weights are needed, one above 0"
            )
        return torch.tensor(weights, dtype=torch.float32)

    def _matches(self, rollouts: Rollouts) -> torch.Tensor:
        """Whether each code matches each target's, (requests, group, targets or 1, levels) float32."""
        codes = rollouts.codes
        targets = Targets.of(rollouts.examples, codes.shape[2]).to(codes.device)
        if not targets.kinds.shape[1]:
            return torch.zeros((*codes.shape[:2], 1, codes.shape[2]), device=codes.device)
        matches = (codes[:, :, None] == targets.codes[:, None]) & (targets.kinds >= 0)[:, None, :, None]
        return (matches.cumprod(-1) if self.contiguous else matches).float()


def log_rewards(mix: RewardMix) -> list[WeighedReward]:
    """Those rewards of a mix that need no reward model."""
    parts: dict[str, Reward] = {
        "item": TargetReward(mix.order, mix.click),
        "prefix": PrefixReward(mix.prefix_weights, mix.last_code, mix.contiguous),
        "interaction": TargetReward(*mix.feedback),
    }
    return [WeighedReward(name, weight, parts[name]) for name, weight in mix.weights.items() if name in parts]


__all__ = [
    "BOUGHT",
    "CLICKED",
    "SHOWN",
    "PrefixReward",
    "Reward",
    "TargetReward",
    "Targets",
    "WeighedReward",
    "log_rewards",
]
