"""One stage of a training: its examples, its trainer, and its folder, which a resumed training finds again."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from datasets import Dataset, IterableDataset, concatenate_datasets
from transformers import EarlyStoppingCallback
from transformers.trainer_utils import IntervalStrategy

from onesearch.files import RunFolder, atomic_folder, read_json, write_json
from onesearch.views.session_views import LongViewTable, ViewTensors

from .configs import StageConfig, TrainingConfig
from .distillation.distillation_config import SidDistillationConfig
from .distillation.distillation_trainer import SidDistillationTrainer
from .lora import lora_config
from .models import SidModel
from .run_inputs import RunInputs
from .sft.data.stored import mixed_examples
from .sft.data.streaming import streamed_examples
from .sft.sft_config import SidSFTConfig
from .sft.sft_trainer import SidSFTTrainer
from .soft.soft_trainer import SidSoftTrainer
from .soft.unseen import unseen_examples
from .tasks import MADE_ROWS, STAGES, TASKS
from .trackers import refuse_missing_trackers
from .validation import BEST, retrieval_metrics

logger = logging.getLogger(__name__)

STAGE_NAME = "stage.json"
"""File with the configuration of a stage. It marks the folder of the stage, which alone may be removed."""

REMOVED = ".removed-"
"""First characters of the name of a stage's folder while it is removed."""

HELD_OUT = 2000
"""Largest number of examples of the validation split whose loss is measured at every evaluation."""


class TrainedStage(NamedTuple):
    """Result of a stage.

    Args:
        model: the trained model, without adapters.
        log: entries of the trainer's log, each with the name of the stage; empty in all processes but the main one.
    """

    model: SidModel
    log: list[dict[str, Any]]


def stage_arguments(run: RunFolder, config: TrainingConfig, number: int, progress: bool) -> SidSFTConfig:
    """Settings of a stage's trainer.

    Args:
        run: folder of the run.
        config: configuration of the training.
        number: place of the stage in `config.stages`, from 0.
        progress: show progress bars.

    Raises:
        TypeError: a name in `arguments` or `distillation` is no field of the trainer's config.
        ValueError: a value is not allowed, or examples are streamed without `max_steps`.
    """
    stage = config.stages[number]
    values: dict[str, Any] = {"output_dir": str(run.training / f"{number + 1}-{stage.name}"), "disable_tqdm": not progress}
    values |= config.arguments
    values |= stage.arguments
    if not stage.personal:
        values["eval_strategy"] = "no"
    elif config.patience is not None:
        searched = config.validation_requests > 0
        best = {"metric_for_best_model": BEST if searched else "loss", "greater_is_better": searched}
        values |= {"load_best_model_at_end": True, **best}
    if config.distillation is not None and stage.personal:
        arguments: SidSFTConfig = SidDistillationConfig(**{**values, **config.distillation})
    else:
        arguments = SidSFTConfig(**values)
    refuse_missing_trackers(arguments.report_to)
    if config.streaming and arguments.max_steps <= 0:
        raise ValueError(
            f"stage {stage.name!r}: streamed examples have no known number, so that epochs have no end; set max_steps in its arguments"
        )
    return arguments


