"""Preference stages of a run: the policy of its checkpoint in, a better one out, and the ranking fitted to it anew."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, TrainingArguments, set_seed
from transformers.trainer_utils import IntervalStrategy

from onesearch.data.market import Market
from onesearch.data.requests import request_rows
from onesearch.files import RunFolder, atomic_file, atomic_folder, read_json, write_json
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.serving.searcher import Searcher
from onesearch.views.reward.reward_folder import FOLDER_NAME as REWARD_NAME
from onesearch.views.reward.reward_folder import load_reward
from onesearch.views.session_views import LongViewTable, SessionViews, ViewTensors

from ..configs import TrainingConfig
from ..lora import lora_config
from ..models import SidModel
from ..preference.session_scores import SessionScorer, recombined
from ..reward.reward_config import RewardConfig
from ..reward.training import ranking_weights
from ..run_inputs import RunInputs, load_inputs
from ..stages import claim_folder
from ..validation import retrieval_metrics
from .data.beam_lists import BeamLists, Requests
from .data.interaction_lists import InteractionLists
from .data.lists import LIST_COLUMNS, Preferences
from .data.refreshed import ListMaker
from .data.report import lists_report, stored_lists
from .dpo_config import SidDPOConfig
from .dpo_trainer import ROUNDS_NAME, SidDPOTrainer
from .plots import PANELS, Panel, draw_training, plots_available
from .policy_quality import TopTen, joined
from .preference_config import PreferenceConfig, PreferenceStage

logger = logging.getLogger(__name__)

PREFERENCE_NAME = "preference.json"
"""File of a checkpoint that names the preference stages that its weights have passed."""

WEIGHTS = ("model.safetensors", "model-*.safetensors", "model.safetensors.index.json")
"""Patterns of the files that a stage replaces in the checkpoint."""

LISTS_REPORT = "lists.json"
"""File of a stage with the report of its lists."""


def preference_arguments(run: RunFolder, config: PreferenceConfig, number: int, progress: bool) -> SidDPOConfig:
    """Settings of a stage's trainer.

    Args:
        run: folder of the run.
        config: configuration of the stages.
        number: place of the stage in `config.stages`, from 0.
        progress: show progress bars.

    Raises:
        TypeError: a name in `arguments` is no field of the trainer's config.
        ValueError: a value is not allowed, or `max_steps` is missing.
    """
    stage = config.stages[number]
    return checked_arguments(SidDPOConfig, run, stage, {**config.arguments, **stage.arguments}, progress)


Arguments = TypeVar("Arguments", bound=TrainingArguments)


def checked_arguments(
    kind: type[Arguments], run: RunFolder, stage: PreferenceStage, values: Mapping[str, Any], progress: bool
) -> Arguments:
    """Settings of class `kind` from `values`, with the folder of the stage; without `max_steps` above 0 they are refused."""
    found = kind(**{"output_dir": str(run.training / stage.name), "disable_tqdm": not progress, **values})
    if found.max_steps <= 0:
        raise ValueError(
            f"preference stage {stage.name!r}: max_steps={found.max_steps} must be at least 1, because the policy makes its own "
            "examples; set it in the stage's arguments"
        )
    return found


class StageMethod(NamedTuple):
    """What differs between the kinds of stages.

    Args:
        arguments: makes the settings of a stage's trainer; see `preference_arguments`.
        train: trains a stage, with the arguments of `_train`, and leaves its weights in ``model/`` of its folder.
    """

    arguments: Callable[[RunFolder, PreferenceConfig, int, bool], Any]
    train: Callable[[RunFolder, TrainingConfig, PreferenceConfig, PreferenceStage, Any, bool], None]


def train_preference_stage(
    run: RunFolder,
    training: TrainingConfig,
    config: PreferenceConfig,
    number: int,
    reward: RewardConfig | None = None,
    resume: bool = False,
    progress: bool = True,
    method: StageMethod | None = None,
) -> None:
    """Train one stage and put its weights into the checkpoint, whole or not at all.

    Steps:
        1. Train from the weights that the stage before has left in the checkpoint. The stage's folder in ``training/`` holds the
           trainer's checkpoints, the lists of each round (``lists/``), the log, a report of the lists, plots if matplotlib is there, and,
           once it is done, the weights (``model/``).
        2. Replace the weights of the checkpoint, and note the stage in its ``preference.json``.
        3. Fit the weights of the reward model's ranking anew, since the policy's log-probability is one of its terms.

    Args:
        run: folder with a market, embeddings and a checkpoint with a reward model.
        training: configuration that the checkpoint was trained with.
        config: configuration of the stages.
        number: place of the stage in `config.stages`, from 0; those before it must be done.
        reward: configuration of the reward model; None takes the defaults.
        resume: use the stage's weights if it is done, and go on from its last checkpoint if it is not.
        progress: show progress bars.
        method: settings and training of the stage; None takes those of DPO.

    Raises:
        FileNotFoundError: an earlier step of the run is missing.
        ValueError: the checkpoint has passed this stage or a later one, an earlier one is missing, or a stage to resume was trained with
            another configuration.
    """
    method = method or StageMethod(preference_arguments, _train)
    stage, arguments = config.stages[number], method.arguments(run, config, number, progress)
    folder = Path(str(arguments.output_dir))
    checkpoint = run.require("checkpoint", "onesearch train")
    passed = passed_stages(checkpoint)
    names = [own.name for own in config.stages]
    if passed[:number] != names[:number] or (passed[number:] not in ([], [stage.name])):
        raise ValueError(
            f"{checkpoint} has passed the preference stages {passed}, and {stage.name!r} comes after {names[:number]}; train the "
            "checkpoint again, or run the stages in their order"
        )
    weights = folder / "model"
    claim_folder(folder, stage, resume)
    if resume and weights.exists():
        logger.info("stage %s: finished earlier", stage.name)
    else:
        if passed[number:]:
            raise ValueError(f"{checkpoint} has passed stage {stage.name!r}, but {weights} is gone; train the checkpoint again")
        method.train(run, training, config, stage, arguments, resume)
    _install(run, weights, [*names[:number], stage.name])
    _fit_ranking(run, reward or RewardConfig())


def passed_stages(checkpoint: Path) -> list[str]:
    """Names of the preference stages that a checkpoint's weights have passed, in order."""
    path = checkpoint / PREFERENCE_NAME
    return list(read_json(path)["stages"]) if path.is_file() else []


