"""Everything that the later steps of a run need, checked once its market is there and before anything is trained.

What the market has no examples of is left out, and one line says so. What would stop the run is raised at once, all of it together.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from onesearch.files import RunFolder
from onesearch.trainers.configs import ModelConfig, StageConfig, TrainingConfig
from onesearch.trainers.tasks import COPIED

from .market_facts import MarketFacts
from .recipe import Recipe

logger = logging.getLogger(__name__)

BYTES = 4
"""Bytes of a weight, and of each of the two moments that AdamW keeps of it."""

SPARE = 200_000_000
"""Bytes of disk that a run needs beside weights and vectors: tables, examples, reports; our choice."""


class Possible(NamedTuple):
    """A recipe without the parts that a market has nothing for.

    Attributes:
        recipe: the recipe. Its stages are those that were given; the training passes over those without examples.
        left_out: one sentence for each part that was left out, or that will have little effect.
    """

    recipe: Recipe
    left_out: list[str]


def possible(recipe: Recipe, facts: MarketFacts, run: RunFolder) -> Possible:
    """Leave out what a market has no examples of, and refuse what cannot work.

    Args:
        recipe: settings of the run.
        facts: counts of its market.
        run: folder of the run, on whose disk the parts are written.

    Raises:
        ValueError: something would stop the run later; the message names everything at once, with the remedies.
    """
    left_out: list[str] = []
    training = _with_joint_stage(recipe.training)
    stages = _stages(training, facts, left_out)
    recipe = _without_behaviour(recipe, facts, left_out)
    checked = replace(recipe, training=training)
    found = [_text_problem(facts), _code_problem(recipe, facts), _disk_problem(checked, facts, run)]
    found.append(None if stages else _nothing_to_train(training, facts))
    problems = [problem for problem in found if problem is not None]
    if problems:
        raise ValueError("; ".join(problems))
    left_out += _unmeasured(training, facts)
    left_out += _warm_up(checked, facts)
    return Possible(recipe, left_out)


def say_left_out(left_out: list[str]) -> None:
    """Log the sentences of `Possible`."""
    for sentence in left_out:
        logger.warning("%s", sentence)


def epoch_examples(stage: StageConfig, facts: MarketFacts, copies: int = 1) -> int:
    """Number of examples of a stage in one epoch.

    Args:
        stage: tasks and their weights.
        facts: counts of the market.
        copies: `ExampleConfig.copies`.
    """
    of_task = {task: facts.examples(task) * (copies if task in COPIED else 1) for task in stage.tasks}
    return round(sum(weight * of_task[task] for task, weight in stage.tasks.items()))


def _with_joint_stage(training: TrainingConfig) -> TrainingConfig:
    """The training as one stage of clicks and purchases if it is UniSearch's, which has no stages of its own."""
    if training.unisearch is None:
        return training
    tasks = {"purchases": 1.0, "clicks": 1.0}
    if training.unisearch.item_words:
        tasks["item-words"] = training.unisearch.item_words / training.examples.copies
    return replace(training, stages=(StageConfig("unisearch", tasks),))


def _stages(training: TrainingConfig, facts: MarketFacts, left_out: list[str]) -> list[StageConfig]:
    """The stages with the tasks that have examples."""
    kept = []
    for stage in training.stages:
        tasks = {task: weight for task, weight in stage.tasks.items() if facts.examples(task)}
        missing = [task for task in stage.tasks if task not in tasks]
        if not tasks:  # the training says so, before its first stage
            continue
        if missing:
            left_out.append(f"stage {stage.name} trains without {', '.join(missing)}: the market has no examples of them")
        kept.append(replace(stage, tasks=tasks) if missing else stage)
    return kept


def _nothing_to_train(training: TrainingConfig, facts: MarketFacts) -> str:
    listed = "; ".join(f"stage {stage.name!r}: {', '.join(stage.tasks)}" for stage in training.stages)
    advice = ""
    if not facts.train.requests:
        advice = (
            ". No training session has both a query and a click or purchase; the tasks item-text-to-sid, item-words, item-facets, "
            "item-queries and item-matches learn from the catalogue alone"
        )
    return f"nothing to train on: the market has no examples of {listed}{advice}"


def _without_behaviour(recipe: Recipe, facts: MarketFacts, left_out: list[str]) -> Recipe:
    """Alignment, reward model and preferences learn from searches that were answered; without any they are left out."""
    if facts.train.requests:
        return recipe
    reason = "no training session has both a query and a click or purchase"
    if recipe.alignment is not None:
        left_out.append(f"the alignment of the text encoder is left out: {reason}")
    if recipe.reward is not None:
        left_out.append(f"the reward model is left out: {reason}; the generator's own order is served")
    if recipe.preference is not None:
        left_out.append(f"the preference stages are left out: {reason}")
    text = recipe.search.text_weight > 0
    candidates = recipe.search.candidates if text else recipe.search.candidates.replace("+text", "")
    search = replace(recipe.search, candidates=candidates, rerank=False)
    return replace(recipe, alignment=None, reward=None, preference=None, search=search)


