"""Joint training of a run: a market in, Semantic IDs and a checkpoint out."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import set_seed
from transformers.trainer_utils import IntervalStrategy

from onesearch.files import RunFolder, atomic_folder, read_json, write_json
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.tokenization_sid.sids.plots import plots_available

from ..checkpoint_folder import check_target, replaced_files, save_checkpoint
from ..configs import TrainingConfig
from ..sft.sft_config import SidSFTConfig
from ..stages import STAGE_NAME, check_stage_folder, remove_stage
from ..validation import retrieval_metrics
from .building import MOVING, JointParts, build_parts
from .plots import PLOT_NAME, draw_history
from .publishing import publish_sids
from .unisearch_config import UniSearchTrainingConfig
from .unisearch_trainer import UniSearchTrainer

logger = logging.getLogger(__name__)

FOLDER_NAME = "1-unisearch"
"""Folder of the training in ``training/``."""


def unisearch_arguments(run: RunFolder, config: TrainingConfig, progress: bool) -> SidSFTConfig:
    """Settings of the trainer.

    Args:
        run: folder of the run.
        config: configuration of the training.
        progress: show progress bars.

    Raises:
        TypeError: a name in `config.arguments` is no field of `SidSFTConfig`.
        ValueError: a value is not allowed.
    """
    return SidSFTConfig(**{"output_dir": str(run.training / FOLDER_NAME), "disable_tqdm": not progress, **config.arguments})


def train_unisearch_run(
    run: RunFolder,
    config: TrainingConfig,
    search: SearchConfig | None = None,
    resume: bool = False,
    progress: bool = True,
    overwrite: bool = True,
) -> None:
    """Train UniSearch on ``market/`` of a run, publish ``sids/`` and write ``checkpoint/``, each whole or not at all.

    Args:
        run: folder of the run; embeddings are not read.
        config: configuration of the training, with `unisearch` set.
        search: search settings that are saved in the checkpoint; None saves the defaults.
        resume: use the weights of a training that is done, and go on from the last checkpoint of one that is not.
        progress: show progress bars.
        overwrite: as for `train_run`.

    Raises:
        FileExistsError: as for `train_run`.
        FileNotFoundError: the run has no market.
        ValueError: a setting is not allowed, there is nothing to learn from, or a training to resume had another configuration.
        TypeError: a name in `config.arguments` is no field of the trainer's config.
    """
    settings = config.unisearch or UniSearchTrainingConfig()
    arguments = unisearch_arguments(run, config, progress)
    folder = Path(str(arguments.output_dir))
    check_stage_folder(folder)
    check_target(run.checkpoint, overwrite or resume)
    set_seed(arguments.seed)
    parts = build_parts(run, config)
    if arguments.sid_softmax is not None:
        parts.model.config.sid_softmax = arguments.sid_softmax
    with arguments.main_process_first(desc="folder of the training"):
        if arguments.process_index == 0:
            _claim(folder, settings, resume)
    log = _train(parts, config, settings, arguments, resume)
    if log is None:
        return
    parts.model.eval()
    publish_sids(run, parts)
    with atomic_folder(run.checkpoint, replaces=[SID_INDEX_NAME], parts=replaced_files(run.checkpoint)) as temporary:
        save_checkpoint(temporary, parts.model, parts.inputs, search or SearchConfig())
    write_json(run.training / "log.json", log)


def _train(
    parts: JointParts, config: TrainingConfig, settings: UniSearchTrainingConfig, arguments: SidSFTConfig, resume: bool
) -> list[dict[str, Any]] | None:
    """Train the model of the parts, or give it the weights of a call that has finished the training.

    The folder holds the trainer's checkpoints, the configuration (``stage.json``), the log (``log.json``), a plot and, once the training is
    done, the weights (``model/``).

    Returns:
        The log; None in a process that is not the main one.
    """
    folder = Path(str(arguments.output_dir))
    weights = folder / "model"
    if resume and weights.exists():
        if arguments.process_index:
            return None
        logger.info("joint training: finished earlier")
        parts.model.load_state_dict(type(parts.model).from_pretrained(weights).state_dict())
        found: list[dict[str, Any]] = read_json(folder / "log.json")
        return found
    metrics = retrieval_metrics(config, parts.inputs)
    if metrics is None:
        arguments.eval_strategy = IntervalStrategy.NO
    logger.info(
        "%s examples, %s weak interactions dropped", f"{len(parts.examples):,}", f"{parts.examples.interactions.dropped:,}"
    )
    trainer = UniSearchTrainer(
        parts.model,
        arguments,
        settings,
        parts.examples,
        lambda codes: parts.make_index(codes, MOVING),
        parts.categories,
        metrics,
        processing_class=parts.inputs.tokenizer,
    )
    trainer.train(resume_from_checkpoint=resume)
    if not trainer.is_world_process_zero():
        return None
    trainer.finish()
    log: list[dict[str, Any]] = [{**entry, "stage": "unisearch"} for entry in trainer.state.log_history]
    write_json(folder / "log.json", log)
    if plots_available():
        draw_history([entry for entry in log if "sid_step" in entry], folder / PLOT_NAME)
    with atomic_folder(weights, replaces=["config.json"]) as temporary:
        parts.model.save_pretrained(temporary)
    return log


def _claim(folder: Path, settings: UniSearchTrainingConfig, resume: bool) -> None:
    """Write the configuration into the trainer's folder, or check that the folder was made with the same one."""
    path = folder / STAGE_NAME
    values = asdict(settings)
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    if resume and path.exists():
        if read_json(path) != values:
            raise ValueError(f"{folder} was trained with another configuration of training.unisearch; train without resume")
        return
    remove_stage(folder)
    write_json(path, values)


__all__ = ["FOLDER_NAME", "train_unisearch_run", "unisearch_arguments"]
