"""The part ``training:`` of a recipe as dataclasses, which check their values when they are made.

Reading a recipe imports neither torch, transformers, TRL, PEFT nor datasets. The values in `arguments` and `distillation` are therefore
checked by `SidSFTConfig` and `SidDistillationConfig` only when the training starts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onesearch.tokenization_sid.templates import LANGUAGES, PromptLayout, template

from .soft.soft_config import SoftTargetConfig
from .tasks import STAGES, TASKS
from .unisearch.unisearch_config import UniSearchTrainingConfig

BACKBONES = ("bart", "qwen3")

WINDOWS = ("all", "last")

OWNED_ARGUMENTS = {
    "output_dir": "each stage has a folder in the run's training/",
    "logging_dir": "each stage logs into its folder in the run's training/",
    "disable_tqdm": "progress bars are switched by the command or by `train_run(progress=...)`",
    "resume_from_checkpoint": "a training is resumed with --resume or `train_run(resume=True)`",
}
"""Fields of transformers' training arguments that the run decides, and how; a recipe may not set them."""


FOLDER_NAME = re.compile(r"[^\W_][\w.-]*")
"""Names of stages: they name folders, so no separator and no leading dot is allowed."""


def refuse_owned_arguments(arguments: Mapping[str, Any], where: str) -> None:
    """Refuse arguments of the trainer that the run decides.

    Args:
        arguments: fields of `SidSFTConfig` by name.
        where: name of the place where they stand, for the error message.

    Raises:
        ValueError: one of them is among `OWNED_ARGUMENTS`.
    """
    owned = [name for name in arguments if name in OWNED_ARGUMENTS]
    if owned:
        raise ValueError(f"{where} sets {owned[0]}={arguments[owned[0]]!r}, but {OWNED_ARGUMENTS[owned[0]]}; leave it out")


@dataclass(frozen=True)
class ModelConfig:
    """Backbone and sizes of the model.

    The paper trains BART-base: d_model 768, 6 + 6 layers, 12 heads, ffn_dim 3072. The small defaults are our choice, for a processor
    without GPU.

    Args:
        backbone: ``bart`` (encoder-decoder) or ``qwen3`` (decoder-only, with `encoder_layers` + `decoder_layers` layers, which lowered
            HR@10 on the demo by 0.026 [0.002, 0.050] at equal epochs).
        checkpoint: folder or Hub id of a BART or Qwen3 checkpoint. Training starts from its weights and tokenizer, and the sizes below are
            the checkpoint's. None starts from random weights.
        text_vocab_size: size of the tokenizer that is trained on the market's texts, without the tokens of the Semantic IDs.
        d_model: width of the hidden states. A larger one tells more queries and histories apart and takes more time: on the demo 64 instead
            of 128 cost 0.084 [0.058, 0.108] of HR@10.
        encoder_layers: layers of the encoder.
        decoder_layers: layers of the decoder.
        attention_heads: heads of every attention layer; `d_model` must be divisible by it.
        ffn_dim: width of the feed-forward layers. A larger one fits more, and over-fits sooner: on the demo 512 instead of 256 cost 0.027
            [0.006, 0.048] of HR@10.
        dropout: dropout probability; for ``qwen3`` that of the attention weights.
        max_position_embeddings: longest prompt in tokens.
        long_view_layers: layers of the resampler that turns the long view into a few vectors. On the demo 1 layer lowered HR@10 by 0.021
            [0.001, 0.042] against no long view, and 2 by 0.016 [−0.005, 0.037].

    Raises:
        ValueError: `backbone` is unknown, a size is below 1, `d_model` is not divisible by the heads, or `dropout` is no probability.
    """

    backbone: str = "bart"
    checkpoint: str | None = None
    text_vocab_size: int = 4000
    d_model: int = 128
    encoder_layers: int = 2
    decoder_layers: int = 2
    attention_heads: int = 4
    ffn_dim: int = 512
    dropout: float = 0.1
    max_position_embeddings: int = 512
    long_view_layers: int = 2

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            raise ValueError(f"backbone={self.backbone!r}: allowed are {', '.join(BACKBONES)}")
        sizes = (
            "text_vocab_size", "d_model", "encoder_layers", "decoder_layers", "attention_heads", "ffn_dim", "max_position_embeddings",
            "long_view_layers",
        )  # fmt: skip
        _refuse_below(self, sizes, 1)
        _refuse_below(self, ("dropout",), 0)
        if self.d_model % self.attention_heads:
            raise ValueError(f"d_model={self.d_model} must be divisible by attention_heads={self.attention_heads}")
        if self.dropout >= 1:
            raise ValueError(f"dropout={self.dropout} must be below 1")


