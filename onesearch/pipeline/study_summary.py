"""The table of a study: means over the seeds, with intervals over seeds and requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from onesearch.files import RunFolder, read_json

from .study import Study

VALUES_NAME = "study_values.json"
"""Per request of the evaluation, in a cell's ``evaluation/``: metric → values, and whether its user was cold."""


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


def _get(report: Mapping[str, Any], key: str) -> float:
    place: Any = report
    for name in key.split("."):
        if name not in place:
            raise KeyError(f"diagnostics.json has no {key!r}; {name!r} is not among {', '.join(place)}")
        place = place[name]
    return place
