"""Settings of supervised fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass, field

from trl import SFTConfig

from onesearch.devices import choose_device, use_one_gpu
from onesearch.modeling_onesearch.configuration_onesearch import SID_SOFTMAXES

from .number_checks import check_numbers

WEIGHT_AVERAGES = ("ema", "swa")
"""Kinds of averages of the weights."""


@dataclass
class SidSFTConfig(SFTConfig):
    r"""TRL's [`~trl.SFTConfig`] with defaults that fit small models from scratch.

    The defaults of these fields differ from TRL's. They are our choice where no paper is named.

    Args:
        learning_rate (`float`, defaults to `1e-3`):
            Peak learning rate, chosen for small models trained from scratch. The paper trains BART-base with 5e-5 (PRQ-KMeans, "as in
            OneSearch"). On the demo, whose recipe has 2e-3, this default cost 0.020 [0.000, 0.038] of HR@10, the paper's 5e-5 nearly all of
            it (0.012 is left after three epochs), and no warm-up 0.035 [0.014, 0.056].
        bf16 (`bool`, *optional*):
            Mixed precision. Default: on where the device supports it (TRL: always on). On a CPU bf16 is several times slower than float32.
        gradient_checkpointing (`bool`, defaults to `False`):
            Recompute activations in the backward pass. It saves memory, which short prompts do not need, and costs a third of the speed.
        max_length (`int`, *optional*, defaults to `None`):
            Not used: prompts are cut when they are rendered.
        sid_softmax (`str`, *optional*):
            Sets the model's `sid_softmax`, the set of codes that a Semantic ID's token competes with in the loss: all codes of its
            `"level"` (the paper's choice), or the `"children"` that the catalogue's trie allows after the codes before it, as in the
            search (our choice). With `"children"` the model need not learn which SIDs exist, but it then gets no training signal against
            unused codes, which matters for SIDs that are appended later. Default: the model's own.
        history_dropout (`float`, defaults to 0):
            Probability that a training prompt shows none of the user's recent items. A larger share teaches the model more of users without
            a history, and less of the others. Signatures of users and the long view stay.
        item_dropout (`float`, defaults to 0):
            Probability of each recent item to be left out of a training prompt, drawn anew in every epoch.
        history_cuts (`float`, defaults to 0):
            Probability that the recent items of a training prompt are cut to a random run of successive ones.
        sid_smoothing (`float`, defaults to `0.0`):
            ε, label smoothing over the trie's children: the share of each code's label that is spread evenly over the codes that the
            catalogue's trie allows after the codes before it; see `onesearch.trainers.sft.objectives`. A larger ε makes the model less sure
            of the observed items. TRL's `label_smoothing_factor`, which spreads over the whole vocabulary, must stay 0.
        weight_average (`str`, *optional*):
            Average the weights of the steps: `"ema"` exponentially, `"swa"` equally (stochastic weight averaging, arXiv 1803.05407).
            Evaluations, and the end of the training, use the average; checkpoints hold both. Default: no average.
        ema_decay (`float`, defaults to `0.999`):
            Weight of the old average at each step of `"ema"`; in the first n steps at most (1 + n) / (10 + n). A larger decay averages over
            more steps, about 1 / (1 − decay).
        average_from (`float`, defaults to `0.5`):
            Share of the steps after which averaging begins. Earlier weights are worse; a larger share averages over fewer steps.
        train_sampling_strategy (`str`, defaults to `"random"`):
            `"group_by_length"` pads less and is up to 1.3 times as fast, but learns less from the same examples (docs/training.md,
            "Batches").
        report_to (`str`, defaults to `"none"`):
            Integration of transformers that metrics are reported to.
        ddp_find_unused_parameters (`bool`, defaults to `False`):
            Search for parameters without a gradient. Every parameter takes part in every step, and the search costs a pass over the graph.
        average_tokens_across_devices (`bool`, defaults to `True`, as in TRL):
            Divide by the targets of all processes, so their loss is that of one process with their joint batch.
        torch_compile (`bool`, defaults to `False`, as in TRL):
            Compile the backbone. The graph ends before the head, whose shapes change with the targets.

    Raises:
        ValueError: `sid_softmax` or `weight_average` is unknown, the loss is not TRL's `nll` without label smoothing, `packing` or
            `padding_free` is on, or a number is not finite or out of its range.
    """

    _VALID_DICT_FIELDS = SFTConfig._VALID_DICT_FIELDS

    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate."})
    bf16: bool | None = field(  # type: ignore[assignment]  # TRL fills in None alike, transformers' stub says bool
        default=None, metadata={"help": "Mixed precision; default: where the device has it."}
    )
    gradient_checkpointing: bool = field(default=False, metadata={"help": "Recompute activations in the backward pass."})
    max_length: int | None = field(default=None, metadata={"help": "Not used: prompts are cut when they are rendered."})
    sid_softmax: str | None = field(
        default=None, metadata={"help": "Codes that a SID token competes with: level or children. Default: the model's own."}
    )
    history_dropout: float = field(default=0.0, metadata={"help": "Share of training prompts without recent items."})
    item_dropout: float = field(default=0.0, metadata={"help": "Share of recent items that are left out of training prompts."})
    history_cuts: float = field(default=0.0, metadata={"help": "Share of histories that are cut to a random run of items."})
    sid_smoothing: float = field(default=0.0, metadata={"help": "Share of a label that is spread over the trie's children."})
    weight_average: str | None = field(default=None, metadata={"help": "Average of the steps' weights: ema or swa."})
    ema_decay: float = field(default=0.999, metadata={"help": "Weight of the old average at each step."})
    average_from: float = field(default=0.5, metadata={"help": "Share of the steps after which averaging begins."})
    train_sampling_strategy: str = field(default="random", metadata={"help": "How training examples are drawn."})
    report_to: str | list[str] = field(default="none", metadata={"help": "Where metrics are reported to."})

    ddp_find_unused_parameters: bool | None = field(default=False, metadata={"help": "Search for unused parameters."})

    def __post_init__(self) -> None:
        choose_device(self)
        if self.sid_softmax is not None and self.sid_softmax not in SID_SOFTMAXES:
            raise ValueError(f"sid_softmax={self.sid_softmax!r}: allowed are {' and '.join(map(repr, SID_SOFTMAXES))}")
        if self.loss_type != "nll" or self.label_smoothing_factor:
            raise ValueError(
                f"loss_type={self.loss_type!r}, label_smoothing_factor={self.label_smoothing_factor}: the loss is the model's own; set "
                "them to 'nll' and 0 (sid_smoothing smooths labels over the trie's children)"
            )
        check_regularisation(self.sid_smoothing, self.weight_average, self.ema_decay, self.average_from)
        for name in ("history_dropout", "item_dropout", "history_cuts"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)}: a probability lies between 0 and 1")
        if self.packing or self.padding_free:
            raise ValueError(
                "packing and padding_free are not supported, because every example is a prompt with one target; set both to False"
            )
        if self.activation_checkpointing is None:  # the new name of the same field; transformers warns of the old one alone
            self.activation_checkpointing = self.gradient_checkpointing
        super().__post_init__()
        use_one_gpu(self)
        check_numbers(self)


def check_regularisation(smoothing: float, weight_average: str | None, ema_decay: float, average_from: float) -> None:
    """Refuse values of label smoothing and weight averaging that are out of range."""
    if not 0 <= smoothing < 1:
        raise ValueError(f"sid_smoothing={smoothing} is invalid; give a share from 0 to below 1")
    if weight_average is not None and weight_average not in WEIGHT_AVERAGES:
        raise ValueError(f"weight_average={weight_average!r}: allowed are {' and '.join(map(repr, WEIGHT_AVERAGES))}")
    for name, value in (("ema_decay", ema_decay), ("average_from", average_from)):
        if not 0 <= value < 1:
            raise ValueError(f"{name}={value} is invalid; give a number from 0 to below 1")
