"""Metrics of a study: which there are, and the value of each request by each order of a report.

| name | measured on |
|---|---|
| ``HR@10``, ``Recall@10``, ``MRR@10``, ``NDCG@10`` | purchases, items |
| ``click HR@10`` and so on | clicks, items |
| ``cold HR@10`` and so on | purchases of items that nobody bought in the training split |
| ``judged NDCG@10``, ``judged Recall@100``, ``judged judged@10`` | judged queries; see `onesearch.evaluation.relevance` |
| ``expected purchases@10``, ``expected clicks@10`` | all requests of a simulated market; see `onesearch.simulator.expected` |
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from onesearch.data.columns import session_entries
from onesearch.data.market import Market
from onesearch.data.requests import SPLITS, split_sessions
from onesearch.evaluation.cutoffs import check_measured, cutoff_of
from onesearch.evaluation.metrics import METRICS, all_metrics, gain_table
from onesearch.evaluation.reports import Report

from .market_options import SIMULATION
from .recipe import Recipe

CLICK, COLD, JUDGED, EXPECTED = "click", "cold", "judged", "expected"

_KINDS = {
    "": METRICS,
    CLICK: METRICS,
    COLD: METRICS,
    JUDGED: ("NDCG", "Recall", "judged"),
    EXPECTED: ("purchases", "clicks"),
}
"""Prefix of a metric's name → names that may follow it."""


def split_name(metric: str) -> tuple[str, str]:
    """The prefix of a metric's name, empty for purchases, and the rest of it.

    Raises:
        ValueError: there is no such metric; the message lists those that there are.
    """
    prefix, _, rest = metric.rpartition(" ")
    found = re.fullmatch(r"(\w+)@[1-9]\d*", rest)
    if found is None or found[1] not in _KINDS.get(prefix, ()):
        allowed = ", ".join(f"{prefix} {name}@K".strip() for prefix, names in _KINDS.items() for name in names)
        raise ValueError(f"metric {metric!r} is unknown; allowed are {allowed}")
    return prefix, rest


def of_purchases(metrics: Sequence[str]) -> list[str]:
    """Those of the metrics that are measured on requests with a purchase."""
    return [metric for metric in metrics if " " not in metric]


def check_metrics(metrics: Sequence[str], recipe: Recipe) -> None:
    """Refuse metrics that the report of a recipe will not have, before anything is trained.

    Raises:
        ValueError: a metric is unknown, its cut-off is not measured, or it needs a simulated market.
    """
    parts = [(metric, *split_name(metric)) for metric in metrics]
    for metric, prefix, rest in parts:
        if prefix == EXPECTED and recipe.market.importer != SIMULATION:
            raise ValueError(
                f"metric {metric!r} needs a simulated market, and importer={recipe.market.importer!r} has none; leave it out"
            )
        if prefix in (JUDGED, EXPECTED) and cutoff_of(rest) > recipe.search.num_beams:
            raise ValueError(f"metric {metric!r} is above the {recipe.search.num_beams} beams of the search (search.num_beams)")
    listed = [rest for _, prefix, rest in parts if prefix in ("", CLICK, COLD)]
    check_measured(listed, recipe.evaluation.cutoffs, recipe.search.num_beams)


def request_values(report: Report, metrics: Sequence[str], market: Market) -> dict[str, dict[str, list[float]]]:
    """The value of each request, by each order of a report.

    Args:
        report: a report that was just measured.
        metrics: names that `check_metrics` accepts.
        market: market of the report.

    Returns:
        Order → metric → values. Metrics of the same kind have the same requests, in one order.

    Raises:
        ValueError: the report has no such metric.
    """
    found: dict[str, dict[str, list[float]]] = {name: {} for name in report.rankings}
    for metric in metrics:
        prefix, rest = split_name(metric)
        if prefix == EXPECTED:
            of_order: dict[str, Any] = _expected(report, rest, market)
        elif prefix == COLD:
            of_order = _cold(report, rest, market)
        elif prefix == JUDGED:
            of_order = {name: report.judged.get(name, {}).get(rest) for name in found}
        else:
            of_order = {
                name: kinds.get(prefix or "purchase", {}).get("item", {}).get(rest) for name, kinds in report.values.items()
            }
        for name in found:
            if of_order[name] is None:
                raise ValueError(
                    f"{name} was not measured by {metric!r}: nothing in this split of the market has what it is measured on"
                )
            found[name][metric] = np.asarray(of_order[name]).tolist()
    return found


def _cold(report: Report, rest: str, market: Market) -> dict[str, np.ndarray | None]:
    """One metric of purchases of items that nobody bought in training, order → value of each request that has one; None without any."""
    sessions, items = session_entries(market, "purchased")
    in_training = split_sessions(market)[sessions] == SPLITS.index("train")
    item_ids = market.items.data.column("item_id").to_pylist()
    known = {item_ids[row] for row in np.unique(items[in_training])}
    unseen = {session: [item for item in bought if item not in known] for session, bought in report.truth["purchase"].items()}
    wanted = {session: dict.fromkeys(bought, 1.0) for session, bought in unseen.items() if bought}
    if not wanted:
        return dict.fromkeys(report.rankings)
    cutoff = cutoff_of(rest)
    found: dict[str, np.ndarray | None] = {}
    for name, of_session in report.rankings.items():
        table = gain_table([of_session[session].item_ids for session in wanted], list(wanted.values()), cutoff)
        found[name] = all_metrics(table, [cutoff], [rest.partition("@")[0]])[rest]
    return found


def _expected(report: Report, rest: str, market: Market) -> dict[str, np.ndarray]:
    """Expected purchases or clicks of the first items, order → value of each request, by session."""
    from onesearch.simulator.config import ResolvedConfig
    from onesearch.simulator.expected import expected_purchases

    kind, cutoff = rest.partition("@")[0].removesuffix("s"), cutoff_of(rest)
    session_row = {session: row for row, session in enumerate(market.sessions.data.column("session_id").to_pylist())}
    item_row = {item: row for row, item in enumerate(market.items.data.column("item_id").to_pylist())}
    asked = sorted(next(iter(report.rankings.values())), key=session_row.__getitem__)
    rankings = {
        name: [[item_row[item] for item in of_session[session].item_ids[:cutoff]] for session in asked]
        for name, of_session in report.rankings.items()
    }
    rows = np.array([session_row[session] for session in asked], dtype=np.int64)
    return expected_purchases(ResolvedConfig(**market.info["config"]), rows, rankings, kind)


__all__ = ["check_metrics", "of_purchases", "request_values", "split_name"]