@dataclass(frozen=True)
class ExampleConfig:
    """How rows of the market become training examples.

    Args:
        windows: ``all`` makes an example of every session, whose prompt shows the history before it (the paper's sliding-window
            augmentation). ``last`` makes one of the last session of each user only, which lowered HR@10 on the demo by 0.105 [0.076, 0.131]
            (one seed).
        words: largest number of words in an `item-words` example; each example has between 1 and this many. 4 is our choice.
        copies: examples per item of the tasks with made queries (`item-words`, `item-facets`, `item-queries`, `item-matches`), each with
            another query. 1 is our choice.
        language: language of the task templates, ``en`` or ``zh``; None takes the market's (``zh`` for Chinese, else ``en``).
        seed: seeds the sampling of words, of fractions of tasks and of the order of streamed examples.

    Raises:
        ValueError: `windows` or `language` is unknown, or a number is out of range.
    """

    windows: str = "all"
    words: int = 4
    copies: int = 1
    language: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.windows not in WINDOWS:
            raise ValueError(f"windows={self.windows!r}: allowed are {', '.join(WINDOWS)}")
        if self.language is not None and self.language not in LANGUAGES:
            raise ValueError(f"language={self.language!r}: allowed are {', '.join(LANGUAGES)}")
        _refuse_below(self, ("words", "copies"), 1)
        _refuse_below(self, ("seed",), 0)


@dataclass(frozen=True)
class StageConfig:
    """One stage of the training: its tasks, and an optimiser and a schedule of its own.

    Args:
        name: name of the stage, and of its folder in ``training/``. The names in `STAGES` (the paper's stages) bring their tasks along.
        tasks: weight of each task; see `TASKS`. Weight 1 takes every example once an epoch, 2 twice, 0.5 a random half. On the demo
            purchases without `item-text-to-sid` cost 0.064 [0.040, 0.087] of HR@10, and clicks beside them gained 0.042 [0.018, 0.067].
        arguments: fields of `SidSFTConfig` for this stage; they override `TrainingConfig.arguments`.

    Raises:
        ValueError: the name is no plain name of a folder, the stage has no tasks, a task is unknown, a weight is not positive, or an
            argument is one of `OWNED_ARGUMENTS`.
    """

    name: str
    tasks: dict[str, float] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not FOLDER_NAME.fullmatch(self.name):
            raise ValueError(
                f"stage name {self.name!r} is no name of a folder; use letters, digits, '-', '_' and '.', and begin with a letter or digit"
            )
        refuse_owned_arguments(self.arguments, f"arguments of stage {self.name!r}")
        if not self.tasks and self.name not in STAGES:
            raise ValueError(
                f"stage {self.name!r} has no tasks: list some under `tasks`, or use one of the stages {', '.join(STAGES)}"
            )
        weights = dict(self.tasks) or dict.fromkeys(STAGES[self.name], 1.0)
        unknown = [task for task in weights if task not in TASKS]
        if unknown:
            raise ValueError(f"stage {self.name!r}: task {unknown[0]!r} is unknown; allowed are {', '.join(TASKS)}")
        wrong = {task: weight for task, weight in weights.items() if not weight > 0}
        if wrong:
            raise ValueError(f"stage {self.name!r}: weights {wrong} must be positive; leave a task out instead")
        object.__setattr__(self, "tasks", weights)

    @property
    def personal(self) -> bool:
        """Whether the stage trains on requests with their users, so that requests of the validation split can measure it."""
        return any(TASKS[task].rows == "requests" for task in self.tasks)


@dataclass(frozen=True)
class SidLoraConfig:
    """Sizes of a low-rank adapter (LoRA). No paper of this family publishes one: all defaults are our choice.

    An adapter is for a published checkpoint: on the demo's random weights it learned less than training all of them, by 0.093
    [0.070, 0.116] of HR@10.

    Args:
        r: rank of the updates. A higher rank trains more parameters and fits more.
        alpha: the updates are scaled by alpha / r.
        dropout: dropout probability on the inputs of the updates.
        target_modules: names of the linear modules that get an update; None takes every linear module of the attention and feed-forward
            layers.
        extra_modules: names of modules that are trained in full and saved with the adapter, for instance freshly added ones. The
            embedding and the head are refused: their weights are tied.

    Raises:
        ValueError: a number is out of range.
    """

    r: int = 16
    alpha: int = 32
    dropout: float = 0.05
    target_modules: tuple[str, ...] | None = None
    extra_modules: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _refuse_below(self, ("r", "alpha"), 1)
        _refuse_below(self, ("dropout",), 0)
        if self.dropout >= 1:
            raise ValueError(f"dropout={self.dropout} must be below 1")


