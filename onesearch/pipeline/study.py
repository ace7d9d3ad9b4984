"""Studies: variants of one recipe, each with several seeds, in one table with intervals. This is how ablations are measured.

```yaml
name: history
base: demo                    # a shipped recipe, or a .yaml file
seeds: [0, 1, 2]
reference: no history
variants:                     # dotted keys of the recipe
  no history: {training.prompt.items: 0}
  short: {training.prompt.items: 5}
```

Every cell is an ordinary run in ``RUNS/<variant>/seed-<n>``; parts that do not depend on the varied fields (the market, embeddings) are
linked from the first run that made them, not made again. A stopped study goes on where it was. Started several times on the same folder
(on a processor: once per core, with cells of one process), the workers share the cells among them.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from onesearch.evaluation.reports import Report
from onesearch.files import RunFolder, locked, read_json, write_json

from .recipe import Recipe, build, load_recipe, recipe_values

logger = logging.getLogger(__name__)

SEEDED = ("encoder.seed", "alignment.seed", "codes.seed", "training.arguments.seed")
"""Fields that a seed of the study sets. The market keeps its own: all cells are measured on the same requests."""

LONGEST_CELL = 7 * 24 * 3600.0
"""Seconds after which a cell that another process holds is given up. A worker that dies lets go of its cell at once."""

SHARED = {
    "market": ("market",),
    "embeddings": ("market", "encoder", "alignment"),
    "sids": ("market", "encoder", "alignment", "codes", "keywords", "dictionary", "fit_on"),
}
"""Parts of a run that cells share, and the fields of the recipe that they depend on."""


@dataclass(frozen=True)
class Study:
    """What is varied, and how it is measured.

    Args:
        name: of the study.
        base: recipe that every variant changes.
        common: {dotted key of the recipe: value} of all variants.
        variants: name → {dotted key of the recipe: value}.
        cumulative: each variant also has the changes of those before it.
        seeds: of encoder, codes and training.
        reference: variant that the others are compared with, pair by pair; default the first.
        metrics: of purchases at item level.
        diagnostics: dotted keys of ``sids/diagnostics.json`` shown beside them.
    """

    name: str
    base: str = "default"
    common: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)
    cumulative: bool = False
    seeds: tuple[int, ...] = (0, 1, 2)
    reference: str | None = None
    metrics: tuple[str, ...] = ("HR@10", "MRR@10")
    diagnostics: tuple[str, ...] = ("items.icr_items", "items.largest_bucket")

    def __post_init__(self):
        object.__setattr__(self, "seeds", tuple(self.seeds))
        if not self.variants or not self.seeds:
            raise ValueError(f"study {self.name!r} needs at least one variant and one seed")
        if self.reference is not None and self.reference not in self.variants:
            raise ValueError(f"reference {self.reference!r} is no variant; there are {', '.join(self.variants)}")
        folders = [folder_name(name) for name in self.variants]
        if len(set(folders)) < len(folders):
            raise ValueError(f"the names of the variants {list(self.variants)} give folders {folders}, which must differ")


def load_study(path: str | Path) -> Study:
    """A study from YAML; ValueError names an unknown key."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    return build(Study, values or {}, "study")


def folder_name(variant: str) -> str:
    """Name of a variant's folder: its letters and digits, joined by hyphens."""
    return re.sub(r"[^\w]+", "-", variant).strip("-").lower() or "variant"


def recipe_of(study: Study, variant: str, seed: int, source: str | None = None) -> Recipe:
    """The recipe of one cell.

    Raises:
        ValueError: a dotted key is no field of the recipe, or a value does not fit.
    """
    base = load_recipe(study.base)
    if source is not None:
        base = replace(base, market=replace(base.market, source=source))
    values = recipe_values(base)
    names = list(study.variants)
    counted = names[: names.index(variant)] if study.cumulative else []
    changes = dict(study.common)
    for name in (*counted, variant):
        changes |= study.variants[name]
    for key, value in changes.items():
        _set(values, key, value, variant)
    for key in SEEDED:
        if key not in changes:
            _set(values, key, seed, variant)
    values["name"] = f"{study.name}-{folder_name(variant)}-{seed}"
    return build(Recipe, values, f"variant {variant!r}")


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
        from .run import run_recipe

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


def summarise(study: Study, cells: Mapping[str, Sequence[RunFolder]], samples: int = 2000) -> dict[str, Any]:
    """Means over the seeds, with intervals.

    Intervals are 95 % percentiles of a bootstrap that draws seeds and, within them, requests; requests are paired across variants, so a
    difference is measured on the same requests and seeds. (With three seeds the share of the seeds in it is a rough guess.)

    Returns:
        ``{"study": …, "variants": {name: {metric: {"mean", "low", "high", "seeds": [per seed], "lead": {"mean", "low", "high"}},
        "users": {"cold" | "warm": {metric: as above}}, diagnostic: mean}}}``; ``lead`` is the variant minus the reference. Cold users have
        no history.
    """
    reference = study.reference or next(iter(study.variants))
    values = {variant: [read_json(run.evaluation / VALUES_NAME) for run in runs] for variant, runs in cells.items()}
    found: dict[str, Any] = {}
    for variant, runs in cells.items():
        row: dict[str, Any] = {"users": {}}
        for metric in study.metrics:
            row[metric] = _compared(values[variant], values[reference], metric, (variant, reference), samples)
        groups = [group for group in ("cold", "warm") if (group == "cold") in values[variant][0]["cold"]]
        for group in groups:
            own, base = (_of_users(values[name], group) for name in (variant, reference))
            row["users"][group] = {
                metric: _compared(own, base, metric, (variant, reference), samples) for metric in study.metrics
            }
        reports = [read_json(run.sids / "diagnostics.json") for run in runs]
        for key in study.diagnostics:
            row[key] = float(np.mean([_get(report, key) for report in reports]))
        found[variant] = row
    lists = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(study).items()}
    return {"study": lists, "reference": reference, "variants": found}


