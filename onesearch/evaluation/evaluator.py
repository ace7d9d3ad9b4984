"""Measure retrievers on the requests of a split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from onesearch.data.requests import Request, targets_of

from .cutoffs import check_beams, check_cutoffs, default_cutoffs, reason, up_to
from .measuring import Bootstrap, Estimates, Values, run_retriever
from .metrics import METRICS, Entry, all_metrics, gain_table
from .reports import Report, check_name
from .retrievers import Ranking, Retriever, Sid, beams_of

COLD, WARM = "cold", "warm"
"""Users without and with a history."""


def evaluate(
    retrievers: Sequence[Retriever],
    requests: Sequence[Request],
    *,
    cutoffs: Sequence[int] | None = None,
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
    split_rule: Mapping[str, Any] | None = None,
) -> Report:
    """Run every retriever on every request and measure its rankings.

    The metrics of items and of SIDs, and of purchases and clicks, are reported apart:

    * Item level: the returned ranking is compared with the target items.
    * SID level (with `sid_of`): SIDs are compared with the SIDs of the targets: those of the beam search in its order, and for a
      baseline those of its items in order of first appearance. A SID may belong to several items, so a found SID is not yet a found
      item.
    * A retriever that searches with n beams has no metric above rank n: there its list ends. A baseline has no metric of SIDs above the
      number of SIDs that its shortest full list holds, as items may share SIDs. ``Report.notes`` says so.
    * A request without a target of one kind is not measured for that kind; the report counts such requests.
    * HR at item level is also reported for cold users (without a history) and for warm users.
    * Time is measured around `retrieve`, batch by batch; CPU time is the sum over threads.

    Args:
        retrievers: retrievers with distinct names.
        requests: requests of one split with distinct session ids; `sample_requests` draws fewer.
        cutoffs: cut-offs of the metrics, whole numbers from 1 to `MAX_CUTOFF`. The largest is the number of items that retrievers are
            asked for, so a larger one takes more memory. None takes `CUTOFFS`, and leaves those above the beams of a retriever out.
        sid_of: SID of every item of the catalogue; without it the SID level is left out.
        targets: kinds of targets, of ``purchase`` and ``click``.
        batch_size: number of requests per call of `retrieve`.
        bootstrap_samples: resamples of the 95 % intervals. More resamples give steadier interval ends and take more time.
        seed: seed of the resamples.
        progress: show a progress bar per retriever on stderr.
        reference: name of the retriever that the others are compared with, request by request.
        market: name of the market, for the report.
        split: name of the split, for the report.
        sample: second result of `sample_requests`, for the report.
        split_rule: how the sessions were split, ``market.info["split"]``, for the report.

    Raises:
        ValueError: there are no requests, a name or session id occurs twice, `reference` is unknown, an item has no SID, a cut-off is
            above the number of beams of a retriever, or a retriever returns another number of rankings or more items than it was asked
            for.
    """
    names = [check_name(retriever.name) for retriever in retrievers]
    _check_arguments(names, requests, reference)
    beams = {retriever.name: beams_of(retriever) for retriever in retrievers}
    cutoffs = _checked_cutoffs(cutoffs, beams)
    report = Report(
        market=market,
        split=split,
        split_rule=dict(split_rule or {}),
        requests=len(requests),
        sample=dict(sample) if sample else None,
        cutoffs=cutoffs,
        bootstrap={"samples": bootstrap_samples, "seed": seed, "level": 0.95},
        reference=reference,
        truth={kind: {request.session_id: targets_of(request, kind) for request in requests} for kind in targets},
        warm={request.session_id: bool(request.history) for request in requests},
    )
    for kind, truth in report.truth.items():
        with_target = sum(1 for items in truth.values() if items)
        report.targets[kind] = {"requests": with_target, "left_out": len(requests) - with_target}
    shortened: dict[str, tuple[int, ...]] = {}  # cut-offs without metrics of SIDs
    for retriever in retrievers:
        own = up_to(cutoffs, beams[retriever.name])
        rankings, timing = run_retriever(retriever, requests, max(cutoffs), batch_size, progress)
        report.rankings[retriever.name] = {request.session_id: ranking for request, ranking in zip(requests, rankings)}
        report.retrievers[retriever.name] = {**timing, "invalid_sid_rate": _invalid_rate(rankings), "targets": {}}
        of_sids = () if sid_of is None else up_to(own, _fewest_sids(rankings, sid_of, max(cutoffs)))
        shortened[retriever.name] = own[len(of_sids) :] if sid_of is not None else ()
        report.values[retriever.name] = {
            kind: _measure(requests, rankings, kind, {"item": own, "sid": of_sids}, sid_of) for kind in targets
        }
    report.notes += [*_beam_notes(cutoffs, beams), *_sid_notes(shortened), *_empty_notes(report.rankings)]
    _summarise(report, requests, Bootstrap(bootstrap_samples, seed))
    return report


def sample_requests(requests: Sequence[Request], count: int, seed: int = 0) -> tuple[list[Request], dict[str, int] | None]:
    """Draw `count` requests without replacement; they keep their order.

    Returns:
        The requests, and the value of `evaluate(sample=...)`: ``{"count", "of", "seed"}``, or None if all requests are taken.

    Raises:
        ValueError: `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"count is {count}; at least one request must be drawn")
    if count >= len(requests):
        return list(requests), None
    drawn = np.sort(np.random.default_rng(seed).choice(len(requests), size=count, replace=False))
    return [requests[row] for row in drawn], {"count": count, "of": len(requests), "seed": seed}


def _check_arguments(names: Sequence[str], requests: Sequence[Request], reference: str | None) -> None:
    """ValueError for arguments of `evaluate` that do not fit."""
    if not names or not requests:
        raise ValueError(f"{len(names)} retrievers and {len(requests)} requests; give at least one of each")
    if len(set(names)) != len(names):
        raise ValueError(f"retriever names {names} are not distinct; they name rows and run files, so rename one")
    if reference is not None and reference not in names:
        raise ValueError(f"reference {reference!r} is none of the retrievers; allowed are {', '.join(names)}")
    if len({request.session_id for request in requests}) != len(requests):
        raise ValueError(
            "session ids of the requests are not distinct; they are the query ids of run files, so they must differ"
        )


def _checked_cutoffs(cutoffs: Sequence[int] | None, beams: Mapping[str, int | None]) -> tuple[int, ...]:
    """Cut-offs of the report, ascending; `beams` is the number of beams of each retriever. None takes the default ones."""
    known = {name: number for name, number in beams.items() if number is not None}
    if cutoffs is None:
        return default_cutoffs(known.values())
    check_cutoffs(cutoffs)
    for name, number in known.items():
        check_beams(cutoffs, number, name)
    return tuple(sorted(cutoffs))


def _beam_notes(cutoffs: Sequence[int], beams: Mapping[str, int | None]) -> list[str]:
    """One sentence for each retriever whose beams are fewer than a cut-off."""
    notes = []
    for name, number in beams.items():
        above = [k for k in cutoffs if number is not None and k > number]
        if number is not None and above:
            notes.append(reason(name, number, [f"{metric}@{k}" for k in above for metric in METRICS]))
    return notes


def _sid_notes(shortened: Mapping[str, tuple[int, ...]]) -> list[str]:
    """One sentence for the retrievers whose lists hold too few SIDs for the same cut-offs."""
    notes = []
    for above in dict.fromkeys(cutoffs for cutoffs in shortened.values() if cutoffs):
        names = [name for name, cutoffs in shortened.items() if cutoffs == above]
        named = ", ".join(f"@{k}" for k in above)
        notes.append(f"no metrics {named} of SIDs for {', '.join(names)}: items share SIDs, so that full lists hold fewer SIDs")
    return notes


def _fewest_sids(rankings: Sequence[Ranking], sid_of: Mapping[str, Sid], asked: int) -> int | None:
    """Fewest SIDs of a list that was cut at `asked` items; None if no list was, or the SIDs are those of a beam search."""
    cut = (ranking for ranking in rankings if ranking.beam_sids is None and len(ranking.item_ids) >= asked)
    return min((len(_distinct_sids(ranking, sid_of)) for ranking in cut), default=None)


def _measure(
    requests: Sequence[Request],
    rankings: Sequence[Ranking],
    kind: str,
    cutoffs: Mapping[str, Sequence[int]],
    sid_of: Mapping[str, Sid] | None,
) -> dict[str, Values]:
    """Level → metric → value per request that has a target of this kind; empty if there is no such request.

    Args:
        requests: the requests.
        rankings: their rankings.
        kind: kind of target.
        cutoffs: cut-offs of the levels ``item`` and ``sid``; a level without any is left out.
        sid_of: SID of each item.
    """
    pairs = [(targets, ranking) for request, ranking in zip(requests, rankings) if (targets := targets_of(request, kind))]
    if not pairs:
        return {}
    items = [ranking.item_ids for _, ranking in pairs]
    measured = {"item": _metrics_of(items, [targets for targets, _ in pairs], cutoffs["item"])}
    if sid_of is not None and cutoffs["sid"]:
        found = [_distinct_sids(ranking, sid_of) for _, ranking in pairs]
        wanted = [_sids(targets, sid_of) for targets, _ in pairs]
        measured["sid"] = _metrics_of(found, wanted, cutoffs["sid"])
    return measured


def _metrics_of(found: Sequence[Sequence[Entry]], wanted: Sequence[Iterable[Entry]], cutoffs: Sequence[int]) -> Values:
    """All metrics of rankings whose targets all have the gain 1."""
    gains = [dict.fromkeys(targets, 1.0) for targets in wanted]
    return all_metrics(gain_table(found, gains, max(cutoffs)), cutoffs)


def _distinct_sids(ranking: Ranking, sid_of: Mapping[str, Sid]) -> list[Sid]:
    """The SIDs of the beam search, or those of the items of a baseline, each once, in order of first appearance."""
    if ranking.beam_sids is not None:
        return list(ranking.beam_sids)
    own = ranking.sids or (None,) * len(ranking.item_ids)
    found = [_sid(item, sid_of) if sid is None else tuple(sid) for item, sid in zip(ranking.item_ids, own)]
    return list(dict.fromkeys(found))


def _sids(items: Iterable[str], sid_of: Mapping[str, Sid]) -> list[Sid]:
    return [_sid(item, sid_of) for item in items]


def _sid(item: str, sid_of: Mapping[str, Sid]) -> Sid:
    """The SID of an item; ValueError if it has none."""
    if item not in sid_of:
        raise ValueError(f"item {item!r} has no SID; encode the whole catalogue, or leave sid_of out")
    return tuple(sid_of[item])


def _empty_notes(rankings: Mapping[str, Mapping[str, Ranking]]) -> list[str]:
    """Name the retrievers that found no item for most requests: a lead over them says nothing about the others."""
    notes = []
    for name, found in rankings.items():
        empty = sum(not ranking.item_ids for ranking in found.values())
        if 2 * empty > len(found):
            notes.append(
                f"{name} found no item for {empty:,} of {len(found):,} requests, so that a lead over it is no merit; texts and queries may "
                "share no words, or the language of the market (market.json) is wrong"
            )
    return notes


def _invalid_rate(rankings: Sequence[Ranking]) -> float | None:
    """Share of all beams whose SID belongs to no item; None for a retriever without beams."""
    beams = sum(ranking.beams for ranking in rankings)
    return sum(ranking.invalid for ranking in rankings) / beams if beams else None


def _summarise(report: Report, requests: Sequence[Request], bootstrap: Bootstrap) -> None:
    """Add means, intervals, cold and warm users and leads to ``report.retrievers``."""
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
                entry["reference_lead"] = {
                    level: _lead(bootstrap, leader[level], values) for level, values in levels.items() if level in leader
                }
            report.retrievers[name]["targets"][kind] = entry


def _lead(bootstrap: Bootstrap, leader: Values, values: Values) -> Estimates:
    """Lead of the reference in the metrics that both have."""
    both = [metric for metric in values if metric in leader]
    return bootstrap.lead({metric: leader[metric] for metric in both}, {metric: values[metric] for metric in both})


def _users(values: Values, warm: np.ndarray, bootstrap: Bootstrap) -> dict[str, dict[str, Any]]:
    """Number of requests and HR of cold and of warm users; `warm` (requests,) says which is which."""
    groups: dict[str, dict[str, Any]] = {}
    for group, rows in ((COLD, ~warm), (WARM, warm)):
        groups[group] = {"requests": int(rows.sum())}
        if rows.any():
            own = {metric: part[rows] for metric, part in values.items() if metric.startswith("HR@")}
            groups[group] |= bootstrap.estimates(own)
    return groups


__all__ = ["evaluate", "sample_requests"]
