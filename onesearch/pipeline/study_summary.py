"""The table of a study: means over the seeds, with intervals over seeds and requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from onesearch.files import RunFolder, read_json

from .mappings import plain
from .study import Study
from .study_metrics import of_purchases

VALUES_NAME = "study_values.json"
"""File in a cell's ``evaluation/``: ``{"served": name of the order that the settings serve, "orders": {name: {metric: value of each
request}}, "cold": whether the user of each request with a purchase has no history}``. The other orders are those of the report: the
generator alone, with the reward model, and so on, and the baselines."""


class _Compared(NamedTuple):
    """Values of one order and of the one that it is compared with, {metric: value of each request} per seed."""

    variant: str
    reference: str
    own: Sequence[Mapping[str, Any]]
    base: Sequence[Mapping[str, Any]]

    def of_users(self, group: str) -> _Compared:
        """The same, of the requests of ``cold`` or of ``warm`` users."""
        return self._replace(
            own=[_rows_of(cell, group) for cell in self.own], base=[_rows_of(cell, group) for cell in self.base]
        )


def summarise(study: Study, cells: Mapping[str, Sequence[RunFolder]], samples: int = 2000) -> dict[str, Any]:
    """Means over the seeds, with intervals.

    Intervals are 95 % percentiles of a bootstrap that draws seeds and, within them, requests. Requests are paired across variants, so a
    difference is measured on the same requests and seeds. With three seeds the part of the seeds in an interval is a rough estimate.

    Args:
        study: the study.
        cells: variant → its finished runs, one per seed.
        samples: draws of the bootstrap. More draws give steadier interval ends and take more time.

    Returns:
        ``{"study": …, "reference": …, "variants": {name: {metric: {"mean", "low", "high", "seeds": [per seed], "lead": {"mean", "low",
        "high"}}, "users": {"cold" | "warm": {metric: as above}}, "orders": {name: {metric: as above}}, diagnostic: mean}}}``. The metrics
        of a variant are those of the order that its settings serve, and ``lead`` is the variant minus the reference. ``orders`` has the
        other orders and baselines of the variant's reports; their ``lead`` is the order minus the served one, and their ``gain`` the order
        minus the same order of the reference, if that has it. Cold users have no history.

    Raises:
        ValueError: two variants were measured on different numbers of requests.
        KeyError: a diagnostic of the study does not exist.
    """
    reference = study.reference or next(iter(study.variants))
    measured = {variant: [read_json(run.evaluation / VALUES_NAME) for run in runs] for variant, runs in cells.items()}
    values = {variant: [_served(cell) for cell in of_seeds] for variant, of_seeds in measured.items()}
    found: dict[str, Any] = {}
    for variant, runs in cells.items():
        pair = _Compared(variant, reference, values[variant], values[reference])
        row: dict[str, Any] = {"users": {}, "orders": _orders(study, measured[variant], measured[reference], samples)}
        for metric in study.metrics:
            row[metric] = _compare(pair, metric, samples)
        is_cold = values[variant][0]["cold"]
        for group in ("cold", "warm"):
            if (group == "cold") in is_cold:
                of_group = pair.of_users(group)
                row["users"][group] = {metric: _compare(of_group, metric, samples) for metric in of_purchases(study.metrics)}
        reports = [read_json(run.sids / "diagnostics.json") for run in runs]
        for key in study.diagnostics:
            row[key] = float(np.mean([_diagnostic(report, key) for report in reports]))
        found[variant] = row
    return {"study": plain(asdict(study)), "reference": reference, "variants": found}


def _served(cell: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the order that a cell's settings serve, with ``cold``."""
    return {**cell["orders"][cell["served"]], "cold": cell["cold"]}


def _orders(
    study: Study, cells: Sequence[Mapping[str, Any]], of_reference: Sequence[Mapping[str, Any]], samples: int
) -> dict[str, Any]:
    """Every order of one variant but the served one, compared with that one and with the same order of the reference, on the same requests
    and seeds."""
    served, found = cells[0]["served"], {}
    for name in cells[0]["orders"]:
        if name == served or not all(name in cell["orders"] for cell in cells):
            continue
        own = [cell["orders"][name] for cell in cells]
        pair = _Compared(name, served, own, [cell["orders"][served] for cell in cells])
        found[name] = {metric: _compare(pair, metric, samples) for metric in study.metrics}
        if all(name in cell["orders"] for cell in of_reference):
            same = _Compared(name, f"{name} of the reference", own, [cell["orders"][name] for cell in of_reference])
            for metric, row in found[name].items():
                row["gain"] = _compare(same, metric, samples)["lead"]
    return found


