"""Settings of direct preference optimisation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trl import DPOConfig

from onesearch.devices import choose_device, use_one_gpu

from ..preference.likelihoods import SOFTMAXES
from ..reward.adaptive import RewardFormula
from ..sft.number_checks import check_numbers

OBJECTIVES = ("listwise", "pairwise")
"""Losses of a list of one chosen and several rejected Semantic IDs."""

WEIGHTINGS = ("adaptive", "none")
"""Weights of the rejected Semantic IDs of a list."""


@dataclass
class SidDPOConfig(DPOConfig):
    r"""TRL's [`~trl.DPOConfig`] with list-wise preferences of Semantic IDs.

    The defaults of these fields are new or differ from TRL's. The paper gives no values of β, δ and α: those are our choice.

    Args:
        objective (`str`, defaults to `"listwise"`):
            `"listwise"` is the paper's loss over all rejected Semantic IDs of a chosen one (`losses.py`). `"pairwise"` makes a pair of each
            rejected one and takes TRL's `loss_type`.
        weighting (`str`, defaults to `"adaptive"`):
            `"adaptive"` weights each rejected Semantic ID of a list by $rw_\Delta$ of the rewards (paper; see `RewardFormula`), `"none"` by
            1\. Only for `"listwise"`.
        formula (`dict`, *optional*):
            Fields of `RewardFormula`, whose `margin`, `exponent` and `largest` shape $rw_\Delta$. Default: the paper's.
        nll_weight (`float`, defaults to `0.1`):
            α, weight of the negative log-likelihood of the chosen Semantic ID. A larger α keeps its likelihood from falling, and makes
            the training more like supervised fine-tuning on the chosen ones.
        chosen_weight (`float`, defaults to `0.0`):
            Weight of the regulariser that counts a fall of the chosen likelihood below the reference's as a lost margin (authors' code).
        margin (`float`, *optional*):
            δ of OneSug's hinge; default: no hinge, as in the authors' code.
        reference_weight (`float`, defaults to `1.0`):
            γ, factor of the reference in the log-ratio log π − γ log π_ref. 1 is the paper's. With 0 (our choice for distilling an order)
            pairs that the policy already ranks rightly push less than those that it ranks wrongly, whatever the reference says.
        sid_softmax (`str`, defaults to `"children"`):
            Set of codes that a code competes with, for policy and reference: the `"children"` that the trie allows, as in the search, or
            all codes of its `"level"`. Our choice: the loss then moves the very scores by which a search ranks.
        refresh_steps (`int`, defaults to `0`):
            Number of optimiser steps after which the lists are made anew by the current policy, where the trainer got a `list_maker`. A
            larger number costs fewer searches, and trains on older beams. 0 makes all lists before the first step.
        list_passes (`int`, defaults to `1`):
            Number of times that the lists of a round are trained on. More passes cost fewer searches per step.
        learning_rate (`float`, defaults to `1e-4`):
            Peak learning rate, chosen for small models. TRL's 1e-6 fits large language models.
        bf16 (`bool`, *optional*):
            Mixed precision. Default: on where the device supports it (TRL: always on).
        gradient_checkpointing (`bool`, defaults to `False`):
            Recompute activations of the encoder in the backward pass. Decoder-only models are refused: their prompt's keys are kept.
        max_length (`int`, *optional*, defaults to `None`):
            Not used: prompts are cut when they are rendered.
        report_to (`str`, defaults to `"none"`):
            Integration of transformers that metrics are reported to.
        ddp_find_unused_parameters (`bool`, defaults to `True`):
            Several processes look for parameters without a gradient: where all codes behind the first level are certain, the decoder's
            self-attention has none.

    Raises:
        ValueError: a value is not allowed, or a number is not finite or out of its range.
    """

    _VALID_DICT_FIELDS = [*DPOConfig._VALID_DICT_FIELDS, "formula"]

    objective: str = field(default="listwise", metadata={"help": "Loss of a list: listwise or pairwise (TRL's loss_type)."})
    weighting: str = field(default="adaptive", metadata={"help": "Weights of rejected Semantic IDs: adaptive or none."})
    formula: dict[str, Any] | str | None = field(default=None, metadata={"help": "Fields of RewardFormula."})
    nll_weight: float = field(default=0.1, metadata={"help": "Weight of the chosen one's negative log-likelihood."})
    chosen_weight: float = field(default=0.0, metadata={"help": "Weight of the regulariser of the chosen likelihood."})
    margin: float | None = field(default=None, metadata={"help": "Margin of the hinge; default: no hinge."})
    reference_weight: float = field(default=1.0, metadata={"help": "Factor of the reference in the log-ratio."})
    sid_softmax: str = field(default="children", metadata={"help": "Codes that a code competes with: children or level."})
    refresh_steps: int = field(default=0, metadata={"help": "Steps after which the current policy makes the lists anew."})
    list_passes: int = field(default=1, metadata={"help": "Times that the lists of a round are trained on."})
    learning_rate: float = field(default=1e-4, metadata={"help": "Peak learning rate."})
    bf16: bool | None = field(  # type: ignore[assignment]  # TRL fills in None alike, transformers' stub says bool
        default=None, metadata={"help": "Mixed precision; default: where the device has it."}
    )
    gradient_checkpointing: bool = field(default=False, metadata={"help": "Recompute activations in the backward pass."})
    max_length: int | None = field(default=None, metadata={"help": "Not used: prompts are cut when they are rendered."})
    report_to: str | list[str] = field(default="none", metadata={"help": "Where metrics are reported to."})
    ddp_find_unused_parameters: bool | None = field(default=True, metadata={"help": "Search for unused parameters."})

    def __post_init__(self) -> None:
        choose_device(self)
        self._check_values()
        self._check_combinations()
        super().__post_init__()
        use_one_gpu(self)
        check_numbers(self)
        self.reward_formula()

    def _check_values(self) -> None:
        """Refuse values that are not allowed by themselves."""
        for name, allowed in (("objective", OBJECTIVES), ("weighting", WEIGHTINGS), ("sid_softmax", SOFTMAXES)):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r}: allowed are {' and '.join(map(repr, allowed))}")
        for name in ("nll_weight", "chosen_weight", "reference_weight", "refresh_steps"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}={getattr(self, name)} must be a finite number of at least 0")
        if self.list_passes < 1:
            raise ValueError(f"list_passes={self.list_passes} must be at least 1")
        if not 0 < self.beta < float("inf"):
            raise ValueError(f"beta={self.beta} must be above 0")

    def _check_combinations(self) -> None:
        """Refuse settings that exclude each other, or that mean nothing for Semantic IDs."""
        if self.ld_alpha is not None or self.use_weighting:
            raise ValueError(
                "ld_alpha and use_weighting depend on the length of an answer, and all Semantic IDs have one length; leave them out"
            )
        if self.sync_ref_model and self.precompute_ref_log_probs:
            raise ValueError("sync_ref_model moves the reference, and precompute_ref_log_probs fixes it: set one of them")
        if self.precompute_ref_log_probs and self.refresh_steps:
            raise ValueError(
                "precompute_ref_log_probs needs lists that are known beforehand; with refresh_steps the reference runs in each step"
            )

    def reward_formula(self) -> RewardFormula:
        """The shape of the weights."""
        if self.formula is not None and not isinstance(self.formula, dict):
            raise ValueError(f"formula={self.formula!r}: give a mapping of fields of RewardFormula")
        return RewardFormula(**(self.formula or {}))


__all__ = ["OBJECTIVES", "WEIGHTINGS", "SidDPOConfig"]