def check_stage_folder(folder: Path) -> None:
    """Refuse a folder that holds files but was not made by a stage: a stage writes `STAGE_NAME` into its folder first.

    Raises:
        FileExistsError: the folder is a link or a file, or holds something else.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise FileExistsError(f"{folder} is no folder of a training stage but a link or a file; move it away")
    held = sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
    if held and STAGE_NAME not in held:  # one look at the folder: another process may be writing the file
        raise FileExistsError(
            f"{folder} was not made by a training stage (it has no {STAGE_NAME}, but holds {', '.join(held[:3])}); move it away"
        )


def remove_stage(folder: Path) -> None:
    """Remove the folder of a stage, which loses its name at once, so that a removal that is stopped leaves no half of a stage.

    Raises:
        FileExistsError: the folder was not made by a stage; see `check_stage_folder`.
    """
    for left in folder.parent.glob(f"{REMOVED}*"):
        shutil.rmtree(left, ignore_errors=True)
    check_stage_folder(folder)
    if folder.is_dir():
        removed = folder.with_name(f"{REMOVED}{folder.name}")
        os.replace(folder, removed)
        shutil.rmtree(removed)


def stages_with_examples(inputs: RunInputs, config: TrainingConfig, settings: Sequence[SidSFTConfig]) -> list[int]:
    """Make the examples of every stage before the first one trains; the stages find them stored.

    A stage without examples, for instance the personalised one of a market without sessions, is left out with one line. Streamed
    examples are not counted.

    Args:
        inputs: inputs of the training.
        config: configuration of the training.
        settings: settings of each stage's trainer.

    Returns:
        Places of the stages that have examples, from 0.

    Raises:
        ValueError: no stage has any example.
    """
    numbers = list(range(len(config.stages)))
    if config.streaming:
        return numbers
    counts = [len(_stored_examples(inputs, stage, arguments)) for stage, arguments in zip(config.stages, settings)]
    found = [number for number in numbers if counts[number]]
    tasks = {stage.name: ", ".join(stage.tasks) for stage in config.stages}
    if not found:
        listed = "; ".join(f"stage {name!r}: {wanted}" for name, wanted in tasks.items())
        raise ValueError(f"nothing to train on: the market has no examples of {listed}")
    for number in numbers:
        if not counts[number]:
            name = config.stages[number].name
            logger.warning("stage %s is left out: the market has no examples of %s", name, tasks[name])
    return found


def train_stage(
    model: SidModel,
    inputs: RunInputs,
    config: TrainingConfig,
    stage: StageConfig,
    arguments: SidSFTConfig,
    resume: bool,
) -> TrainedStage:
    """Train one stage, or load its model where an earlier call has finished it.

    Its folder holds the trainer's checkpoints, the configuration (``stage.json``), the log (``log.json``) and, once the stage is done, the
    weights (``model/``).

    Args:
        model: the model that the stage starts from.
        inputs: inputs of the training.
        config: configuration of the training.
        stage: configuration of the stage.
        arguments: settings of the trainer; see `stage_arguments`.
        resume: use the stage's weights if it is done, and go on from its last checkpoint if it is not.

    Raises:
        ValueError: a stage to resume was trained with another configuration.
    """
    folder = Path(str(arguments.output_dir))
    weights = folder / "model"
    with arguments.main_process_first(desc="claim the folder"):
        claim_folder(folder, stage, resume)
    if resume and weights.exists():
        logger.info("stage %s: finished earlier", stage.name)
        return TrainedStage(type(model).from_pretrained(weights), read_json(folder / "log.json"))
    trainer = _trainer(model, inputs, config, stage, arguments)
    trainer.train(resume_from_checkpoint=resume)
    trained = trainer.accelerator.unwrap_model(trainer.model)
    if config.lora is not None:
        trained = trained.merge_and_unload()
    log: list[dict[str, Any]] = []
    if trainer.is_world_process_zero():
        log = [{**entry, "stage": stage.name} for entry in trainer.state.log_history]
        write_json(folder / "log.json", log)
        with atomic_folder(weights, replaces=["config.json"]) as temporary:
            trained.save_pretrained(temporary)
    trainer.accelerator.wait_for_everyone()
    return TrainedStage(trained, log)


def claim_folder(folder: Path, stage: Any, resume: bool) -> None:
    """Write the configuration of a stage into its folder, or check that the folder was made with the same one."""
    check_stage_folder(folder)
    path = folder / STAGE_NAME
    if resume and path.exists():
        if read_json(path) != asdict(stage):
            raise ValueError(f"{folder} was trained with another configuration of stage {stage.name!r}; train without resume")
        return
    write_json(path, asdict(stage))


def _trainer(
    model: SidModel, inputs: RunInputs, config: TrainingConfig, stage: StageConfig, arguments: SidSFTConfig
) -> SidSFTTrainer:
    with arguments.main_process_first(desc="examples"):
        train = _training_examples(inputs, config, stage, arguments)
        held_out = _held_out_examples(inputs, stage, arguments)
    if held_out is None and arguments.eval_strategy != IntervalStrategy.NO:
        logger.warning("stage %s: the market has no validation example, so that training is not measured", stage.name)
        arguments.eval_strategy, arguments.load_best_model_at_end = IntervalStrategy.NO, False
    callbacks = []
    if config.patience is not None and arguments.load_best_model_at_end:
        callbacks.append(EarlyStoppingCallback(config.patience))
    logger.info("stage %s: %s examples", stage.name, f"{len(train):,}" if isinstance(train, Dataset) else "streamed")
    long_view = None
    if inputs.tokenizer.prompt.long_view_tokens:
        long_view = LongViewTable(inputs.builder.views, model.config.long_view_levels)
    trainer_class: type[SidSFTTrainer] = SidSFTTrainer
    taught: dict[str, Any] = {}
    if isinstance(arguments, SidDistillationConfig):
        trainer_class = SidDistillationTrainer
    elif _is_taught(inputs, stage):
        trainer_class = SidSoftTrainer
        taught = {"soft_targets": config.soft_targets, "lists": inputs.lists, "item_sids": inputs.builder.views.item_sids}
    return trainer_class(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=held_out,
        processing_class=inputs.tokenizer,
        long_view=long_view,
        history=ViewTensors.of(inputs.builder.views),
        peft_config=lora_config(config.lora, model) if config.lora is not None else None,
        retrieval_metrics=retrieval_metrics(config, inputs) if stage.personal else None,
        callbacks=callbacks,
        **taught,
    )


def _is_taught(inputs: RunInputs, stage: StageConfig) -> bool:
    """Whether a teacher over items has lists for some of the stage's examples."""
    has_made = any(TASKS[name].rows in MADE_ROWS for name in stage.tasks)
    return (inputs.lists is not None and stage.personal) or (inputs.builder.made_lists > 0 and has_made)