def _train(
    run: RunFolder,
    training: TrainingConfig,
    config: PreferenceConfig,
    stage: PreferenceStage,
    arguments: SidDPOConfig,
    resume: bool,
) -> None:
    set_seed(arguments.seed)
    inputs = load_inputs(run, training)
    model = load_policy(run.checkpoint)
    scorer = SessionScorer.of_run(run, inputs.builder.views.market, load_reward(run.checkpoint / REWARD_NAME), inputs.index)
    views = inputs.builder.views
    rows = request_rows(views.market, "train")
    maker, count = list_maker(stage, inputs, scorer, arguments, rows, config.requests)
    held_out = request_rows(views.market, "validation")[: config.validation_requests]
    eval_maker, eval_count = list_maker(
        replace(stage, recombined=0.0), inputs, scorer, arguments, held_out, config.validation_requests
    )
    eval_dataset = _with_lists(eval_maker(model, np.arange(eval_count))) if eval_count else None
    if eval_dataset is None or not len(eval_dataset):
        logger.warning("stage %s: the market has no validation list, so that training is not measured", stage.name)
        arguments.eval_strategy, arguments.eval_on_start, eval_dataset = IntervalStrategy.NO, False, None
    top_ten = TopTen(held_out, views, inputs.tokenizer, scorer, training.validation_beams)
    trainer = SidDPOTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict({"request": list(range(count))}),
        eval_dataset=eval_dataset,
        processing_class=inputs.tokenizer,
        retrieval_metrics=joined(retrieval_metrics(training, inputs), top_ten),
        long_view=LongViewTable(views, model.config.long_view_levels) if inputs.tokenizer.prompt.long_view_tokens else None,
        history=ViewTensors.of(views),
        peft_config=lora_config(config.lora, model) if config.lora is not None else None,
        list_maker=maker,
    )
    trainer.train(resume_from_checkpoint=resume)
    folder = Path(str(arguments.output_dir))
    if trainer.is_world_process_zero():
        write_json(folder / LISTS_REPORT, lists_report(stored_lists(folder / ROUNDS_NAME)))
    save_stage(trainer, stage.name, config.lora is not None, PANELS)


def save_stage(trainer: Any, name: str, adapted: bool, panels: Sequence[Panel]) -> None:
    """Write the log of a finished stage, its plots if matplotlib is there, and, last, its weights, into the folder of its trainer.

    Args:
        trainer: the trainer, which has trained.
        name: name of the stage.
        adapted: whether an adapter was trained; it is merged.
        panels: what the plots show.
    """
    trained = trainer.accelerator.unwrap_model(trainer.model)
    if adapted:
        trained = trained.merge_and_unload()
    folder = Path(str(trainer.args.output_dir))
    if trainer.is_world_process_zero():
        log = [{**entry, "stage": name} for entry in trainer.state.log_history]
        write_json(folder / "log.json", log)
        if plots_available():
            draw_training(folder, log, panels)
        with atomic_folder(folder / "model", replaces=["config.json"]) as temporary:
            trained.save_pretrained(temporary)
    trainer.accelerator.wait_for_everyone()


