"""The part ``preference:`` of a recipe: the stages after the reward model. Reading it imports neither torch nor transformers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..configs import FOLDER_NAME, SidLoraConfig, refuse_owned_arguments
from ..reward.negatives import NegativeSampling
from .list_config import BeamListConfig

METHODS = ("beams", "interactions", "grpo")
"""Kinds of stages: list-wise DPO on the reward model's order of beams (phase 1) and on real interactions (phase 2), and group-relative
policy optimisation."""

PHASES = ("dpo-1", "dpo-2")
"""The paper's two phases, in order."""

DEFAULT_STAGES = {"dpo-1": "beams", "dpo-2": "interactions", "grpo": "grpo"}
"""Stages whose names bring their method along."""


@dataclass(frozen=True)
class PreferenceStage:
    """One stage of preference training. It starts from the policy that the stage before it has left, which is also its reference.

    Args:
        name: name of the stage, of its folder in ``training/``, and of its report in ``evaluation/``. The names in `DEFAULT_STAGES` bring
            their method along.
        method: ``beams`` (phase 1), ``interactions`` (phase 2), or ``grpo``.
        lists: for ``beams``: candidates of each request, and which of them are chosen and rejected.
        negatives: for ``interactions``: numbers of rejected items per level.
        recombined: for ``beams`` and ``grpo``: share of the requests whose query was asked in another session than that of their user.
            Nobody made them, so that they have no clicks; the reward model ranks them like others. More of them show the policy more
            combinations of query and history (our choice; the paper uses logged requests alone).
        preset: for ``grpo``: method of a paper whose rewards and arguments are taken, ``spo`` or ``tpma``; see
            `onesearch.trainers.grpo.reward_mix`. None takes neither.
        rewards: for ``grpo``: fields of `RewardMix`; they override those of the preset.
        arguments: fields of `SidDPOConfig`, or of `SidGRPOConfig` for ``grpo``; `max_steps` is needed.

    Raises:
        ValueError: the name is no plain name of a folder, the method is unknown, or a number is out of range.
    """

    name: str
    method: str = ""
    lists: BeamListConfig = field(default_factory=BeamListConfig)
    negatives: NegativeSampling = field(default_factory=NegativeSampling)
    recombined: float = 0.0
    preset: str | None = None
    rewards: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not FOLDER_NAME.fullmatch(self.name):
            raise ValueError(
                f"stage name {self.name!r} is no name of a folder; use letters, digits, '-', '_' and '.', and begin with a letter or digit"
            )
        method = self.method or DEFAULT_STAGES.get(self.name, "")
        if method not in METHODS:
            raise ValueError(f"stage {self.name!r}: method={method!r}: allowed are {' and '.join(map(repr, METHODS))}")
        object.__setattr__(self, "method", method)
        refuse_owned_arguments(self.arguments, f"arguments of stage {self.name!r}")
        if not 0 <= self.recombined <= 1:
            raise ValueError(f"stage {self.name!r}: recombined={self.recombined} must be a share from 0 to 1")
        if method != "grpo" and (self.preset is not None or self.rewards):
            raise ValueError(f"stage {self.name!r}: preset and rewards belong to the method 'grpo', and this one is {method!r}")


@dataclass(frozen=True)
class PreferenceConfig:
    """All stages of preference training and what they share (OneSearch, arXiv 2509.03236, hybrid ranking).

    Args:
        stages: stages, in order; the default is the paper's two phases.
        arguments: fields of `SidDPOConfig` for all stages of DPO; a stage's own arguments override them. Stages of ``grpo`` have their own
            alone.
        lora: trains an adapter, which is merged at the end of each stage; the reference is the model without it. None trains all weights.
        requests: number of training requests that lists may be made of; more give more different lists.
        validation_requests: number of validation requests that each evaluation searches and ranks.

    Raises:
        ValueError: there is no stage, two stages have the same name, or a number is out of range.
    """

    stages: tuple[PreferenceStage, ...] = tuple(PreferenceStage(name) for name in PHASES)
    arguments: dict[str, Any] = field(default_factory=lambda: {"max_steps": 300})
    lora: SidLoraConfig | None = None
    requests: int = 20_000
    validation_requests: int = 400

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        refuse_owned_arguments(self.arguments, "preference.arguments")
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"preference.stages={names}: at least one stage is needed, and no two may have the same name")
        for name in ("requests", "validation_requests"):
            if getattr(self, name) < 1:
                raise ValueError(f"preference.{name}={getattr(self, name)} must be at least 1")


__all__ = ["DEFAULT_STAGES", "METHODS", "PHASES", "PreferenceConfig", "PreferenceStage"]
