"""Weights of the rewards, and presets of the papers. Reading them imports neither torch nor TRL."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

REWARDS = ("item", "prefix", "model", "ctr", "relevance", "interaction")
"""Rewards that a mix weighs."""

NEEDS_REWARD_MODEL = ("model", "ctr", "relevance")
"""Rewards that the checkpoint's reward model gives."""

ADVANTAGES = ("sequence", "position")
"""Advantages of whole SIDs, or of each position (TPMA)."""


@dataclass(frozen=True)
class RewardMix:
    """R = Σ weight · reward. Only the ratios of the weights matter, because advantages are normalised within a group.

    Args:
        item: weight of an exact hit: `order` where the SID belongs to a bought item, `click` where to one that was only clicked. A larger
            weight rewards nothing but the logged item.
        prefix: weight of the share of the SID's codes that agree with a target from the first code on. A larger weight rewards near
            misses, so that fewer groups are without signal.
        model: weight of the reward model's score, the weighted sum of its towers and of its relevance that ranks hits at serving.
        ctr: weight of the reward model's probability of a click.
        relevance: weight of the relevance of query and item: the grade of the market's judgements, divided by 3, where there is one, else
            the cosine of the reward model's text vectors.
        interaction: weight of the user's feedback in the session: `feedback` of an item that was bought, clicked, or shown and not clicked.
        order: value of a bought item in `item`. OneSearch-V2's code has 4 for orders and 3 for clicks; the paper's notes print the
            reverse.
        click: value of an item that was only clicked in `item`.
        feedback: values of bought, clicked and shown items in `interaction`; the defaults are OneSearch's λ of levels 1, 3 and 4.
        prefix_weights: weight of each code in `prefix`, from the first to the last; None takes TPMA's, 2 for the first two codes and 1 for
            the others, with `last_code` for the last.
        last_code: weight of the last code where `prefix_weights` is None. TPMA gives it 0, so that nothing tells the wanted SID from its
            siblings; 1 is our choice.
        contiguous: whether a code counts only if all codes before it agree, too. TPMA compares position by position (False).
        advantages: `sequence` gives all codes of a SID the advantage of its reward. `position` is TPMA's: each code has the advantage of
            its own increment of the prefix reward, plus `item_weight` times that of the other rewards, times a gate that is the share of
            matched codes before it.
        item_weight: w_item of TPMA. A larger one gives the whole item's reward more weight beside the positions. Its code has 0, which
            leaves that reward out.

    Raises:
        ValueError: a number is negative or not finite, every weight is 0, or a name is unknown.
    """

    item: float = 0.0
    prefix: float = 0.0
    model: float = 1.0
    ctr: float = 0.0
    relevance: float = 0.0
    interaction: float = 0.0
    order: float = 4.0
    click: float = 3.0
    feedback: tuple[float, float, float] = (2.0, 1.0, 0.5)
    prefix_weights: tuple[float, ...] | None = None
    last_code: float = 1.0
    contiguous: bool = True
    advantages: str = "sequence"
    item_weight: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "feedback", tuple(self.feedback))  # JSON and YAML know lists only
        if self.prefix_weights is not None:
            object.__setattr__(self, "prefix_weights", tuple(self.prefix_weights))
        for part in fields(self):
            value = getattr(self, part.name)
            numbers = value if isinstance(value, tuple) else (value,)
            for number in numbers:
                wrong = isinstance(number, float | int) and not isinstance(number, bool) and not 0 <= number < math.inf
                if wrong:
                    raise ValueError(f"rewards.{part.name}={value}: numbers of at least 0 are allowed")
        if len(self.feedback) != 3:
            raise ValueError(f"rewards.feedback={self.feedback}: three numbers are needed, for bought, clicked and shown items")
        if self.advantages not in ADVANTAGES:
            raise ValueError(f"rewards.advantages={self.advantages!r}: allowed are {', '.join(map(repr, ADVANTAGES))}")
        if not self.weights:
            raise ValueError(f"every weight among {', '.join(REWARDS)} is 0, so nothing is rewarded; give one of them more")
        if self.advantages == "position" and not self.prefix:
            raise ValueError("rewards.advantages='position' needs a weight of the prefix reward; set rewards.prefix")

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each reward that counts."""
        return {name: getattr(self, name) for name in REWARDS if getattr(self, name)}

    @property
    def needs_reward_model(self) -> bool:
        """Whether a reward comes from the checkpoint's reward model."""
        return any(name in self.weights for name in NEEDS_REWARD_MODEL)


@dataclass(frozen=True)
class Preset:
    """Settings of a paper's method.

    Args:
        rewards: fields of [`RewardMix`].
        arguments: fields of [`SidGRPOConfig`].
    """

    rewards: dict[str, Any]
    arguments: dict[str, Any]


PRESETS = {
    "spo": Preset(
        {"model": 1.0, "interaction": 1.0},
        {"rollouts": "beam", "beta": 0.02, "epsilon": 0.2},
    ),
    "tpma": Preset(
        {
            "model": 0.0,
            "prefix": 1.0,
            "contiguous": False,
            "last_code": 0.0,
            "advantages": "position",
            "item": 1.0,
            "ctr": 1.0,
            "relevance": 3.0,
            "item_weight": 0.0,
        },
        {"beta": 0.0, "num_generations": 4, "epsilon": 1e9, "learning_rate": 1e-5, "sft_weight": 0.1},
    ),
}
"""Methods of the papers by name.

* ``spo``: search preference optimisation (UniSearch, arXiv 2509.06887): R = γ₁ R_system + γ₂ R_interaction over the beam's candidates,
  group-normalised, clipped, with a KL to the pre-trained model. The paper gives neither γ nor β nor ε: those here are our choice. Our
  R_system is the reward model's score, which ranks hits where no older search system exists.
* ``tpma``: token-level position-wise increments with a gate (OneSearch-V2, arXiv 2603.24422), as in the authors' code: groups of 4,
  weights (2, 2, 1, …, 1, 0), no clipping, no KL, 0.1 times the supervised loss, and the whole item's reward without weight.
"""


def with_preset(name: str | None, rewards: dict[str, Any], arguments: dict[str, Any]) -> tuple[RewardMix, dict[str, Any]]:
    """Settings of a preset, overridden by given ones.

    Args:
        name: one of `PRESETS`; None for none.
        rewards: fields of [`RewardMix`].
        arguments: fields of [`SidGRPOConfig`].

    Raises:
        ValueError: the preset is unknown, or a field is not allowed.
    """
    if name is not None and name not in PRESETS:
        raise ValueError(f"preset={name!r} is unknown; allowed are {', '.join(map(repr, PRESETS))}")
    preset = PRESETS[name] if name is not None else Preset({}, {})
    unknown = set(rewards) - {part.name for part in fields(RewardMix)}
    if unknown:
        allowed = ", ".join(part.name for part in fields(RewardMix))
        raise ValueError(f"rewards.{sorted(unknown)[0]} is unknown; allowed are {allowed}")
    return RewardMix(**{**preset.rewards, **rewards}), {**preset.arguments, **arguments}


__all__ = ["ADVANTAGES", "NEEDS_REWARD_MODEL", "PRESETS", "REWARDS", "Preset", "RewardMix", "with_preset"]
