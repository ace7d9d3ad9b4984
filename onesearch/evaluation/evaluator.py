"""Measure retrievers on the requests of a split, and on judged queries."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import Request, targets_of

from .metrics import CUTOFFS, all_metrics, bootstrap_interval, gain_table, ndcg, paired_bootstrap, recall
from .reports import Report, check_name
from .retrievers import Ranking, Retriever, Sid

Values = dict[str, np.ndarray]
"""Metric → one value per request, ``(requests,)``."""


@dataclass(frozen=True, slots=True)
class _Bootstrap:
    samples: int
    seed: int

    def estimates(self, values: Values) -> dict[str, dict[str, float]]:
        """Mean and interval of each metric."""
        matrix = np.column_stack(list(values.values()))
        return _estimates(values, matrix.mean(axis=0), *bootstrap_interval(matrix, self.samples, self.seed))

    def lead(self, reference: Values, values: Values) -> dict[str, dict[str, float]]:
        """Mean and interval of reference − values, paired by request."""
        pair = (np.column_stack(list(part.values())) for part in (reference, values))
        return _estimates(values, *paired_bootstrap(*pair, self.samples, self.seed))


def evaluate(
    retrievers: Sequence[Retriever],
    requests: Sequence[Request],
    *,
    cutoffs: Sequence[int] = CUTOFFS,
    sid_of: Mapping[str, Sid] | None = None,
    targets: Sequence[str] = ("purchase", "click"),
    batch_size: int = 256,
    bootstrap_samples: int = 1000,
    seed: int = 0,
    progress: bool = True,
    reference: str | None = None,
    market: str = "",
    split: str = "test",
    sample: Mapping[str, int] | None = None,
) -> Report:
    """Run every retriever on every request and report all metrics, item level and SID level apart, purchases and clicks apart.

    * Item level: the ranking as returned against the target items.
    * SID level (with `sid_of`): the distinct SIDs of the ranking in order of first appearance against the SIDs of the targets.
      Where a SID stands for several items, a SID hit is not an item hit.
    * A request without a target of one kind is left out for that kind, and counted.
    * Cold users (empty history) and warm ones are also told apart, by HR at item level.
    * Time is that of `retrieve` alone, batch by batch; CPU time adds up over threads.

    Args:
        retrievers: with distinct names.
        requests: of one split, with distinct session ids; `sample_requests` draws fewer.
        cutoffs: the largest is the number of items asked for. A generative model finds no more than its beams expand to.
        sid_of: SID of every catalogue item; without it the SID level is left out.
        targets: of ``purchase`` and ``click``.
        batch_size: requests per call of `retrieve`.
        bootstrap_samples, seed: of the 95 % intervals.
        progress: show a bar per retriever on stderr.
        reference: name of the retriever that the others are compared with, request by request.
        market, split, sample: noted in the report; `sample` is what `sample_requests` returned.

    Raises:
        ValueError: no requests, a name or session id occurs twice, `reference` is unknown, an item has no SID, or a retriever
            returns another number of rankings or more items than asked for.
    """
    names = [check_name(retriever.name) for retriever in retrievers]
    _check_arguments(names, requests, cutoffs, reference)
    report = Report(
        market=market,
        split=split,
        requests=len(requests),
        sample=dict(sample) if sample else None,
        cutoffs=tuple(sorted(cutoffs)),
        bootstrap={"samples": bootstrap_samples, "seed": seed, "level": 0.95},
        reference=reference,
        truth={kind: {request.session_id: targets_of(request, kind) for request in requests} for kind in targets},
        warm={request.session_id: bool(request.history) for request in requests},
    )
    for kind, truth in report.truth.items():
        with_target = sum(1 for items in truth.values() if items)
        report.targets[kind] = {"requests": with_target, "left_out": len(requests) - with_target}
    for retriever in retrievers:
        rankings, timing = _run(retriever, requests, max(cutoffs), batch_size, progress)
        report.rankings[retriever.name] = {request.session_id: ranking for request, ranking in zip(requests, rankings)}
        report.retrievers[retriever.name] = {**timing, "invalid_sid_rate": _invalid_rate(rankings), "targets": {}}
        report.values[retriever.name] = {kind: _measure(requests, rankings, kind, report.cutoffs, sid_of) for kind in targets}
    _summarise(report, requests, _Bootstrap(bootstrap_samples, seed))
    return report


def sample_requests(requests: Sequence[Request], count: int, seed: int = 0) -> tuple[list[Request], dict[str, int] | None]:
    """Draw `count` requests without replacement, kept in their order.

    Returns:
        The requests, and what `evaluate(sample=...)` notes: ``{"count", "of", "seed"}``, or None if `count` takes them all.
    """
    if count < 1:
        raise ValueError(f"count is {count}; at least one request must be drawn")
    if count >= len(requests):
        return list(requests), None
    drawn = np.sort(np.random.default_rng(seed).choice(len(requests), size=count, replace=False))
    return [requests[row] for row in drawn], {"count": count, "of": len(requests), "seed": seed}


def evaluate_relevance(
    retrievers: Sequence[Retriever],
    market: Market,
    *,
    cutoff: int = 10,
    recall_cutoff: int = 100,
    recall_grade: int = 2,
    batch_size: int = 256,
    bootstrap_samples: int = 1000,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Measure retrievers on the judged queries of ``market.relevance``, without user and history.

    * ``NDCG@10``: graded, linear gains, over the queries with at least one grade ≥ 1; an unjudged item counts 0.
    * ``Recall@100``: of items with grade ≥ 2, over the queries that have one.
    * ``judged@10``: share of the returned top 10 that is judged at all (0 if nothing is returned). Where low, NDCG says little.

    Args:
        retrievers: with distinct names.
        market: its relevance table is read; a pair judged twice counts with its higher grade.
        cutoff, recall_cutoff, recall_grade: the 10, 100 and 2 above.
        batch_size, bootstrap_samples, seed, progress: as in `evaluate`.

    Returns:
        What `Report.relevance` holds; see `onesearch.evaluation.reports`.

    Raises:
        ValueError: no query has a grade ≥ 1 or none has one ≥ `recall_grade`.
    """
    grades = _grades(market)
    strong = {
        query: {item: 1.0 for item, grade in of_item.items() if grade >= recall_grade} for query, of_item in grades.items()
    }
    with_strong = [row for row, gains in enumerate(strong.values()) if gains]
    if not with_strong:
        raise ValueError(
            f"no judged query of this market has a grade of at least {max(1, recall_grade)}; relevance cannot be measured"
        )
    requests = [Request(session_id=f"query-{row}", user_id="", query=query) for row, query in enumerate(grades)]
    bootstrap = _Bootstrap(bootstrap_samples, seed)
    measured = {}
    for retriever in retrievers:
        rankings, _ = _run(retriever, requests, max(cutoff, recall_cutoff), batch_size, progress)
        found = [ranking.item_ids for ranking in rankings]
        graded = gain_table(found, list(grades.values()), cutoff)
        recalled = gain_table([found[row] for row in with_strong], [gains for gains in strong.values() if gains], recall_cutoff)
        measured[check_name(retriever.name)] = {
            **bootstrap.estimates({f"NDCG@{cutoff}": ndcg(graded, cutoff)}),
            **bootstrap.estimates({f"Recall@{recall_cutoff}": recall(recalled, recall_cutoff)}),
            **bootstrap.estimates({f"judged@{cutoff}": _judged_share(found, list(grades.values()), cutoff)}),
        }
    return {"queries": len(grades), "recall_queries": len(with_strong), "recall_grade": recall_grade, "retrievers": measured}


