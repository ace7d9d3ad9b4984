"""Settings of self-distillation."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..sft.sft_config import SidSFTConfig


@dataclass
class SidDistillationConfig(SidSFTConfig):
    r"""[`SidSFTConfig`] with the terms of OneSearch-V2's self-distillation (arXiv 2603.24422, "Self-distillation").

    Defaults are the paper's unless said otherwise. A weight of 0 switches a term off, with the passes that it alone needs.

    Args:
        kl_weight (`float`, defaults to `0.1`):
            α_KL, weight of the forward KL(teacher ‖ student). A larger weight pulls the student's distribution closer to the teacher's.
        kl_temperature (`float`, defaults to `1.0`):
            τ. Both sides' logits are divided by τ, and the KL is multiplied by τ². A higher temperature gives unlikely codes more weight.
        kl_over_vocabulary (`bool`, defaults to `True`):
            Divide the KL by |V|, as the formula does. |V| is the size of the target's own softmax: the codes of its level, or the whole
            vocabulary for text. With 4096 codes the division makes the term small; False leaves it out (our option).
        r_drop_weight (`float`, defaults to `0.5`):
            α_R, weight of half the symmetric KL between two dropout passes of the student. Above 0 the student runs twice.
        focal_alpha (`float`, defaults to `2.0`):
            α of the focal cross entropy −α (1 − p)^γ log p. The paper names α and γ, not the form: this is RetinaNet's, without classes.
        focal_gamma (`float`, defaults to `3.0`):
            γ of the focal cross entropy. A larger γ lets easy targets count less; 0 (with α = 1) is plain cross entropy. With both
            values the loss lowered HR@10 on the demo by 0.026 [0.006, 0.045] (one seed).
        adversarial_weight (`float`, defaults to `1.0`):
            Weight of the cross entropy under FGM's perturbation. The formula adds it without a weight. Above 0 the student runs once more.
        adversarial_epsilon (`float`, defaults to `0.03`):
            ε, the L2 norm of the perturbation of one example's prompt embeddings, as a share of the mean norm of its tokens' embeddings. A
            larger ε makes the perturbed prompts harder, and a small model learns more slowly: on the demo, after 260 steps, 0.3 cost 0.056
            of validation HR@10, 0.1 cost 0.025 and 0.03 cost 0.008 (the last two within the interval of ±0.03). From 0.5 a warning is
            logged. The default is our choice, by this validation (docs/results.md, "Every option once").
        adversarial_relative (`bool`, defaults to `True`):
            Measure ε relative to the embeddings (our choice); False makes `adversarial_epsilon` the norm itself. The paper gives ε = 0.6
            as a norm, for batches of 512, and does not say over what the gradient is normalised, nor for which of its backbones (BART-base
            and GPT-2, both of width 768, and Qwen3-0.6B, of width 1024). The common variant of FGM normalises over the whole batch. An
            example's share is then about 0.6 / √512 = 0.027, a twentieth of the norm of a token's embedding (0.55 where it was drawn
            with a standard deviation of 0.02 at a width of 768). As the norm of each example, 0.6 is larger than the embedding, and at a
            width of 128 it reduced the model to the popularity of items.
        teacher_ce_weight (`float`, defaults to `0.0`):
            Weight of the teacher's own cross entropy. Above 0 the teacher learns, too (the authors' joint mode, whose released code leaves
            this term out). In the paper's best mode the teacher is detached: 0.

    Raises:
        ValueError: a weight, `focal_gamma` or `adversarial_epsilon` is negative, `kl_temperature` is not positive, `sid_smoothing`
            is not 0, or `torch_compile` is on with an adversarial term.
    """

    _VALID_DICT_FIELDS = SidSFTConfig._VALID_DICT_FIELDS

    kl_weight: float = field(default=0.1, metadata={"help": "Weight of KL(teacher || student)."})
    kl_temperature: float = field(default=1.0, metadata={"help": "Temperature of that KL."})
    kl_over_vocabulary: bool = field(default=True, metadata={"help": "Divide that KL by the size of the softmax."})
    r_drop_weight: float = field(default=0.5, metadata={"help": "Weight of the KL between two dropout passes."})
    focal_alpha: float = field(default=2.0, metadata={"help": "Factor of the focal cross entropy."})
    focal_gamma: float = field(default=3.0, metadata={"help": "Exponent of the focal cross entropy."})
    adversarial_weight: float = field(default=1.0, metadata={"help": "Weight of the loss under FGM's perturbation."})
    adversarial_epsilon: float = field(default=0.03, metadata={"help": "Size of FGM's perturbation."})
    adversarial_relative: bool = field(default=True, metadata={"help": "Measure that size relative to the embeddings' norm."})
    teacher_ce_weight: float = field(default=0.0, metadata={"help": "Weight of the teacher's own cross entropy."})

    def __post_init__(self) -> None:
        for name in (
            "kl_weight",
            "r_drop_weight",
            "focal_gamma",
            "adversarial_weight",
            "adversarial_epsilon",
            "teacher_ce_weight",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        if self.sid_smoothing:
            raise ValueError(
                f"sid_smoothing={self.sid_smoothing} does not apply to self-distillation, whose cross entropy is focal; set it to 0"
            )
        if self.kl_temperature <= 0:
            raise ValueError(f"kl_temperature={self.kl_temperature} must be positive")
        if self.history_dropout or self.item_dropout or self.history_cuts:
            raise ValueError(
                "history_dropout, item_dropout and history_cuts do not apply to self-distillation, whose teacher reads the same "
                "history; set them to 0"
            )
        if self.torch_compile and self.adversarial_weight:
            raise ValueError(
                f"torch_compile does not support the inner gradient that adversarial_weight={self.adversarial_weight} needs; set "
                "torch_compile to False or adversarial_weight to 0"
            )
        super().__post_init__()

    @property
    def has_teacher(self) -> bool:
        """Whether any term needs the teacher's prompts."""
        return bool(self.kl_weight or self.teacher_ce_weight)