def load_policy(checkpoint: Path) -> SidModel:
    """The generator of a checkpoint, encoder-decoder or decoder-only."""
    encoder_decoder = bool(read_json(checkpoint / "config.json").get("is_encoder_decoder"))
    loaded: Any = (AutoModelForSeq2SeqLM if encoder_decoder else AutoModelForCausalLM).from_pretrained(checkpoint)
    model: SidModel = loaded
    return model


def list_maker(
    stage: PreferenceStage, inputs: RunInputs, scorer: SessionScorer, arguments: SidDPOConfig, rows: np.ndarray, most: int
) -> tuple[ListMaker, int]:
    """What makes the lists of a stage, and the number of its requests.

    Args:
        stage: configuration of the stage.
        inputs: inputs of the training.
        scorer: the reward model.
        arguments: settings of the trainer; its seed draws the requests, its formula gives the adaptive rewards.
        rows: rows of the sessions to draw requests from.
        most: largest number of requests.
    """
    views, tokenizer, formula = inputs.builder.views, inputs.tokenizer, arguments.reward_formula()
    random = np.random.default_rng([arguments.seed, 21])
    rows = np.sort(random.choice(rows, min(len(rows), most), replace=False))
    if stage.method == "interactions":
        answered = np.unique(np.concatenate([views.logs.own(name)[0] for name in ("clicked", "purchased")]))
        sessions = rows[np.isin(rows, answered)]
        leaf = scorer.parts.table.facets.leaf
        beams = stage.lists.num_beams
        return InteractionLists(sessions, views, tokenizer, leaf, stage.negatives, beams, formula, arguments.seed), len(
            sessions
        )
    requests = mixed_requests(rows, views, most, stage.recombined, arguments.seed)
    return BeamLists(requests, views, tokenizer, scorer, stage.lists, formula), len(requests.sessions)


def mixed_requests(rows: np.ndarray, views: SessionViews, most: int, share: float, seed: int) -> Requests:
    """At most `most` requests, a `share` of which asks queries of other sessions; see `recombined`.

    Args:
        rows: rows of the sessions to draw from.
        views: views of the market's sessions.
        most: largest number of requests.
        share: share of recombined requests, from 0 to 1.
        seed: seeds the draws.
    """
    users, queries = recombined(rows, views.logs.query_rows, most if share else 0, seed)
    kept = int(most * share)
    own = rows[: most - kept] if share < 1 else rows[:0]
    return Requests(np.concatenate([own, users[:kept]]), np.concatenate([own, queries[:kept]]))


def _with_lists(table: pa.Table) -> Dataset:
    """The rows of a table that hold a list."""
    rows = table.select(list(LIST_COLUMNS[1:])).to_pylist()
    kept = [Preferences(*(np.asarray(row[name]) for name in LIST_COLUMNS[1:])).pairs.any() for row in rows]
    return Dataset(table.filter(pa.array([bool(one) for one in kept])))


def _install(run: RunFolder, weights: Path, stages: Sequence[str]) -> None:
    """Replace the weights of the checkpoint by those of a stage."""
    parts = [*WEIGHTS, PREFERENCE_NAME]
    with atomic_folder(run.checkpoint, replaces=[SID_INDEX_NAME], parts=parts) as folder:
        for pattern in WEIGHTS:
            for path in weights.glob(pattern):
                shutil.copy2(path, folder / path.name)
        write_json(folder / PREFERENCE_NAME, {"stages": list(stages)})


def _fit_ranking(run: RunFolder, config: RewardConfig) -> None:
    """Choose the weights of the reward model's ranking on hits of the checkpoint's policy, and keep everything else of it."""
    searcher = Searcher.from_pretrained(run.checkpoint, rerank=False, candidates="beam", text_weight=0.0, dense_weight=0.0)
    candidates = SearchConfig.from_pretrained(run.checkpoint).candidates
    path = run.checkpoint / REWARD_NAME / "reward.json"
    parts = load_reward(path.parent)
    found = ranking_weights(parts, searcher, Market.load(run.require("market", "onesearch data")), config, candidates)
    logger.info("reward model: %s", found)
    settings: dict[str, Any] = read_json(path)
    with atomic_file(path) as temporary:
        write_json(temporary, {**settings, "weights": asdict(found)})


__all__ = [
    "LISTS_REPORT",
    "PREFERENCE_NAME",
    "StageMethod",
    "checked_arguments",
    "list_maker",
    "load_policy",
    "mixed_requests",
    "passed_stages",
    "preference_arguments",
    "save_stage",
    "train_preference_stage",
]
