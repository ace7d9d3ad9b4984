"""The training stage of a run: tables and codes in, a checkpoint out, by way of one or several stages of supervised fine-tuning."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, IterableDataset
from transformers import PreTrainedModel, set_seed

from onesearch.data.market import Market
from onesearch.data.requests import Request, build_requests, request_rows
from onesearch.data.text import item_texts
from onesearch.evaluation.evaluator import evaluate, sample_requests
from onesearch.files import RunFolder, atomic_folder, read_json, write_json
from onesearch.modeling_onesearch.index_onesearch import SID_INDEX_NAME, SidIndex
from onesearch.serving.searcher import QUERY_ENCODER_NAME, Searcher
from onesearch.tokenization_sid.embedding.embeddings import distinct_queries
from onesearch.tokenization_sid.quantizers.loading import load_quantizer
from onesearch.tokenization_sid.sids.code_files import load_codes
from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer
from onesearch.views.default_histories import FILE_NAME as DEFAULTS_NAME
from onesearch.views.default_histories import DefaultHistories
from onesearch.views.session_views import LongViewTable, SessionViews

from .configs import StageConfig, TrainingConfig
from .distillation.data import given_keywords, query_keywords
from .distillation.distillation_config import SidDistillationConfig
from .distillation.distillation_trainer import SidDistillationTrainer
from .lora import lora_config
from .models import build_model, build_tokenizer
from .sft.data.examples import ExampleBuilder, mixed_examples, streamed_examples
from .sft.sft_config import SidSFTConfig
from .sft.sft_trainer import SidSFTTrainer
from .tasks import STAGES

logger = logging.getLogger(__name__)

HELD_OUT = 2000
"""Examples of the validation split at most whose loss is measured at every evaluation."""


@dataclass(frozen=True)
class _Parts:
    """What all stages share."""

    market: Market
    builder: ExampleBuilder
    tokenizer: SidTokenizer
    held_out: Sequence[Request]
    query_encoder: SidEncoder | None
    defaults: DefaultHistories | None


def train_run(run: RunFolder, plan: TrainingConfig, resume: bool = False, progress: bool = True) -> None:
    """Train on ``market/`` and ``sids/`` of a run and write ``checkpoint/``, whole or not at all.

    Every stage has a folder in ``training/`` with the trainer's checkpoints, its plan and, once it is done, its weights.

    Args:
        resume: skip stages that are done, and go on with the next from its last checkpoint.
        progress: show progress bars.

    Raises:
        FileNotFoundError: an earlier stage of the run is missing.
        ValueError: there is nothing to train on, or a stage to resume was planned otherwise.
    """
    arguments = [_arguments(run, plan, number, progress) for number in range(len(plan.stages))]
    set_seed(arguments[0].seed)
    model, parts = _prepare(run, plan)
    with arguments[0].main_process_first(desc="clear what an earlier training left"):
        if not resume and arguments[0].process_index == 0:
            for folder in (Path(one.output_dir) for one in arguments):
                shutil.rmtree(folder, ignore_errors=True)
    log: list[dict[str, Any]] = []
    for stage, own in zip(plan.stages, arguments):
        model = _train_stage(model, parts, plan, stage, own, resume, log)
    if arguments[0].process_index == 0:
        with atomic_folder(run.checkpoint) as folder:
            _save_checkpoint(folder, model, parts)
        write_json(run.training / "log.json", log)


def _prepare(run: RunFolder, plan: TrainingConfig) -> tuple[PreTrainedModel, _Parts]:
    market = Market.load(run.require("market", "onesearch data"))
    sids = run.require("sids", "onesearch sids build")
    index = SidIndex.load(sids / SID_INDEX_NAME)
    layout = plan.prompt
    queries, query_sids = distinct_queries(market), None
    if layout.needs_query_sids or any(task.startswith("query") for stage in plan.stages for task in stage.tasks):
        codes = load_codes(run, "queries")
        query_sids = np.where(codes.known[:, None], codes.codes, -1)
    views = SessionViews(market, index, layout, queries, query_sids)
    asked = np.unique(views.logs.query_rows[request_rows(market, "train")])
    texts = item_texts(market) + views.logs.queries[asked].tolist()
    tokenizer = build_tokenizer(plan.model, layout, index, texts)
    centroids = load_quantizer(sids).level_centroids if layout.long_view_tokens else ()
    model = build_model(plan.model, tokenizer, index, centroids)
    builder = ExampleBuilder(views, tokenizer, plan.examples, run.market)
    if plan.distillation is not None:
        builder.keywords = _teacher_keywords(run, plan, builder)
    return model, _Parts(
        market,
        builder,
        tokenizer,
        [request for request in build_requests(market, "validation") if request.purchased],
        SidEncoder.load(run) if layout.needs_query_sids else None,
        views.frozen_defaults() if layout.default_history else None,
    )


def _teacher_keywords(run: RunFolder, plan: TrainingConfig, builder: ExampleBuilder) -> np.ndarray:
    if plan.keywords is not None:
        return given_keywords(builder.views, plan.keywords)
    return query_keywords(builder.views, SidEncoder.load(run).core, builder.pairs("train"))


def _arguments(run: RunFolder, plan: TrainingConfig, number: int, progress: bool) -> SidSFTConfig:
    stage = plan.stages[number]
    known = {"output_dir": str(run.training / f"{number + 1}-{stage.name}"), "disable_tqdm": not progress}
    known |= {**plan.arguments, **stage.arguments, **({} if stage.personal else {"eval_strategy": "no"})}
    if plan.distillation is not None and stage.personal:
        return SidDistillationConfig(**{**known, **plan.distillation})
    return SidSFTConfig(**known)


def _train_stage(
    model: PreTrainedModel,
    parts: _Parts,
    plan: TrainingConfig,
    stage: StageConfig,
    arguments: SidSFTConfig,
    resume: bool,
    log: list[dict[str, Any]],
) -> PreTrainedModel:
    """One stage; returns the trained model, or the one that an earlier call left."""
    folder = Path(arguments.output_dir)
    done = folder / "model"
    _claim_stage(folder, stage, resume)
    if resume and done.exists():
        logger.info("stage %s: done before", stage.name)
        log += read_json(folder / "log.json")
        return type(model).from_pretrained(done)
    with arguments.main_process_first(desc="examples"):
        train, evaluation = _datasets(parts.builder, plan, stage, folder.parent / "examples")
    logger.info("stage %s: %s examples", stage.name, f"{len(train):,}" if isinstance(train, Dataset) else "streamed")
    long_view = None
    if parts.tokenizer.prompt.long_view_tokens:
        long_view = LongViewTable(parts.builder.views, model.config.long_view_levels)
    trainer_class = SidDistillationTrainer if isinstance(arguments, SidDistillationConfig) else SidSFTTrainer
    trainer = trainer_class(
        model=model,
        args=arguments,
        train_dataset=train,
        eval_dataset=evaluation,
        processing_class=parts.tokenizer,
        long_view=long_view,
        peft_config=lora_config(plan.lora, model) if plan.lora is not None else None,
        retrieval_metrics=_validation(plan, parts) if stage.personal else None,
    )
    trainer.train(resume_from_checkpoint=resume)
    trained = trainer.accelerator.unwrap_model(trainer.model)
    trained = trained.merge_and_unload() if plan.lora is not None else trained
    if trainer.is_world_process_zero():
        history = [{**entry, "stage": stage.name} for entry in trainer.state.log_history]
        write_json(folder / "log.json", history)
        log += history
        with atomic_folder(done) as temporary:
            trained.save_pretrained(temporary)
    trainer.accelerator.wait_for_everyone()
    return trained


def _claim_stage(folder: Path, stage: StageConfig, resume: bool) -> None:
    """Note the plan of a stage, or check that what is there was made by it."""
    path = folder / "stage.json"
    if resume and path.exists():
        if read_json(path) != asdict(stage):
            raise ValueError(f"{folder} was trained with another plan of stage {stage.name!r}; train without resume")
        return
    write_json(path, asdict(stage))


def _datasets(
    builder: ExampleBuilder, plan: TrainingConfig, stage: StageConfig, folder: Path
) -> tuple[Dataset | IterableDataset, Dataset | None]:
    evaluation = None
    if stage.personal:
        personal = {task: weight for task, weight in stage.tasks.items() if task in STAGES["personalised"]}
        held_out = mixed_examples(builder, dict.fromkeys(personal, 1.0), "validation", folder)
        evaluation = held_out.select(range(min(HELD_OUT, len(held_out)))) if len(held_out) else None
    if plan.streaming:
        return streamed_examples(builder, stage.tasks, "train"), evaluation
    train = mixed_examples(builder, stage.tasks, "train", folder)
    if not len(train):
        raise ValueError(f"stage {stage.name!r}: nothing to train on; the market has no examples of {', '.join(stage.tasks)}")
    return train, evaluation


def _validation(plan: TrainingConfig, parts: _Parts) -> Callable[[PreTrainedModel], dict[str, float]] | None:
    """HR@10 and MRR@10 on validation requests, by the evaluator that reports the final figures."""
    if not parts.held_out or not plan.validation_requests:
        return None
    requests, sample = sample_requests(parts.held_out, plan.validation_requests)
    shared = {"query_encoder": parts.query_encoder, "defaults": parts.defaults}

    def measure(model: PreTrainedModel) -> dict[str, float]:
        searcher = Searcher(model, parts.tokenizer, num_beams=plan.validation_beams, **shared)
        report = evaluate([searcher], requests, targets=("purchase",), bootstrap_samples=1, progress=False, sample=sample)
        return {metric.lower(): report.value(searcher.name, metric) for metric in ("HR@10", "MRR@10")}

    return measure


def _save_checkpoint(folder: Path, model: PreTrainedModel, parts: _Parts) -> None:
    """Everything that a search needs, beside the weights."""
    model.save_pretrained(folder)
    parts.tokenizer.save_pretrained(folder)
    if parts.query_encoder is not None:
        parts.query_encoder.save_pretrained(folder / QUERY_ENCODER_NAME)
    if parts.defaults is not None:
        parts.defaults.save(folder / DEFAULTS_NAME)


__all__ = ["HELD_OUT", "train_run"]
