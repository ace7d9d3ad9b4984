"""Settings of group-relative policy optimisation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from trl import GRPOConfig

from onesearch.devices import choose_device, use_one_gpu

from ..sft.number_checks import check_numbers
from .reward_mix import PRESETS
from .rollouts import ROLLOUTS

SOFTMAXES = ("children", "level")
"""Sets of codes that a rollout's code competes with."""

SAMPLE_WEIGHTS = ("none", "inclusion")
"""Weights of the rollouts of a group."""


@dataclass
class SidGRPOConfig(GRPOConfig):
    r"""TRL's [`~trl.GRPOConfig`] for models that emit Semantic IDs.

    `per_device_train_batch_size` counts rollouts, as in TRL, and is divisible by `num_generations`, so that a group lies in one batch and
    its prompt is read once. The loss is TRL's: clipped ratios, and the low-variance estimate of the KL. It counts every code of a SID; a
    code that the catalogue leaves no choice about has probability 1 and no gradient. Not used: everything about text and its generation
    (`max_completion_length`, `top_p`, vLLM, tools).

    The defaults of these fields differ from TRL's, or are not in it. They are our choice where no paper is named.

    Args:
        learning_rate (`float`, defaults to `1e-4`):
            Peak learning rate, for small models. OneSearch-V2's code has 1e-5.
        num_generations (`int`, defaults to `8`, as in TRL):
            Rollouts per request. More tell more about a request and cost more time; with few and a sparse reward most groups have no
            signal. OneSearch-V2's code has 4, MiniOneRec 16.
        rollouts (`str`, defaults to `"sample"`):
            `"sample"` draws distinct SIDs without replacement by stochastic beam search; `"beam"` takes the best SIDs of the beam search,
            as SPO does, which explores nothing.
        temperature (`float`, defaults to `1.0`, as in TRL):
            Temperature of the samples. A higher one explores more. The log-probabilities in the loss are those of the search, without it.
        sample_weights (`str`, defaults to `"none"`):
            `"none"` counts all rollouts of a group alike, as the papers do. `"inclusion"` weighs a sampled SID by its probability over the
            probability that the sample holds it, so that the gradient is that of the policy's mean reward (Kool et al. 2019, 2020). Without
            these weights unlikely SIDs, which a sample without replacement holds more often than the policy draws them, are pushed
            down as if they were likely.
        expert_sids (`int`, defaults to `0`):
            SIDs of a request's targets that its group holds even if they were not drawn, bought ones first. EG-GRPO has 2. They give
            sparse rewards a signal.
        beta (`float`, defaults to `0.02`):
            Weight of the KL to the policy before the training. A larger one keeps the policy closer to it.
        loss_type (`str`, defaults to `"grpo"`):
            Mean over the codes of a SID, then over the SIDs. Every SID has the same number of codes, so TRL's other normalisers differ by a
            constant.
        sft_weight (`float`, defaults to `0.0`):
            Weight of the supervised loss of a request's first target, per code, beside the policy's. OneSearch-V2's code has 0.1. A larger
            one keeps logged items likely, and teaches them again.
        sid_softmax (`str`, defaults to `"children"`):
            Set of codes that a code of a rollout competes with in the loss, for policy and reference: the `children` that the catalogue
            allows, as in the search and in the sampling, or all codes of its `level`, as in supervised training.
        disable_dropout (`bool`, defaults to `True`):
            Train without dropout, so that the loss is of the same policy that drew the rollouts.
        num_generations_eval (`int`, defaults to `10`):
            An evaluation measures the reward of this many best SIDs of the beam search, the policy's own top ten.
        per_device_eval_batch_size (`int`, defaults to `320`):
            SIDs per batch of an evaluation; divisible by `num_generations_eval`.
        bf16 (`bool`, *optional*):
            Mixed precision. Default: on where the device supports it (TRL: always on).
        gradient_checkpointing (`bool`, defaults to `False`):
            Recompute activations in the backward pass.
        report_to (`str`, defaults to `"none"`):
            Integration of transformers that metrics are reported to.
        ddp_find_unused_parameters (`bool`, defaults to `False`):
            Search for parameters without a gradient.

    Raises:
        ValueError: a value is not allowed, the numbers of rollouts do not divide, or a checkpoint would fall between two generations.
    """

    _VALID_DICT_FIELDS = GRPOConfig._VALID_DICT_FIELDS

    learning_rate: float = field(default=1e-4, metadata={"help": "Peak learning rate."})
    rollouts: str = field(default="sample", metadata={"help": "sample (without replacement) or beam."})
    sample_weights: str = field(default="none", metadata={"help": "none, or inclusion: weighs samples by their probability."})
    expert_sids: int = field(default=0, metadata={"help": "Targets that a group holds even if they were not drawn."})
    beta: float = field(default=0.02, metadata={"help": "Weight of the KL to the policy before the training."})
    loss_type: str = field(default="grpo", metadata={"help": "Normaliser of the loss; see TRL."})
    sft_weight: float = field(default=0.0, metadata={"help": "Weight of the supervised loss of the first target."})
    sid_softmax: str = field(default="children", metadata={"help": "Codes that a rollout's code competes with."})
    disable_dropout: bool = field(default=True, metadata={"help": "Train without dropout."})
    num_generations_eval: int | None = field(default=10, metadata={"help": "SIDs per request of an evaluation."})
    per_device_eval_batch_size: int = field(default=320, metadata={"help": "SIDs per batch of an evaluation."})
    bf16: bool | None = field(  # type: ignore[assignment]  # TRL fills in None alike, transformers' stub says bool
        default=None, metadata={"help": "Mixed precision; default: where the device has it."}
    )
    gradient_checkpointing: bool = field(default=False, metadata={"help": "Recompute activations in the backward pass."})
    report_to: str | list[str] = field(default="none", metadata={"help": "Where metrics are reported to."})
    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "Search for unused parameters."})

    def __post_init__(self) -> None:
        choose_device(self)
        choices = {"rollouts": ROLLOUTS, "sid_softmax": SOFTMAXES, "sample_weights": SAMPLE_WEIGHTS}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r}: allowed are {' and '.join(map(repr, allowed))}")
        for name in ("expert_sids", "sft_weight", "beta"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}={getattr(self, name)}: numbers of at least 0 are allowed")
        if self.use_vllm or self.use_transformers_continuous_batching or self.use_liger_kernel:
            raise ValueError(
                "use_vllm, use_transformers_continuous_batching and use_liger_kernel are not supported: rollouts are searches under the "
                "catalogue's trie; set them to False"
            )
        super().__post_init__()
        use_one_gpu(self)
        check_numbers(self)
        self._check_groups()

    @property
    def slices_per_generation(self) -> int:
        """Batches that one generation of rollouts is cut into."""
        return cast(int, self.steps_per_generation)  # TRL fills it in

    @property
    def steps_of_generation(self) -> int:
        """Passes forward and backward that one generation of rollouts serves."""
        return self.slices_per_generation * self.num_iterations

    def _check_groups(self) -> None:
        """Refuse batches that cut a group, and checkpoints after which a resumed training would draw other rollouts."""
        if self.per_device_train_batch_size % cast(int, self.num_generations):
            raise ValueError(
                f"per_device_train_batch_size={self.per_device_train_batch_size} counts rollouts and must be divisible by "
                f"num_generations={self.num_generations}, so that a group lies in one batch"
            )
        passes, every = self.gradient_accumulation_steps, self.steps_of_generation
        if every % passes:
            raise ValueError(
                f"gradient_accumulation_steps={passes} must divide steps_per_generation · num_iterations = {every}, so that every "
                "generation begins at an optimiser step"
            )
        saves = self.save_steps if str(self.save_strategy) in ("steps", "SaveStrategy.STEPS") else every // passes
        if saves >= 1 and int(saves) * passes % every:
            raise ValueError(
                f"save_steps={self.save_steps} falls between two generations of rollouts, which last {every // passes} steps; a training "
                "resumed there would draw others. Make save_steps a multiple of it"
            )

    @classmethod
    def of_preset(cls, name: str, **arguments: Any) -> SidGRPOConfig:
        """Settings of a paper's method; `arguments` override them. Its rewards are `with_preset(name, {}, {})[0]`.

        Args:
            name: one of `PRESETS`: `spo` or `tpma`.
            arguments: fields of this class.

        Raises:
            ValueError: the preset is unknown, or a value is not allowed.
        """
        if name not in PRESETS:
            raise ValueError(f"preset={name!r} is unknown; allowed are {', '.join(map(repr, PRESETS))}")
        return cls(**{**PRESETS[name].arguments, **arguments})


__all__ = ["SidGRPOConfig"]