def to_table(summary: Mapping[str, Any]) -> str:
    """Markdown tables of a study, from the result of `summarise`: the variants, and the other orders of each if there are any."""
    tables = [_variant_rows(summary)]
    if any(row["orders"] for row in summary["variants"].values()):
        tables.append(_order_rows(summary))
    return "\n\n".join("\n".join(f"| {' | '.join(cells)} |" for cells in rows) for rows in tables)


def _order_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """Rows of the table of all orders, the served one of a variant first."""
    metrics, reference = summary["study"]["metrics"], summary["reference"]
    header = ["variant", "order"]
    for metric in metrics:
        header += [metric, f"{metric} − served", f"{metric} − {reference}"]
    rows = [header, ["---"] * len(header)]
    for variant, row in summary["variants"].items():
        served = [variant, "served"]
        for metric in metrics:
            served += [_cell(row[metric]), "", "" if variant == reference else _cell(row[metric]["lead"], sign="+")]
        rows.append(served)
        for name, order in row["orders"].items():
            cells = [variant, name]
            for metric in metrics:
                gain = order[metric].get("gain") if variant != reference else None
                cells += [_cell(order[metric]), _cell(order[metric]["lead"], sign="+"), _cell(gain, sign="+") if gain else ""]
            rows.append(cells)
    return rows


def _variant_rows(summary: Mapping[str, Any]) -> list[list[str]]:
    """Rows of the table of the variants, each by the order that it serves."""
    metrics, diagnostics = summary["study"]["metrics"], summary["study"]["diagnostics"]
    reference = summary["reference"]
    shown = of_purchases(metrics)[:1]
    groups = sorted(summary["variants"][reference]["users"]) if shown else []
    header = ["variant"]
    for metric in metrics:
        header += [metric, f"{metric} − {reference}"]
    header += [f"{shown[0]}, {group} users" for group in groups] + list(diagnostics)
    rows = [header, ["---"] * len(header)]
    for variant, row in summary["variants"].items():
        cells = [variant]
        for metric in metrics:
            cells += [_cell(row[metric]), "" if variant == reference else _cell(row[metric]["lead"], sign="+")]
        cells += [_cell(row["users"][group][shown[0]]) for group in groups]
        cells += [f"{row[key]:.4g}" for key in diagnostics]
        rows.append(cells)
    return rows


def _cell(estimate: Mapping[str, float], sign: str = "") -> str:
    """Mean and interval; with sign "+" positive numbers have one, too."""
    mean, low, high = (f"{estimate[name]:{sign}.3f}" for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _compare(pair: _Compared, metric: str, samples: int) -> dict[str, Any]:
    """Mean, interval and lead of one metric."""
    own = np.array([cell[metric] for cell in pair.own])  # (seeds, requests)
    base = np.array([cell[metric] for cell in pair.base])
    if own.shape != base.shape:
        raise ValueError(
            f"{pair.variant!r} was measured on {own.shape[1]} requests, {pair.reference!r} on {base.shape[1]}; measure both on the same"
        )
    own_draws, base_draws = _two_level_draws(own, base, samples)
    lead = {"mean": (own - base).mean(), **_interval(own_draws - base_draws)}
    return {"mean": own.mean(), **_interval(own_draws), "seeds": own.mean(axis=1).tolist(), "lead": lead}


def _rows_of(cell: Mapping[str, Any], group: str) -> dict[str, np.ndarray]:
    """The values of a cell on requests of ``cold`` or of ``warm`` users."""
    rows = np.array(cell["cold"], dtype=bool) == (group == "cold")
    return {metric: np.asarray(cell[metric])[rows] for metric in of_purchases(list(cell)) if metric != "cold"}


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


def _interval(draws: np.ndarray) -> dict[str, float]:
    """Ends of the 95 % interval."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"low": float(low), "high": float(high)}


def _diagnostic(report: Mapping[str, Any], key: str) -> float:
    """The number at a dotted key of ``diagnostics.json``."""
    place: Any = report
    for name in key.split("."):
        if name not in place:
            raise KeyError(f"diagnostics.json has no {key!r}; in place of {name!r} allowed are {', '.join(place)}")
        place = place[name]
    return float(place)


__all__ = ["VALUES_NAME", "summarise", "to_table"]
