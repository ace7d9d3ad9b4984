"""Cells of a study: one ordinary run per variant and seed, shared among the processes that work on the study."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onesearch.data.market import Market
from onesearch.evaluation.reports import Report
from onesearch.files import RunFolder, atomic_folder, locked, read_json, write_json
from onesearch.tokenization_sid.sids.plots import plots_available
from onesearch.trainers.dpo.preference_config import PreferenceConfig

from .recipe import RECIPE_NAME, SUPERVISED, Recipe, load_recipe
from .run import check_claim, check_recipe, claim, run_recipe
from .study import Study, folder_name, recipe_of
from .study_encoder import measure_encoder
from .study_metrics import check_metrics, request_values
from .study_summary import VALUES_NAME, summarise

logger = logging.getLogger(__name__)

SUMMARY_NAME = "study.json"
"""File of a study's result, in its folder."""

PLOT_NAME = "stability.png"
"""Plot of the joint trainings of a study, in its folder; see `draw_trainings`."""

LONGEST_CELL = 7 * 24 * 3600.0
"""Seconds to wait for a cell that another process runs. A process that dies unlocks its cell at once."""

SHARED = {
    "market": ("market",),
    "embeddings": ("market", "encoder", "alignment"),
    "sids": ("market", "encoder", "alignment", "codes", "keywords", "dictionary", "fit_on"),
    "training": ("market", "encoder", "alignment", "codes", "keywords", "dictionary", "fit_on", "processes", "training"),
}
"""Parts of a run that cells share, and the fields of the recipe that they depend on. Cells that differ in search or evaluation alone
share one training, which each resumes and finds done."""

STAGED = (*SHARED["training"], "dense", "reward", "search", "evaluation")
"""Fields of the recipe that a checkpoint with some of its preference stages depends on, beside those stages."""


def run_study(study: Study, runs: Path, source: str | None = None, progress: bool = True) -> dict[str, Any]:
    """Run every cell that is not done and write ``study.json`` into `runs`.

    Args:
        study: the study.
        runs: folder of the study; each cell becomes a run folder in it.
        source: source of the base recipe's importer, instead of the recipe's own.
        progress: show progress bars.

    Returns:
        The content of ``study.json``; see `summarise`.

    Raises:
        FileExistsError: `runs` holds anything but the runs of a study.
        ValueError: a variant is not allowed, or a cell in `runs` was made from another recipe: the base or a variant has changed.
        TimeoutError: another process has been running a cell for `LONGEST_CELL` seconds.
    """
    check_runs(runs)
    for variant in study.variants:
        recipe = recipe_of(study, variant, study.seeds[0], source)
        if study.measured == "search":
            check_metrics(study.metrics, recipe)
        check_recipe(recipe, _run_of(runs, variant, study.seeds[0]))
    cells = [(variant, seed) for variant in study.variants for seed in study.seeds]
    for variant, seed in cells:
        _check_cell(recipe_of(study, variant, seed, source), _run_of(runs, variant, seed))
    worker = _Worker(study, runs, source, progress)
    for patience in (0.0, LONGEST_CELL):  # first the cells that no other process runs, then the rest
        cells = [cell for cell in cells if not worker.make(*cell, patience)]
    if cells:
        raise TimeoutError(f"{cells[0]} of study {study.name!r} is locked by another process; start the study again later")
    summary = summarise(study, {name: [_run_of(runs, name, seed) for seed in study.seeds] for name in study.variants})
    write_json(runs / SUMMARY_NAME, summary)
    _draw_joint_trainings(study, runs)
    return summary


def _draw_joint_trainings(study: Study, runs: Path) -> None:
    """Draw the trainings of all cells into one picture, if there are joint trainings of UniSearch and matplotlib is installed."""
    if study.measured != "search" or not plots_available():
        return
    logs = {
        variant: [read_json(_run_of(runs, variant, seed).training / "log.json") for seed in study.seeds]
        for variant in study.variants
    }
    joint = {variant: own for variant, own in logs.items() if any("sid_step" in entry for log in own for entry in log)}
    if joint:
        from onesearch.trainers.unisearch.plots import draw_trainings

        draw_trainings(joint, runs / PLOT_NAME)


def _check_cell(recipe: Recipe, run: RunFolder) -> None:
    """Raise ValueError if the cell was made from another recipe. Names may differ: studies may share a folder and equal cells."""
    recorded = run.root / RECIPE_NAME
    if recorded.is_file():
        check_claim(replace(recipe, name=load_recipe(recorded).name), run, resume=True)


def check_runs(runs: Path) -> None:
    """Refuse a folder that holds anything but ``study.json``, a plot, and folders of variants, which hold folders of seeds.

    Raises:
        FileExistsError: the folder is a file or holds something else; the message names it.
    """
    if runs.exists() and not runs.is_dir():
        raise FileExistsError(f"{runs} is a file; choose another folder with --runs")
    entries = sorted(runs.iterdir()) if runs.is_dir() else []
    for entry in entries:
        if not (entry.name.startswith(".") or entry.name in (SUMMARY_NAME, PLOT_NAME) or _is_variant(entry)):
            raise FileExistsError(f"{runs} holds {entry.name}, which is no part of a study; choose another folder with --runs")