@dataclass(frozen=True)
class TrainingConfig:
    """All stages of a training and what they share.

    Args:
        model: backbone and sizes of the model.
        prompt: the views of a user that prompts show; the defaults are the paper's.
        examples: how rows become examples.
        stages: stages, in order; the default is the paper's three.
        arguments: fields of `SidSFTConfig` for all stages; a stage's own arguments override them.
        lora: trains an adapter instead of all weights; it is merged into them at the end of each stage. None trains all weights.
        distillation: fields of `SidDistillationConfig`. The personalised stages then learn from a teacher whose prompts hold keywords
            (OneSearch-V2). ``{}`` takes all of its defaults, whose R-Drop needs a `dropout` of the model above 0. None trains without a
            teacher.
        keywords: parquet file with the teacher's keywords of each query, columns ``query`` and ``keywords``. None derives them from the
            market; see `onesearch.trainers.distillation.data`.
        soft_targets: a teacher over items, from whose masses the personalised stages learn beside the observed items; see
            `onesearch.trainers.soft`. None trains on the observed items alone.
        unisearch: joint training of UniSearch in place of the stages: item encoder, quantizer and search generator learn together, and
            the run needs no Semantic IDs before. `stages`, `lora`, `distillation`, `keywords`, `soft_targets` and `streaming` do not
            apply to it. ``{}`` takes all of its defaults. None trains the stages.
        streaming: makes the examples while they are read instead of storing them; each stage then needs `max_steps`.
        validation_requests: number of requests of the validation split that each evaluation searches. More make HR@10 and MRR@10 less
            noisy and the evaluation slower; 0 measures the loss only. Taking the best of three epochs by 200 of them lowered the test's
            HR@10 on the demo by 0.044 [0.024, 0.062], for they told the epochs apart badly.
        validation_beams: beams of these searches, at least 10, because a shorter list has no HR@10. More find more items and take more
            time.
        patience: number of evaluations in a row without a better mean of HR@10 and MRR@10 (without a lower loss, if nothing is searched)
            after which a personalised stage ends. Its weights are then those of the best evaluation, also where it was not ended early. A
            larger number takes more time and may find a later rise. Needs `eval_strategy`, and `save_strategy` alike. None trains every
            epoch and keeps the last weights.
        threads: threads of a process on a processor. The results depend on it, as sums are then cut differently. None leaves the number to
            torch, that is to ``OMP_NUM_THREADS`` or the cores of the machine.

    Raises:
        ValueError: there is no stage, two stages have the same name, an argument is one of `OWNED_ARGUMENTS`, a number is out of range, the
            prompt template is unknown, or soft targets are combined with self-distillation or streaming.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    prompt: PromptLayout = field(default_factory=PromptLayout)
    examples: ExampleConfig = field(default_factory=ExampleConfig)
    stages: tuple[StageConfig, ...] = tuple(StageConfig(name) for name in STAGES)
    arguments: dict[str, Any] = field(default_factory=dict)
    lora: SidLoraConfig | None = None
    distillation: dict[str, Any] | None = None
    keywords: str | None = None
    soft_targets: SoftTargetConfig | None = None
    unisearch: UniSearchTrainingConfig | None = None
    streaming: bool = False
    validation_requests: int = 500
    validation_beams: int = 20
    patience: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        refuse_owned_arguments(self.arguments, "training.arguments")
        refuse_owned_arguments(self.distillation or {}, "training.distillation")
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"stages={names}: at least one stage is needed, and no two may have the same name")
        template(self.prompt.name)
        if self.soft_targets is not None and (self.distillation is not None or self.streaming):
            other = "streaming" if self.streaming else "distillation"
            raise ValueError(f"soft_targets and {other} do not combine; leave one of them out")
        if self.unisearch is not None:
            self._check_unisearch()
        _refuse_below(self, ("validation_requests",), 0)
        _refuse_below(self, ("validation_beams",), 10)
        _refuse_below(self, tuple(name for name in ("patience", "threads") if getattr(self, name) is not None), 1)

    def _check_unisearch(self) -> None:
        """Refuse settings that the joint training of UniSearch does not have."""
        unused = {
            "lora": self.lora,
            "distillation": self.distillation,
            "keywords": self.keywords,
            "soft_targets": self.soft_targets,
            "streaming": self.streaming or None,
        }
        given = [name for name, value in unused.items() if value is not None]
        if given or self.model.backbone != "bart":
            what = f"training.{given[0]}" if given else f"training.model.backbone={self.model.backbone!r}"
            raise ValueError(f"{what} does not apply to training.unisearch, whose search generator is BART; leave it out")
        if self.prompt.needs_query_encoder or self.prompt.long_view_tokens or self.prompt.has_vectors:
            raise ValueError(
                "training.unisearch encodes items alone, and its codebooks move: set sid, query_vector and default_history to "
                "false, long_view_tokens to 0 and item_form to tokens in training.prompt"
            )


def _refuse_below(config: object, names: Sequence[str], least: int) -> None:
    """Refuse fields of a config that are smaller than `least`, or NaN."""
    for name in names:
        value = getattr(config, name)
        if not value >= least:
            raise ValueError(f"{name}={value} must be at least {least}")


__all__ = [
    "BACKBONES",
    "OWNED_ARGUMENTS",
    "WINDOWS",
    "ExampleConfig",
    "ModelConfig",
    "SidLoraConfig",
    "StageConfig",
    "TrainingConfig",
    "refuse_owned_arguments",
]