def _training_examples(
    inputs: RunInputs, config: TrainingConfig, stage: StageConfig, arguments: SidSFTConfig
) -> Dataset | IterableDataset:
    if config.streaming:
        return streamed_examples(inputs.builder, stage.tasks, "train")
    examples = _stored_examples(inputs, stage, arguments)
    unseen = unseen_examples(inputs.builder, inputs.lists) if inputs.lists is not None and stage.personal else None
    return examples if unseen is None else concatenate_datasets([examples, unseen])


def _stored_examples(inputs: RunInputs, stage: StageConfig, arguments: SidSFTConfig) -> Dataset:
    return mixed_examples(inputs.builder, stage.tasks, "train", _examples_folder(arguments))


def _held_out_examples(inputs: RunInputs, stage: StageConfig, arguments: SidSFTConfig) -> Dataset | None:
    """Examples of the validation split for the tasks on requests; None if there are none."""
    if not stage.personal:
        return None
    tasks = [task for task in stage.tasks if task in STAGES["personalised"]]
    examples = mixed_examples(inputs.builder, dict.fromkeys(tasks, 1.0), "validation", _examples_folder(arguments))
    return examples.select(range(min(HELD_OUT, len(examples)))) if len(examples) else None


def _examples_folder(arguments: SidSFTConfig) -> Path:
    """Folder of stored examples, which all stages of a run share."""
    return Path(str(arguments.output_dir)).parent / "examples"


__all__ = [
    "HELD_OUT",
    "TrainedStage",
    "check_stage_folder",
    "remove_stage",
    "stage_arguments",
    "stages_with_examples",
    "train_stage",
]