def _check_arguments(names: Sequence[str], requests: Sequence[Request], cutoffs: Sequence[int], reference: str | None) -> None:
    if not names or not requests:
        raise ValueError(f"{len(names)} retrievers and {len(requests)} requests; give at least one of each")
    if len(set(names)) != len(names):
        raise ValueError(f"retriever names {names} are not distinct; rename one, they name rows and run files")
    if reference is not None and reference not in names:
        raise ValueError(f"reference {reference!r} is none of the retrievers {names}")
    if not cutoffs or min(cutoffs) < 1:
        raise ValueError(f"cutoffs are {tuple(cutoffs)}; give at least one, all at least 1")
    if len({request.session_id for request in requests}) != len(requests):
        raise ValueError("session ids of the requests are not distinct; they are the query ids of run files and must be")


def _run(
    retriever: Retriever, requests: Sequence[Request], top_k: int, batch_size: int, progress: bool
) -> tuple[list[Ranking], dict[str, float]]:
    from tqdm.auto import tqdm

    rankings: list[Ranking] = []
    seconds = cpu_seconds = 0.0
    with tqdm(total=len(requests), desc=retriever.name, unit="request", disable=not progress) as bar:
        for start in range(0, len(requests), batch_size):
            batch = requests[start : start + batch_size]
            wall, cpu = time.perf_counter(), time.process_time()
            answers = retriever.retrieve(batch, top_k)
            seconds += time.perf_counter() - wall
            cpu_seconds += time.process_time() - cpu
            longest = max((len(ranking.item_ids) for ranking in answers), default=0)
            if len(answers) != len(batch) or longest > top_k:
                raise ValueError(
                    f"{retriever.name} gave {len(answers)} rankings of up to {longest} items for {len(batch)} requests and "
                    f"top_k={top_k}; it must give one ranking per request and at most top_k items"
                )
            rankings.extend(answers)
            bar.update(len(batch))
    return rankings, {"seconds_per_request": seconds / len(requests), "cpu_seconds_per_request": cpu_seconds / len(requests)}