def _text_problem(facts: MarketFacts) -> str | None:
    if not facts.items:
        return "the catalogue has no item; check the items table"
    if not facts.with_text:
        return "no item has any text; check the columns that text_fields in market.json names"
    return None


def _code_problem(recipe: Recipe, facts: MarketFacts) -> str | None:
    """A codebook with more codes than distinct texts cannot be trained: items with equal texts have equal vectors."""
    if recipe.codes is None or recipe.fit_on != "items" or recipe.encoder.facts or recipe.keywords is not None:
        return None
    size = max(recipe.codes.codebook_sizes)
    if size <= facts.texts:
        return None
    return (
        f"codes have a codebook of {size:,} codes, but the {facts.items:,} items have {facts.texts:,} distinct texts; give smaller "
        "codebooks, or leave `codes` out of the recipe to choose them by the catalogue"
    )


def _disk_problem(recipe: Recipe, facts: MarketFacts, run: RunFolder) -> str | None:
    needed, free = disk_bytes(recipe, facts), shutil.disk_usage(_existing(run.root)).free
    if needed <= free:
        return None
    return (
        f"the run needs about {needed / 1e9:.1f} GB of disk at {run.root}, and {free / 1e9:.1f} GB are free; make room, or lower "
        "save_total_limit in the arguments of the training"
    )


def disk_bytes(recipe: Recipe, facts: MarketFacts) -> int:
    """Estimated size of everything that a run writes.

    1. Weights of the final checkpoint and of every stage.
    2. Of every stage, the trainer's checkpoints that are kept at a time, and the one that is being written: weights and two moments.
    3. Vectors of items and queries, and `SPARE`.
    """
    weights = BYTES * parameters(recipe.training.model, sum(recipe.codes.codebook_sizes) if recipe.codes else 1000)
    kept = recipe.training.arguments.get("save_total_limit") or 5
    of_stage = weights + 3 * weights * (kept + 1)
    queries = sum(split.queries for split in facts.splits.values())
    vectors = BYTES * recipe.encoder.dimension * (facts.items + queries)
    return round(weights + len(recipe.training.stages) * of_stage + 2 * vectors + SPARE)


def parameters(model: ModelConfig, codes: int) -> int:
    """Estimated number of weights of a model that is trained from scratch; for a published checkpoint the size of BART-base, 1.4 · 10⁸."""
    if model.checkpoint is not None:
        return 140_000_000
    width, layers = model.d_model, model.encoder_layers + 2 * model.decoder_layers
    embeddings = (model.text_vocab_size + codes + 2 * model.max_position_embeddings) * width
    return embeddings + layers * (4 * width**2 + 2 * width * model.ffn_dim)


def _existing(path: Path) -> Path:
    """The folder, or the closest parent that exists."""
    path = path.resolve()
    while not path.exists():
        path = path.parent
    return path


def _unmeasured(training: TrainingConfig, facts: MarketFacts) -> list[str]:
    """A sentence if evaluations are asked for and no request can be searched."""
    asks = any(_argument(training, stage, "eval_strategy", "no") != "no" for stage in training.stages if stage.personal)
    if not asks or facts.validation.requests:
        return []
    return [
        "the training is not measured while it runs: the validation split has no search that was answered with a click or purchase"
    ]


def _warm_up(recipe: Recipe, facts: MarketFacts) -> list[str]:
    """A sentence for each stage that ends before its learning rate has reached its largest value."""
    sentences = []
    training = recipe.training
    for stage in training.stages:
        warm_up, steps = _argument(training, stage, "warmup_steps", 0), _steps(recipe, stage, facts)
        if steps is not None and warm_up >= 1 and steps <= warm_up:
            sentences.append(
                f"stage {stage.name} has {steps:,} steps, and the learning rate rises for {warm_up:,}: it never reaches its largest value; "
                "give warmup_steps as a share, for instance 0.1, or train more epochs"
            )
    return sentences


def _steps(recipe: Recipe, stage: StageConfig, facts: MarketFacts) -> int | None:
    """Number of optimiser steps of a stage; None where the examples alone do not say it."""
    training = recipe.training
    most = _argument(training, stage, "max_steps", -1)
    if most > 0:
        return int(most)
    if training.examples.windows == "last" or training.streaming:
        return None
    processes = recipe.processes if recipe.processes > 1 else int(os.environ.get("WORLD_SIZE", "1"))
    batch = _argument(training, stage, "per_device_train_batch_size", 8) * processes
    batch *= _argument(training, stage, "gradient_accumulation_steps", 1)
    examples = epoch_examples(stage, facts, training.examples.copies)
    return math.ceil(math.ceil(examples / batch) * _argument(training, stage, "num_train_epochs", 3))


def _argument(training: TrainingConfig, stage: StageConfig, name: str, default: Any) -> Any:
    """Value of an argument of a stage's trainer."""
    return stage.arguments.get(name, training.arguments.get(name, default))


__all__ = ["Possible", "disk_bytes", "epoch_examples", "parameters", "possible", "say_left_out"]
