"""The part ``training:`` of a recipe as dataclasses, which check their values when they are made.

Reading a recipe imports neither torch, transformers, TRL, PEFT nor datasets. The values in `arguments` and `distillation` are therefore
checked by `SidSFTConfig` and `SidDistillationConfig` only when the training starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from onesearch.tokenization_sid.templates import PromptLayout

from .tasks import STAGES, TASKS

BACKBONES = ("bart", "qwen3")

WINDOWS = ("all", "last")


@dataclass(frozen=True)
class ModelConfig:
    """Backbone and sizes of the model.

    The paper trains BART-base: d_model 768, 6 + 6 layers, 12 heads, ffn_dim 3072. The small defaults are our choice, for a processor
    without GPU.

    Args:
        backbone: ``bart`` (encoder-decoder) or ``qwen3`` (decoder-only, with `encoder_layers` + `decoder_layers` layers).
        checkpoint: folder or Hub id of a BART or Qwen3 checkpoint. Training starts from its weights and tokenizer, and the sizes below are
            the checkpoint's. None starts from random weights.
        text_vocab_size: size of the tokenizer that is trained on the market's texts, without the tokens of the Semantic IDs.
        d_model: width of the hidden states.
        encoder_layers: layers of the encoder.
        decoder_layers: layers of the decoder.
        attention_heads: heads of every attention layer; `d_model` must be divisible by it.
        ffn_dim: width of the feed-forward layers.
        dropout: dropout probability; for ``qwen3`` that of the attention weights.
        max_position_embeddings: longest prompt in tokens.
        long_view_layers: layers of the resampler that turns the long view into a few vectors.

    Raises:
        ValueError: `backbone` is unknown.
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


@dataclass(frozen=True)
class ExampleConfig:
    """How rows of the market become training examples.

    Args:
        windows: ``all`` makes an example of every session, whose prompt shows the history before it (the paper's sliding-window
            augmentation). ``last`` makes one of the last session of each user only.
        words: largest number of words in an `item-words` example; each example has between 1 and this many. 4 is our choice.
        copies: `item-words` examples per item, each with other words. 1 is our choice.
        language: language of the task templates, ``en`` or ``zh``; None takes the market's (``zh`` if it is Chinese, else ``en``).
        seed: seeds the sampling of words, of fractions of tasks and of the order of streamed examples.

    Raises:
        ValueError: `windows` is unknown.
    """

    windows: str = "all"
    words: int = 4
    copies: int = 1
    language: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.windows not in WINDOWS:
            raise ValueError(f"windows={self.windows!r}: allowed are {', '.join(WINDOWS)}")


@dataclass(frozen=True)
class StageConfig:
    """One stage of the training: its tasks, and an optimiser and a schedule of its own.

    Args:
        name: name of the stage, and of its folder in ``training/``. The names in `STAGES` (the paper's stages) bring their tasks along.
        tasks: weight of each task; see `TASKS`. Weight 1 takes every example once an epoch, 2 twice, 0.5 a random half.
        arguments: fields of `SidSFTConfig` for this stage; they override `TrainingConfig.arguments`.

    Raises:
        ValueError: the stage has no tasks, a task is unknown, or a weight is not positive.
    """

    name: str
    tasks: dict[str, float] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
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

    Args:
        r: rank of the updates. A higher rank trains more parameters and fits more.
        alpha: the updates are scaled by alpha / r.
        dropout: dropout probability on the inputs of the updates.
        target_modules: names of the linear modules that get an update; None takes every linear module of the attention and feed-forward
            layers.
        extra_modules: names of modules that are trained in full and saved with the adapter, for instance freshly added ones. The
            embedding and the head are refused: their weights are tied.
    """

    r: int = 16
    alpha: int = 32
    dropout: float = 0.05
    target_modules: tuple[str, ...] | None = None
    extra_modules: tuple[str, ...] = ()


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
            (OneSearch-V2). None trains without a teacher.
        keywords: parquet file with the teacher's keywords of each query, columns ``query`` and ``keywords``. None derives them from the
            market; see `onesearch.trainers.distillation.data`.
        streaming: makes the examples while they are read instead of storing them; each stage then needs `max_steps`.
        validation_requests: number of requests of the validation split that each evaluation searches. More make HR@10 and MRR@10 less
            noisy and the evaluation slower; 0 measures the loss only.
        validation_beams: beams of these searches.

    Raises:
        ValueError: there is no stage, or two stages have the same name.
    """

    model: ModelConfig = field(default_factory=ModelConfig)
    prompt: PromptLayout = field(default_factory=PromptLayout)
    examples: ExampleConfig = field(default_factory=ExampleConfig)
    stages: tuple[StageConfig, ...] = tuple(StageConfig(name) for name in STAGES)
    arguments: dict[str, Any] = field(default_factory=dict)
    lora: SidLoraConfig | None = None
    distillation: dict[str, Any] | None = None
    keywords: str | None = None
    streaming: bool = False
    validation_requests: int = 500
    validation_beams: int = 20

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"stages={names}: at least one stage is needed, and no two may have the same name")


__all__ = ["BACKBONES", "WINDOWS", "ExampleConfig", "ModelConfig", "SidLoraConfig", "StageConfig", "TrainingConfig"]