def _compared(
    own_cells: Sequence[Mapping[str, Any]],
    base_cells: Sequence[Mapping[str, Any]],
    metric: str,
    names: tuple[str, str],
    samples: int,
) -> dict[str, Any]:
    """Mean, interval and lead of one metric; cells are seeds."""
    own, base = (np.array([cell[metric] for cell in cells]) for cells in (own_cells, base_cells))  # (seeds, requests)
    if own.shape != base.shape:
        raise ValueError(f"{names[0]!r} was measured on {own.shape[1]} requests, {names[1]!r} on {base.shape[1]}")
    draws = _two_level_draws(own, base, samples)
    lead = {"mean": (own - base).mean(), **_ends(draws[0] - draws[1])}
    return {"mean": own.mean(), **_ends(draws[0]), "seeds": own.mean(axis=1).tolist(), "lead": lead}


def _of_users(cells: Sequence[Mapping[str, Any]], group: str) -> list[dict[str, np.ndarray]]:
    """The cells' values on requests of cold or of warm users."""
    found = []
    for cell in cells:
        rows = np.array(cell["cold"], dtype=bool) == (group == "cold")
        found.append({metric: np.asarray(values)[rows] for metric, values in cell.items() if metric != "cold"})
    return found


def to_table(summary: Mapping[str, Any]) -> str:
    """Markdown table of a study."""
    metrics, diagnostics = summary["study"]["metrics"], summary["study"]["diagnostics"]
    groups = sorted(summary["variants"][summary["reference"]]["users"])
    header = ["variant", *(part for metric in metrics for part in (metric, f"{metric} − {summary['reference']}"))]
    header += [f"{metrics[0]}, {group} users" for group in groups] + list(diagnostics)
    rows = [header, ["---"] * len(header)]
    for variant, row in summary["variants"].items():
        cells = [variant]
        for metric in metrics:
            own, lead = row[metric], row[metric]["lead"]
            cells.append(f"{own['mean']:.3f} [{own['low']:.3f}, {own['high']:.3f}]")
            cells.append(
                "" if variant == summary["reference"] else f"{lead['mean']:+.3f} [{lead['low']:+.3f}, {lead['high']:+.3f}]"
            )
        of_group = (row["users"][group][metrics[0]] for group in groups)
        cells += [f"{one['mean']:.3f} [{one['low']:.3f}, {one['high']:.3f}]" for one in of_group]
        rows.append([*cells, *(f"{row[key]:.4g}" for key in diagnostics)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


VALUES_NAME = "study_values.json"
"""Per request of the evaluation, in a cell's ``evaluation/``: metric → values, and whether its user was cold."""


def _save_values(report: Report, study: Study, run: RunFolder) -> None:
    (name,) = report.values
    purchases = report.values[name]["purchase"]["item"]
    cold = [not report.warm[session] for session, items in report.truth["purchase"].items() if items]
    values = {metric: np.asarray(purchases[metric]).tolist() for metric in study.metrics}
    write_json(run.evaluation / VALUES_NAME, {**values, "cold": cold})


def _two_level_draws(own: np.ndarray, base: np.ndarray, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Means (samples,) of both tables (seeds, requests) under the same draws of seeds and requests."""
    random = np.random.default_rng(0)
    seeds, requests = own.shape
    drawn = np.empty((2, samples))
    for sample in range(samples):
        rows = random.integers(0, seeds, seeds)
        weights = random.multinomial(requests, np.full(requests, 1 / requests)) / requests
        drawn[0, sample], drawn[1, sample] = (own[rows] @ weights).mean(), (base[rows] @ weights).mean()
    return drawn[0], drawn[1]


def _ends(draws: np.ndarray) -> dict[str, float]:
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"low": float(low), "high": float(high)}


def _keys(recipe: Recipe) -> dict[str, str]:
    """What each shared part depends on, as text."""
    values = asdict(recipe)
    return {part: repr([values[name] for name in names if name in values]) for part, names in SHARED.items()}


def _share(recipe: Recipe, run: RunFolder, made: Mapping[str, RunFolder]) -> None:
    """Link the parts that an earlier cell has made from the same fields."""
    from .run import claim

    claim(recipe, run, resume=True)
    for part, key in _keys(recipe).items():
        origin = made.get(f"{part} {key}")
        if origin is not None and not getattr(run, part).exists():
            shutil.copytree(getattr(origin, part), getattr(run, part), copy_function=os.link)


def _set(values: dict[str, Any], key: str, value: Any, variant: str) -> None:
    *path, last = key.split(".")
    place: Any = values
    for name in path:
        if not isinstance(place, dict) or name not in place:
            raise ValueError(
                f"variant {variant!r}: {key!r} is no field of the recipe; {name!r} is not among {', '.join(place)}"
            )
        if place[name] is None:
            return  # a part that the recipe leaves to its defaults
        place = place[name]
    place[last] = value


def _get(report: Mapping[str, Any], key: str) -> float:
    place: Any = report
    for name in key.split("."):
        if name not in place:
            raise KeyError(f"diagnostics.json has no {key!r}; {name!r} is not among {', '.join(place)}")
        place = place[name]
    return place
