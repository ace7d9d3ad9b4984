"""Measure retrievers on the judged queries of a market, without user and history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc

from onesearch.data.market import Market
from onesearch.data.requests import Request
from onesearch.extras import MissingExtraError

from .cutoffs import cutoff_of, reason
from .measuring import Bootstrap, Estimates, run_retriever
from .metrics import gain_table, ndcg, recall
from .reports import check_name
from .retrievers import Retriever, beams_of
from .title_words import title_word_groups, title_word_shares


class JudgedQueries(NamedTuple):
    """Measures on the judged queries.

    Args:
        report: the value of `Report.relevance`; see `onesearch.evaluation.reports`.
        values: retriever → metric → value of each query that the metric is measured on.
    """

    report: dict[str, Any]
    values: dict[str, dict[str, np.ndarray]]


def evaluate_relevance(
    retrievers: Sequence[Retriever],
    market: Market,
    *,
    cutoff: int = 10,
    recall_cutoff: int = 100,
    relevant_grade: int = 2,
    batch_size: int = 256,
    bootstrap_samples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> JudgedQueries:
    """Measure retrievers on the judged queries of ``market.relevance``, without user and history.

    * ``NDCG@10`` has linear gains and is measured on the queries with at least one grade ≥ 1; an unjudged item counts 0.
    * ``Recall@100`` counts items with a grade of at least `relevant_grade` and is measured on the queries that have one.
    * ``judged@10`` is the share of the first 10 items that are judged (0 if none is returned). Where it is low, NDCG is uncertain.
    * ``title_words`` has NDCG@10 of the queries by how often their words stand in the titles of relevant items; see `title_words.py`. It
      is left out without the extra ``evaluation``.
    * A retriever that searches with n beams has no metric with a cut-off above n; ``notes`` says so.

    Args:
        retrievers: retrievers with distinct names.
        market: market with a relevance table. A pair that was judged twice counts with its higher grade.
        cutoff: cut-off of NDCG and of the judged share, 10 above.
        recall_cutoff: cut-off of the recall, 100 above.
        relevant_grade: lowest grade from which an item counts as relevant in the recall.
        batch_size: as in `evaluate`.
        bootstrap_samples: as in `evaluate`.
        seed: as in `evaluate`.
        progress: as in `evaluate`.

    Returns:
        The report's part, and the values of the queries.

    Raises:
        ValueError: no judgement has a grade of at least `relevant_grade`, or of at least 1.
    """
    grades = _grades(market)
    judged = list(grades.values())
    strong = [_strong(of_item, relevant_grade) for of_item in judged]
    with_strong = [row for row, gains in enumerate(strong) if gains]
    left_out = why_left_out(market, relevant_grade)
    if left_out is not None:
        raise ValueError(f"relevance cannot be measured: {left_out}")
    requests = [Request(session_id=f"query-{row}", user_id="", query=query) for row, query in enumerate(grades)]
    bootstrap = Bootstrap(bootstrap_samples, seed)
    measured: dict[str, Estimates] = {}
    values: dict[str, dict[str, np.ndarray]] = {}
    groups = _groups(market, list(grades), strong)
    by_group: dict[str, Estimates] = {}
    notes: list[str] = []
    for retriever in retrievers:
        rankings, _ = run_retriever(retriever, requests, max(cutoff, recall_cutoff), batch_size, progress)
        found = [ranking.item_ids for ranking in rankings]
        graded = gain_table(found, judged, cutoff)
        recalled = gain_table([found[row] for row in with_strong], [strong[row] for row in with_strong], recall_cutoff)
        quality = ndcg(graded, cutoff)
        by_group[check_name(retriever.name)] = {
            name: bootstrap.estimates({"NDCG": quality[rows]})["NDCG"] for name, rows in groups.items()
        }
        own = {
            f"NDCG@{cutoff}": quality,
            f"Recall@{recall_cutoff}": recall(recalled, recall_cutoff),
            f"judged@{cutoff}": _judged_share(found, judged, cutoff),
        }
        beams = beams_of(retriever)
        above = [metric for metric in own if beams is not None and cutoff_of(metric) > beams]
        if beams is not None and above:
            notes.append(reason(retriever.name, beams, above))
        values[retriever.name] = {metric: of_query for metric, of_query in own.items() if metric not in above}
        measured[retriever.name] = {
            metric: bootstrap.estimates({metric: of_query})[metric] for metric, of_query in values[retriever.name].items()
        }
    counts = {"queries": len(grades), "recall_queries": len(with_strong), "recall_grade": relevant_grade}
    title_words = {
        "queries": {name: len(rows) for name, rows in groups.items()},
        "metric": f"NDCG@{cutoff}",
        "retrievers": by_group,
    }
    report = {**counts, "notes": notes, "retrievers": measured, "title_words": title_words if groups else None}
    return JudgedQueries(report, values)


def _groups(market: Market, queries: Sequence[str], relevant: Sequence[Mapping[str, float]]) -> dict[str, np.ndarray]:
    """Rows of the queries by `title_word_groups`; none where the analysis of texts is not installed."""
    try:
        return title_word_groups(title_word_shares(market, queries, relevant))
    except MissingExtraError:
        return {}


def why_left_out(market: Market, relevant_grade: int) -> str | None:
    """Return the reason why judged queries cannot be measured, or None if they can.

    Args:
        market: market whose relevance table is asked for.
        relevant_grade: as in `evaluate_relevance`.
    """
    if not len(market.relevance):
        return "the market has no judged query"
    highest = pc.max(market.relevance.data.column("grade")).as_py()
    needed = max(1, relevant_grade)
    if highest >= needed:
        return None
    advice = f"; lower relevant_grade (--relevant-grade) to {highest}" if highest >= 1 else ""
    return (
        f"none of its {len(market.relevance):,} judgements has a grade of at least {needed}, the highest is {highest}{advice}"
    )


def _grades(market: Market) -> dict[str, dict[str, float]]:
    """Query → item → grade, for the queries with at least one grade ≥ 1."""
    grades: dict[str, dict[str, float]] = {}
    columns = (market.relevance.data.column(name).to_pylist() for name in ("query", "item_id", "grade"))
    for query, item, grade in zip(*columns):
        of_item = grades.setdefault(query, {})
        of_item[item] = max(of_item.get(item, 0.0), float(grade))
    return {query: of_item for query, of_item in grades.items() if max(of_item.values()) >= 1}


def _strong(grades: Mapping[str, float], least: int) -> dict[str, float]:
    """Gain 1 for the items whose grade is at least `least`."""
    return {item: 1.0 for item, grade in grades.items() if grade >= least}


def _judged_share(found: Sequence[Sequence[str]], judged: Sequence[Mapping[str, float]], cutoff: int) -> np.ndarray:
    """Share of the first items that are judged, ``(requests,)``."""
    tops = [ranking[:cutoff] for ranking in found]
    return np.array([sum(item in known for item in top) / max(1, len(top)) for top, known in zip(tops, judged)])


__all__ = ["JudgedQueries", "evaluate_relevance", "why_left_out"]