def _is_variant(folder: Path) -> bool:
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else ["file"]
    return all(re.fullmatch(r"seed-\d+|\..*", name) for name in names)


def _run_of(runs: Path, variant: str, seed: int) -> RunFolder:
    """Run folder of a cell."""
    return RunFolder(runs / folder_name(variant) / f"seed-{seed}")


@dataclass
class _Worker:
    """One process that runs cells of a study.

    Args:
        study: as in `run_study`.
        runs: as in `run_study`.
        source: as in `run_study`.
        progress: as in `run_study`.
        made: key of a shared part, as in `part_keys` → the run that has it.
    """

    study: Study
    runs: Path
    source: str | None
    progress: bool
    made: dict[str, RunFolder] = field(default_factory=dict)

    def make(self, variant: str, seed: int, patience: float) -> bool:
        """Run one cell unless it is done; False if another process held its lock for `patience` seconds."""
        run = _run_of(self.runs, variant, seed)
        recipe = recipe_of(self.study, variant, seed, self.source)
        run.root.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                lock = run.root.with_name(f".{run.root.name}.lock")
                stack.enter_context(locked(lock, f"study {self.study.name}", patience))
            except TimeoutError:
                return False
            if not _is_measured(run, self.study):
                logger.info("study %s: %s, seed %d", self.study.name, variant, seed)
                _share(recipe, run, self.made)
                _share_stages(recipe, run, self.made)
                if self.study.measured == "encoder":
                    measure_encoder(recipe, run, self.study.metrics, self.progress)
                else:
                    report = run_recipe(recipe, run, resume=True, progress=self.progress, baselines=self.study.baselines)
                    _save_values(report, self.study, run)
        for key in (*part_keys(recipe).values(), stage_keys(recipe)[-1]):
            self.made.setdefault(key, run)
        return True


def _is_measured(run: RunFolder, study: Study) -> bool:
    """Whether the cell has the values of all metrics. A study that gets further metrics measures its trained cells again."""
    path = run.evaluation / VALUES_NAME
    return path.exists() and all(set(study.metrics) <= set(of_order) for of_order in read_json(path)["orders"].values())


def _save_values(report: Report, study: Study, run: RunFolder) -> None:
    """Write the metrics of each request by each order of the report, from which `summarise` draws."""
    cold = [not report.warm[session] for session, items in report.truth["purchase"].items() if items]
    orders = request_values(report, study.metrics, Market.load(run.market))
    write_json(run.evaluation / VALUES_NAME, {"served": report.reference, "orders": orders, "cold": cold})


def part_keys(recipe: Recipe) -> dict[str, str]:
    """Shared part → its name and the values of the fields that it depends on, as text: with the names of their classes, as two quantizers
    may have the same fields."""
    sources = SHARED
    if recipe.training is not None and recipe.training.unisearch is not None:  # the training makes UniSearch's Semantic IDs
        sources = {**SHARED, "sids": SHARED["training"]}
    return {part: f"{part} {[getattr(recipe, name) for name in names]!r}" for part, names in sources.items()}


def _share(recipe: Recipe, run: RunFolder, made: Mapping[str, RunFolder]) -> None:
    """Link the parts that an earlier cell has made from the same values."""
    claim(recipe, run, resume=True)
    for part, key in part_keys(recipe).items():
        origin = made.get(key)
        target = run.root / part
        if origin is not None and not target.exists():
            shutil.copytree(origin.root / part, target, copy_function=os.link)


def stage_keys(recipe: Recipe) -> list[str]:
    """Values that a checkpoint depends on after the first n preference stages, as text, for n from 0 to all of them."""
    fields = [getattr(recipe, name) for name in STAGED]
    preference = recipe.preference
    begun: list[PreferenceConfig | None] = [None]
    if preference is not None:
        begun += [replace(preference, stages=preference.stages[:number]) for number in range(1, len(preference.stages) + 1)]
    return [f"stages {fields!r} {own!r}" for own in begun]


def _share_stages(recipe: Recipe, run: RunFolder, made: Mapping[str, RunFolder]) -> None:
    """Copy checkpoint and stages of the earlier cell that has passed most of this cell's preference stages, but none more."""
    if recipe.preference is None or run.checkpoint.exists():
        return
    names = [stage.name for stage in recipe.preference.stages]
    for number, key in reversed(list(enumerate(stage_keys(recipe)[:-1]))):
        origin = made.get(key)
        if origin is None:
            continue
        passed = names[:number]
        parts = [run.training / name for name in passed]
        parts += [run.evaluation / name for name in (SUPERVISED, *passed)] if passed else []
        for part in (*parts, run.checkpoint):  # the checkpoint last: with it, the copy is whole
            if not part.exists():
                with atomic_folder(part, replaces=[]) as temporary:
                    shutil.copytree(origin.root / part.relative_to(run.root), temporary, dirs_exist_ok=True)
        return


__all__ = ["LONGEST_CELL", "check_runs", "part_keys", "run_study", "stage_keys"]
