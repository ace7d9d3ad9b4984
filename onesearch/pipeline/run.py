"""Every step of a recipe in one folder: market → embeddings → SIDs → checkpoint → evaluation → card.

Each step reads the run folder and adds its part to it. A step whose part exists is done, so a stopped run continues where it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

from onesearch.data.market import Market
from onesearch.evaluation.reports import Report
from onesearch.extras import require
from onesearch.files import RunFolder
from onesearch.serving.dense_index import FOLDER_NAME as DENSE_NAME
from onesearch.serving.dense_index import ITEMS_NAME
from onesearch.serving.text_index import TEXT_INDEX_NAME
from onesearch.tokenization_sid.embedding.embeddings import ALIGNMENT_NAME, EMBEDDINGS_NAME
from onesearch.views.reward.reward_folder import FOLDER_NAME as REWARD_NAME

from .evaluation import evaluate_run
from .market_facts import MarketFacts
from .market_options import SIMULATION, check_options
from .preconditions import possible, say_left_out
from .recipe import RECIPE_NAME, SUPERVISED, Recipe, load_recipe, save_recipe
from .run_lock import LOCK_NAME, NOTE_NAME, writing
from .steps import (
    align_encoder,
    make_card,
    make_checkpoint,
    make_dense,
    make_embeddings,
    make_market,
    make_preference_stage,
    make_reward,
    make_sids,
    make_text_index,
    measure_arms,
)

logger = logging.getLogger(__name__)


def run_recipe(
    recipe: Recipe,
    run: RunFolder,
    resume: bool = False,
    progress: bool = True,
    baselines: bool = True,
    show: Callable[[Report], object] | None = None,
) -> Report:
    """Run every step of a recipe in one folder: market, embeddings, SIDs, checkpoint, evaluation and card.

    All settings are checked before anything is written.

    Args:
        recipe: settings of the run.
        run: folder of the run.
        resume: continue a run of the same recipe; without it an existing folder is refused.
        progress: show progress bars.
        baselines: measure the baselines as well.
        show: is called with the report before it is written, so that no figure is lost if the disk is full.

    Returns:
        The report of the evaluation.

    Raises:
        BlockingIOError: another command is writing into the folder.
        FileExistsError: the folder holds a run and `resume` is False, or its evaluation was made with other settings.
        ValueError: a setting is not allowed, or `resume`, but the folder was made from another recipe.
        TypeError: a name in `recipe.training.arguments` is no field of the trainer's config.
        MissingExtraError: the extra ``train`` is not installed, or with `baselines` the extra ``evaluation``.
    """
    require("train", needed_by="a run")
    if baselines:
        require("evaluation", needed_by="a run with baselines")
    check_recipe(recipe, run)
    if not (run.root / RECIPE_NAME).is_file():  # so that no lock file is written into the folder of something else
        check_claim(recipe, run, resume)
    run.root.mkdir(parents=True, exist_ok=True)
    with writing(run, "onesearch run"):
        claim(recipe, run, resume)
        make_parts(recipe, run, resume, progress)
        report = evaluate_run(run, recipe.evaluation, progress=progress, baselines=baselines, show=show)
        make_card(recipe, run)
    return report


def make_parts(recipe: Recipe, run: RunFolder, resume: bool, progress: bool, last: str | None = None) -> None:
    """Make the parts of a run that do not exist yet, up to the step `last`: market, alignment, embeddings, SIDs, checkpoint, reward, or
    the name of a preference stage; None makes all.

    As soon as the market is there, everything that later steps need of it is checked. What it has no examples of is left out.

    Raises:
        ValueError: something would stop the run later; the message names everything at once.
    """
    market = _Step("market", run.market, lambda: make_market(recipe.market, run.market))
    _make(market)
    if last == market.name:
        return
    make_steps(_steps(_possible(recipe, run), run, resume, progress), last)


def make_steps(steps: Sequence[_Step], last: str | None = None) -> None:
    """Make the products of steps that do not exist yet, up to the step `last`; None makes all."""
    for step in steps:
        _make(step)
        if step.name == last:
            return


def check_recipe(recipe: Recipe, run: RunFolder) -> None:
    """Check the settings that reading a recipe leaves to the libraries of the tables and of the training.

    Raises:
        ValueError: an option of the importer or an argument of the trainer is not allowed, or the importer has no source.
        TypeError: a name in `recipe.training.arguments` or `recipe.preference.arguments` is no field of the trainer's config.
        MissingExtraError: the package that ships the recipe's text encoder is not installed.
    """
    from onesearch.tokenization_sid.embedding.pretrained import check_encoder_named
    from onesearch.trainers.stages import stage_arguments

    check_encoder_named(recipe.encoder.model)
    market = recipe.market
    check_options(market.importer, market.options)
    if market.importer != SIMULATION and market.source is None and not run.market.exists():
        raise ValueError(f"importer {market.importer} needs a source: the folder with the published files (--source)")
    if recipe.training.unisearch is not None:
        from onesearch.trainers.unisearch.training import unisearch_arguments

        unisearch_arguments(run, recipe.training, progress=False)
        return
    for number in range(len(recipe.training.stages)):
        stage_arguments(run, recipe.training, number, progress=False)
    if recipe.preference is not None:
        from onesearch.trainers.dpo.training import preference_arguments
        from onesearch.trainers.grpo.training import grpo_arguments

        for number, stage in enumerate(recipe.preference.stages):
            checked = grpo_arguments if stage.method == "grpo" else preference_arguments
            checked(run, recipe.preference, number, progress=False)


class _Step(NamedTuple):
    """One step of a run: `make` writes `product`, and a step whose product exists is done."""

    name: str
    product: Path
    make: Callable[[], object]


def _possible(recipe: Recipe, run: RunFolder) -> Recipe:
    """The recipe without what its market has no examples of, which the log names."""
    found = possible(recipe, MarketFacts.of(Market.load(run.market)), run)
    say_left_out(found.left_out)
    return found.recipe


def _make(step: _Step) -> None:
    """Make the product of a step, unless it exists."""
    if step.product.exists():
        logger.info("%s: done before", step.name)
    else:
        logger.info("%s: started", step.name)
        step.make()


def _steps(recipe: Recipe, run: RunFolder, resume: bool, progress: bool) -> list[_Step]:
    """The steps between the market and the evaluation, in order."""
    steps = []
    if recipe.alignment is not None:
        steps.append(_Step("alignment", run.embeddings / ALIGNMENT_NAME, lambda: align_encoder(recipe, run)))
    steps.append(_Step("embeddings", run.embeddings / EMBEDDINGS_NAME, lambda: make_embeddings(recipe, run)))
    if recipe.training.unisearch is None:  # UniSearch's training makes the SIDs
        steps.append(_Step("SIDs", run.sids / "sid_index.safetensors", lambda: make_sids(recipe, run)))
    steps.append(_Step("checkpoint", run.checkpoint, lambda: make_checkpoint(recipe, run, resume, progress)))
    if recipe.dense is not None:
        steps.append(_Step("dense term", run.checkpoint / DENSE_NAME / ITEMS_NAME, lambda: make_dense(recipe, run)))
    if recipe.search.text_weight:
        steps.append(_Step("text index", run.checkpoint / TEXT_INDEX_NAME, lambda: make_text_index(run)))
    if recipe.reward is not None:
        steps.append(_Step("reward", run.checkpoint / REWARD_NAME / "reward.json", lambda: make_reward(recipe, run)))
    return steps + preference_steps(recipe, run, resume, progress)


def preference_steps(recipe: Recipe, run: RunFolder, resume: bool, progress: bool) -> list[_Step]:
    """The report of the checkpoint before the first preference stage, then every stage with its report; empty without preferences."""
    if recipe.preference is None:
        return []
    first = _Step(
        f"evaluation of {SUPERVISED}",
        run.evaluation / SUPERVISED / "metrics.json",
        lambda: measure_arms(recipe, run, SUPERVISED, progress),
    )
    return [first, *(_stage_step(recipe, run, number, resume, progress) for number in range(len(recipe.preference.stages)))]


def _stage_step(recipe: Recipe, run: RunFolder, number: int, resume: bool, progress: bool) -> _Step:
    """A preference stage; its report is written last."""
    assert recipe.preference is not None
    name = recipe.preference.stages[number].name
    product = run.evaluation / name / "metrics.json"
    return _Step(name, product, lambda: make_preference_stage(recipe, run, number, resume, progress))


def claim(recipe: Recipe, run: RunFolder, resume: bool) -> None:
    """Write the recipe into a run folder in which nothing was made yet, or check that the folder was made from the same recipe.

    Raises:
        FileExistsError: the folder holds a run and `resume` is False, or holds other files.
        ValueError: `resume`, but the folder was made from another recipe.
    """
    check_claim(recipe, run, resume)
    if not _made(run):
        save_recipe(recipe, run.root / RECIPE_NAME)


def check_claim(recipe: Recipe, run: RunFolder, resume: bool) -> None:
    """Raise the errors of `claim`, and write nothing."""
    path = run.root / RECIPE_NAME
    if run.root.exists() and not run.root.is_dir():
        raise FileExistsError(f"{run.root} is a file; choose another folder")
    if not path.exists() and _made(run):
        raise FileExistsError(f"{run.root} is not empty and holds no run; choose another folder")
    if not _made(run):  # empty, or the first step of the recipe in it was stopped before it made anything
        return
    if not resume:
        raise FileExistsError(f"{run.root} already holds a run; pass --resume to continue it, or choose another folder")
    recorded = load_recipe(path)
    changed = [part.name for part in fields(recipe) if getattr(recipe, part.name) != getattr(recorded, part.name)]
    if changed:
        raise ValueError(f"{run.root} was made from another recipe ({', '.join(changed)} differ); choose another folder")


def _made(run: RunFolder) -> list[str]:
    """Names in the folder that were there before the run, or that a step has made."""
    names = [path.name for path in run.root.iterdir()] if run.root.is_dir() else []
    return [name for name in names if name not in (RECIPE_NAME, LOCK_NAME, NOTE_NAME)]


__all__ = ["check_claim", "check_recipe", "claim", "make_steps", "preference_steps", "run_recipe"]
