"""Training of a run: tables and codes in, a checkpoint out, by way of one or several stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import set_seed

from onesearch.files import RunFolder, atomic_folder, write_json
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.tokenization_sid.parallel.threads import fixed_threads

from .checkpoint_folder import check_target, replaced_files, save_checkpoint
from .configs import TrainingConfig
from .distillation.distillation_config import SidDistillationConfig
from .distillation.dropout_check import refuse_r_drop_without_dropout
from .lora import lora_config
from .models import SidModel, build_model, longest_prompt
from .run_inputs import RunInputs, load_inputs
from .sft.sft_config import SidSFTConfig
from .soft.making import make_lists
from .stages import check_stage_folder, remove_stage, stage_arguments, stages_with_examples, train_stage
from .unisearch.training import train_unisearch_run


def train_run(
    run: RunFolder,
    config: TrainingConfig,
    search: SearchConfig | None = None,
    resume: bool = False,
    progress: bool = True,
    overwrite: bool = True,
) -> None:
    """Train on ``market/`` and ``sids/`` of a run and write ``checkpoint/``, whole or not at all.

    Each stage has a folder in ``training/``; see `train_stage`. Without `resume` these folders are removed first, but only after settings,
    inputs, model and the examples of all stages have been made, and only if a stage made them. A stage without examples is left out.

    Args:
        run: folder of the run.
        config: configuration of the training.
        search: search settings that are saved in the checkpoint; None saves the defaults. The searches of an evaluation during training
            use `config.validation_beams` instead.
        resume: skip stages that are done, and go on from the last checkpoint of the first one that is not.
        progress: show progress bars.
        overwrite: replace a checkpoint that the run has; without it, such a run is refused unless `resume`.

    Raises:
        FileExistsError: a stage's folder, or ``checkpoint/``, holds something else; or there is a checkpoint, and neither `overwrite` nor
            `resume`.
        FileNotFoundError: an earlier stage of the run is missing.
        ValueError: a setting is not allowed, there is nothing to train on, or a stage to resume was trained with another configuration.
        TypeError: a name in `config.arguments` is no field of the trainer's config.
    """
    with fixed_threads(config.threads):
        if config.unisearch is not None:
            train_unisearch_run(run, config, search, resume, progress, overwrite)
        else:
            _train(run, config, search, resume, progress, overwrite)


def _train(
    run: RunFolder, config: TrainingConfig, search: SearchConfig | None, resume: bool, progress: bool, overwrite: bool
) -> None:
    settings = [stage_arguments(run, config, number, progress) for number in range(len(config.stages))]
    folders = [Path(str(arguments.output_dir)) for arguments in settings]
    for folder in folders:
        check_stage_folder(folder)
    check_target(run.checkpoint, overwrite or resume)
    first = settings[0]
    set_seed(first.seed)
    inputs = _with_lists(run, config, load_inputs(run, config), first.seed)
    vectors = inputs.builder.views.query_vectors
    size = 0 if vectors is None else vectors.shape[1]
    model = build_model(config.model, inputs.tokenizer, inputs.index, inputs.centroids, inputs.history_table, size)
    if config.lora is not None:
        lora_config(config.lora, model)  # refuses modules that the model lacks
    _check_r_drop(settings, config, model)
    inputs.tokenizer.model_max_length = longest_prompt(model)
    with first.main_process_first(desc="examples"):
        numbers = stages_with_examples(inputs, config, settings)
    with first.main_process_first(desc="remove the stages of an earlier training"):
        if not resume and first.process_index == 0:
            for folder in folders:
                remove_stage(folder)
    log: list[dict[str, Any]] = []
    for number in numbers:
        model, entries = train_stage(model, inputs, config, config.stages[number], settings[number], resume)
        log += entries
    if first.process_index == 0:
        with atomic_folder(run.checkpoint, replaces=[SID_INDEX_NAME], parts=replaced_files(run.checkpoint)) as folder:
            save_checkpoint(folder, model, inputs, search or SearchConfig())
        write_json(run.training / "log.json", log)


def prepare_teacher(run: RunFolder, config: TrainingConfig) -> None:
    """Make the lists of a run's teacher over items, unless there are some: one process does so before several train."""
    if config.soft_targets is not None:
        with fixed_threads(config.threads):
            make_lists(run, load_inputs(run, config).builder.views, config.soft_targets)


def _with_lists(run: RunFolder, config: TrainingConfig, inputs: RunInputs, seed: int) -> RunInputs:
    """The inputs with the lists of the teacher over items, if there is one. Random numbers then begin anew, as without the lists."""
    if config.soft_targets is None:
        return inputs
    if config.soft_targets.made_queries:
        inputs.builder.made_lists = config.soft_targets.items
    lists = make_lists(run, inputs.builder.views, config.soft_targets)
    if lists is not None:
        inputs.builder.requests = lists.number_of(len(inputs.builder.market.sessions))
    set_seed(seed)
    return replace(inputs, lists=lists)


def _check_r_drop(settings: Sequence[SidSFTConfig], config: TrainingConfig, model: SidModel) -> None:
    """Refuse R-Drop for a model without dropout before the first stage trains, not when the stage that uses it begins."""
    adapter_dropout = config.lora.dropout if config.lora is not None else 0.0
    for arguments in settings:
        if isinstance(arguments, SidDistillationConfig):
            refuse_r_drop_without_dropout(arguments, model, model.config, adapter_dropout)


__all__ = ["prepare_teacher", "train_run"]
