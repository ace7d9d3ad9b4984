"""Cells of a study: one ordinary run per variant and seed, shared among the processes that work on the study."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onesearch.evaluation.reports import Report
from onesearch.files import RunFolder, locked, write_json

from .recipe import Recipe
from .run import claim, run_recipe
from .study import Study, folder_name, recipe_of
from .study_summary import VALUES_NAME, summarise

logger = logging.getLogger(__name__)

LONGEST_CELL = 7 * 24 * 3600.0
"""Seconds after which a cell that another process holds is given up. A worker that dies lets go of its cell at once."""

SHARED = {
    "market": ("market",),
    "embeddings": ("market", "encoder", "alignment"),
    "sids": ("market", "encoder", "alignment", "codes", "keywords", "dictionary", "fit_on"),
}
"""Parts of a run that cells share, and the fields of the recipe that they depend on."""


def run_study(study: Study, runs: Path, source: str | None = None, progress: bool = True) -> dict[str, Any]:
    """Run every cell that is not done and write ``study.json`` into `runs`.

    Args:
        runs: folder of the study; each cell becomes a run folder in it.
        source: of the base recipe's importer.

    Returns:
        What ``study.json`` holds; see `summarise`.
    """
    cells = [(variant, seed) for variant in study.variants for seed in study.seeds]
    worker = _Worker(study, runs, source, progress)
    for patience in (0.0, LONGEST_CELL):  # first what no other worker is at, then what is left of theirs
        cells = [cell for cell in cells if not worker.make(*cell, patience)]
    if cells:
        raise TimeoutError(f"{cells[0]} of study {study.name!r} is locked by another process; start the study again later")
    summary = summarise(study, {name: [_run_of(runs, name, seed) for seed in study.seeds] for name in study.variants})
    write_json(runs / "study.json", summary)
    return summary


def _run_of(runs: Path, variant: str, seed: int) -> RunFolder:
    return RunFolder(runs / folder_name(variant) / f"seed-{seed}")


@dataclass
class _Worker:
    """One of those that run the cells of a study.

    Args:
        study, runs, source, progress: as in `run_study`.
        made: "part and what it depends on" → the run that has it.
    """

    study: Study
    runs: Path
    source: str | None
    progress: bool
    made: dict[str, RunFolder] = field(default_factory=dict)

    def make(self, variant: str, seed: int, patience: float) -> bool:
        """Run one cell unless it is done; False if another worker was at it for `patience` seconds."""
        run, recipe = _run_of(self.runs, variant, seed), recipe_of(self.study, variant, seed, self.source)
        run.root.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                lock = run.root.with_name(f".{run.root.name}.lock")
                stack.enter_context(locked(lock, f"study {self.study.name}", patience))
            except TimeoutError:
                return False
            if not (run.evaluation / VALUES_NAME).exists():
                logger.info("study %s: %s, seed %d", self.study.name, variant, seed)
                _share(recipe, run, self.made)
                report = run_recipe(recipe, run, resume=True, progress=self.progress, baselines=False)
                _save_values(report, self.study, run)
        for part, key in _keys(recipe).items():
            self.made.setdefault(f"{part} {key}", run)
        return True


def _save_values(report: Report, study: Study, run: RunFolder) -> None:
    (name,) = report.values
    purchases = report.values[name]["purchase"]["item"]
    cold = [not report.warm[session] for session, items in report.truth["purchase"].items() if items]
    values = {metric: np.asarray(purchases[metric]).tolist() for metric in study.metrics}
    write_json(run.evaluation / VALUES_NAME, {**values, "cold": cold})


def _keys(recipe: Recipe) -> dict[str, str]:
    """What each shared part depends on, as text."""
    values = asdict(recipe)
    return {part: repr([values[name] for name in names if name in values]) for part, names in SHARED.items()}


def _share(recipe: Recipe, run: RunFolder, made: Mapping[str, RunFolder]) -> None:
    """Link the parts that an earlier cell has made from the same fields."""
    claim(recipe, run, resume=True)
    for part, key in _keys(recipe).items():
        origin = made.get(f"{part} {key}")
        if origin is not None and not getattr(run, part).exists():
            shutil.copytree(getattr(origin, part), getattr(run, part), copy_function=os.link)
