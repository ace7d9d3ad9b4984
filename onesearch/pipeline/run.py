"""Every stage of a recipe in one folder: market → embeddings → SIDs → checkpoint → evaluation → card.

Each stage reads the run folder and adds its part to it. A stage whose part exists is done, so a stopped run continues where it was.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

from onesearch.evaluation.reports import Report
from onesearch.extras import require
from onesearch.files import RunFolder
from onesearch.tokenization_sid.embedding.embeddings import ALIGNMENT_NAME

from .evaluation import evaluate_run
from .recipe import RECIPE_NAME, Recipe, load_recipe, save_recipe
from .stages import align_encoder, make_card, make_checkpoint, make_embeddings, make_market, make_sids

logger = logging.getLogger(__name__)


def run_recipe(recipe: Recipe, run: RunFolder, resume: bool = False, progress: bool = True, baselines: bool = True) -> Report:
    """Run every stage of a recipe in one folder: market, embeddings, SIDs, checkpoint, evaluation and card.

    Args:
        recipe: settings of the run.
        run: folder of the run.
        resume: continue a run of the same recipe; without it an existing folder is refused.
        progress: show progress bars.
        baselines: measure the baselines as well.

    Returns:
        The report of the evaluation.

    Raises:
        FileExistsError: the folder holds a run and `resume` is False, or its evaluation was made with other settings.
        ValueError: `resume`, but the folder was made from another recipe.
        MissingExtraError: the extra ``train`` is not installed, or with `baselines` the extra ``evaluation``.
    """
    require("train", needed_by="a run")
    if baselines:
        require("evaluation", needed_by="a run with baselines")
    claim(recipe, run, resume)
    for stage in _stages(recipe, run, resume, progress):
        if stage.product.exists():
            logger.info("%s: done before", stage.name)
        else:
            logger.info("%s: started", stage.name)
            stage.make()
    report = evaluate_run(run, recipe.evaluation, progress=progress, baselines=baselines)
    make_card(recipe, run)
    return report


class _Stage(NamedTuple):
    """One stage of a run: `make` writes `product`, and a stage whose product exists is done."""

    name: str
    product: Path
    make: Callable[[], object]


def _stages(recipe: Recipe, run: RunFolder, resume: bool, progress: bool) -> list[_Stage]:
    """The stages before the evaluation, in order."""
    stages = [_Stage("market", run.market, lambda: make_market(recipe.market, run.market))]
    if recipe.alignment is not None:
        stages.append(_Stage("alignment", run.embeddings / ALIGNMENT_NAME, lambda: align_encoder(recipe, run)))
    stages += [
        _Stage("embeddings", run.embeddings / "embeddings.json", lambda: make_embeddings(recipe, run)),
        _Stage("SIDs", run.sids / "sid_index.safetensors", lambda: make_sids(recipe, run)),
        _Stage("checkpoint", run.checkpoint, lambda: make_checkpoint(recipe, run, resume, progress)),
    ]
    return stages


def claim(recipe: Recipe, run: RunFolder, resume: bool) -> None:
    """Write the recipe into an empty run folder, or check that the folder was made from the same recipe.

    Raises:
        FileExistsError: the folder holds a run and `resume` is False, or holds other files.
        ValueError: `resume`, but the folder was made from another recipe.
    """
    path = run.root / RECIPE_NAME
    if not path.exists():
        if run.root.exists() and any(run.root.iterdir()):
            raise FileExistsError(f"{run.root} is not empty and holds no run; choose another folder")
        save_recipe(recipe, path)
        return
    if not resume:
        raise FileExistsError(f"{run.root} already holds a run; pass --resume to continue it, or choose another folder")
    recorded = load_recipe(path)
    changed = [part.name for part in fields(recipe) if getattr(recipe, part.name) != getattr(recorded, part.name)]
    if changed:
        raise ValueError(f"{run.root} was made from another recipe ({', '.join(changed)} differ); choose another folder")


__all__ = ["claim", "run_recipe"]