def _measure(
    requests: Sequence[Request],
    rankings: Sequence[Ranking],
    kind: str,
    cutoffs: Sequence[int],
    sid_of: Mapping[str, Sid] | None,
) -> dict[str, Values]:
    """Level → metric → value per request that has a target of this kind; empty if none has."""
    pairs = [(targets, ranking) for request, ranking in zip(requests, rankings) if (targets := targets_of(request, kind))]
    if not pairs:
        return {}
    levels = {"item": ([ranking.item_ids for _, ranking in pairs], [targets for targets, _ in pairs])}
    if sid_of is not None:
        found = [_distinct_sids(ranking, sid_of) for _, ranking in pairs]
        levels["sid"] = (found, [_sids(targets, sid_of) for targets, _ in pairs])
    return {level: _metrics_of(found, wanted, cutoffs) for level, (found, wanted) in levels.items()}


def _metrics_of(found: Sequence[Sequence[Hashable]], wanted: Sequence[Iterable[Hashable]], cutoffs: Sequence[int]) -> Values:
    return all_metrics(gain_table(found, [dict.fromkeys(targets, 1.0) for targets in wanted], max(cutoffs)), cutoffs)


def _distinct_sids(ranking: Ranking, sid_of: Mapping[str, Sid]) -> list[Sid]:
    own = ranking.sids or (None,) * len(ranking.item_ids)
    unknown = [item for item, sid in zip(ranking.item_ids, own) if sid is None]
    looked_up = iter(_sids(unknown, sid_of))
    return list(dict.fromkeys(next(looked_up) if sid is None else tuple(sid) for sid in own))


def _sids(items: Iterable[str], sid_of: Mapping[str, Sid]) -> list[Sid]:
    try:
        return [tuple(sid_of[item]) for item in items]
    except KeyError as error:
        raise ValueError(f"item {error.args[0]!r} has no SID; encode the whole catalogue, or leave sid_of out") from error


def _invalid_rate(rankings: Sequence[Ranking]) -> float | None:
    """Share of all beams that belong to no item; None for a retriever without beams."""
    beams = sum(ranking.beams for ranking in rankings)
    return sum(ranking.invalid for ranking in rankings) / beams if beams else None


def _summarise(report: Report, requests: Sequence[Request], bootstrap: _Bootstrap) -> None:
    """Fill means, intervals, cold and warm users and leads into ``report.retrievers``."""
    for kind, counts in report.targets.items():
        if not counts["requests"]:
            continue
        warm = np.array([bool(request.history) for request in requests if targets_of(request, kind)])
        for name, of_kind in report.values.items():
            levels = of_kind[kind]
            entry: dict[str, Any] = {level: bootstrap.estimates(values) for level, values in levels.items()}
            entry["users"] = _users(levels["item"], warm, bootstrap)
            if report.reference is not None and name != report.reference:
                leader = report.values[report.reference][kind]
                entry["reference_lead"] = {level: bootstrap.lead(leader[level], values) for level, values in levels.items()}
            report.retrievers[name]["targets"][kind] = entry


def _users(values: Values, warm: np.ndarray, bootstrap: _Bootstrap) -> dict[str, dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {}
    for group, rows in (("cold", ~warm), ("warm", warm)):
        groups[group] = {"requests": int(rows.sum())}
        if rows.any():
            groups[group] |= bootstrap.estimates(
                {metric: part[rows] for metric, part in values.items() if metric.startswith("HR@")}
            )
    return groups


def _estimates(names: Iterable[str], *columns: np.ndarray) -> dict[str, dict[str, float]]:
    return {name: dict(zip(("value", "low", "high"), map(float, row))) for name, row in zip(names, zip(*columns))}


def _grades(market: Market) -> dict[str, dict[str, float]]:
    """Query → item → grade, of the queries with at least one grade ≥ 1."""
    grades: dict[str, dict[str, float]] = {}
    columns = (market.relevance.data.column(name).to_pylist() for name in ("query", "item_id", "grade"))
    for query, item, grade in zip(*columns):
        of_item = grades.setdefault(query, {})
        of_item[item] = max(of_item.get(item, 0.0), float(grade))
    return {query: of_item for query, of_item in grades.items() if max(of_item.values()) >= 1}


def _judged_share(found: Sequence[Sequence[str]], judged: Sequence[Mapping[str, float]], cutoff: int) -> np.ndarray:
    tops = [ranking[:cutoff] for ranking in found]
    return np.array([sum(item in known for item in top) / max(1, len(top)) for top, known in zip(tops, judged)])
