"""The result of an evaluation: kept as JSON, as TREC files and as a Markdown table.

``metrics.json`` (schema 3)::

    {"schema": 3, "market": str, "split": str, "split_rule": {"method": str, ...}, "requests": int, "notes": [str],
     "settings": {"split": str, "sample": int | null, "tune_cascade": bool, "sasrec": bool, "relevant_grade": int,
                  "cutoffs": [int] | null, "baselines": bool,
                  "search": {field of `SearchConfig`: value}},
     "sample": {"count": int, "of": int, "seed": int} | null,
     "cutoffs": [int], "bootstrap": {"samples": int, "seed": int, "level": float}, "reference": str | null,
     "targets": {"purchase": {"requests": int, "left_out": int}, "click": ...},
     "retrievers": {name: {
         "seconds_per_request": float, "cpu_seconds_per_request": float, "invalid_sid_rate": float | null,
         "targets": {"purchase": {
             "item": {"HR@5": {"value": float, "low": float, "high": float}, ...}, "sid": {...},
             "users": {"cold": {"requests": int, "HR@5": {...}, ...}, "warm": {...}},
             "reference_lead": {"item": {...}, "sid": {...}}}}}},
     "relevance": {"queries": int, "recall_queries": int, "recall_grade": int, "notes": [str],
                   "retrievers": {name: {metric: {...}}},
                   "title_words": {"queries": {group: int}, "metric": str, "retrievers": {name: {group: {...}}}} | null} | null}

``settings`` are those that `onesearch.pipeline.evaluation.evaluate_run` was called with, empty for a report made otherwise; its
``relevant_grade`` is the ``recall_grade`` of the judged queries. ``split_rule`` is the market's own, empty for a report made otherwise.
A retriever that searches with n beams has no metric at a cut-off above n; ``notes`` are sentences that a reader of the figures must know,
this one among them. ``sid`` is absent without SIDs. ``reference_lead`` (reference minus this retriever, paired by request, in the metrics
that both have) is absent for the reference itself and without a reference. A kind of target that no request has is absent under
``retrievers``. ``invalid_sid_rate`` is null for retrievers without beams. ``title_words`` has the judged queries by
`onesearch.evaluation.title_words`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onesearch.data.splits import describe
from onesearch.files import atomic_files, read_json, write_json

from .cutoffs import by_cutoff
from .retrievers import Ranking
from .trec_files import write_qrels, write_run

METRICS_NAME = "metrics.json"
"""File of a report, in its folder."""

SCHEMA = 3
"""Version of the format of ``metrics.json``."""

SAVED = (
    "market",
    "split",
    "split_rule",
    "requests",
    "notes",
    "settings",
    "sample",
    "cutoffs",
    "bootstrap",
    "reference",
    "targets",
    "retrievers",
    "relevance",
)
"""Fields of a report that ``metrics.json`` holds; the other fields are not saved."""

_LEVELS = {"item": "items", "sid": "Semantic IDs"}
_KINDS = {"purchase": "purchases", "click": "clicks"}


@dataclass
class Report:
    """Result of `onesearch.evaluation.evaluator.evaluate`; the module's docstring explains the saved fields.

    Args:
        market: name of the market.
        split: split of its sessions.
        split_rule: how the sessions were split, ``market.info["split"]``; see `onesearch.data.splits`.
        requests: number of requests that were measured.
        notes: sentences that a reader of the figures must know, such as metrics that are left out and why.
        settings: settings of the evaluation; see the module's docstring.
        sample: size of the sample, number of requests that it was drawn from, and seed; None if all were measured.
        cutoffs: cut-offs of the metrics, ascending.
        bootstrap: number of samples, seed and level of the intervals.
        reference: name of the retriever that the others are compared with.
        targets: kind of target → number of requests with and without such a target.
        retrievers: name of the retriever → its times, its rate of invalid SIDs and its metrics.
        relevance: result on judged queries.
        values: retriever → kind of target → level → metric → value per request with such a target; not saved.
        judged: retriever → metric → value per judged query; not saved.
        rankings: retriever → session id → ranking; saved as run files only.
        truth: kind of target → session id → target items; saved as qrels only.
        warm: session id → whether its user has a history; not saved.
    """

    market: str = ""
    split: str = "test"
    split_rule: dict[str, Any] = field(default_factory=dict)
    requests: int = 0
    notes: list[str] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    sample: dict[str, int] | None = None
    cutoffs: tuple[int, ...] = ()
    bootstrap: dict[str, float] = field(default_factory=dict)
    reference: str | None = None
    targets: dict[str, dict[str, int]] = field(default_factory=dict)
    retrievers: dict[str, dict[str, Any]] = field(default_factory=dict)
    relevance: dict[str, Any] | None = None
    values: dict[str, dict[str, dict[str, dict[str, np.ndarray]]]] = field(default_factory=dict, repr=False, compare=False)
    judged: dict[str, dict[str, np.ndarray]] = field(default_factory=dict, repr=False, compare=False)
    rankings: dict[str, dict[str, Ranking]] = field(default_factory=dict, repr=False, compare=False)
    truth: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict, repr=False, compare=False)
    warm: dict[str, bool] = field(default_factory=dict, repr=False, compare=False)

    def value(self, retriever: str, metric: str, kind: str = "purchase", level: str = "item") -> float:
        """One number, for example ``report.value("bm25", "HR@10")``.

        Args:
            retriever: name of the retriever.
            metric: name of the metric with its cut-off.
            kind: kind of target, ``purchase`` or ``click``.
            level: ``item`` or ``sid``.

        Raises:
            KeyError: the number was not measured; the message lists the known names.
        """
        found: Any = self.retrievers
        for key in (retriever, "targets", kind, level, metric):
            if key not in found:
                raise KeyError(f"{key!r} of {(retriever, kind, level, metric)} was not measured; there are {', '.join(found)}")
            found = found[key]
        return found["value"]

    def save(self, folder: str | Path) -> Path:
        """Write ``metrics.json``, ``<retriever>.<split>.run`` and ``<kind>.<split>.qrels`` into `folder`.

        All of them are on the disk before the first takes its name: a full disk leaves the report that was there, with its own files.
        Qrels of a kind that no request has are not written.

        Returns:
            Path of ``metrics.json``.
        """
        folder = Path(folder)
        with atomic_files(folder, last=METRICS_NAME) as new:
            for name in self.rankings:
                write_run(self.rankings[name], name, new / f"{name}.{self.split}.run")
            for kind, truth in self.truth.items():
                if any(truth.values()):
                    write_qrels(truth, new / f"{kind}.{self.split}.qrels")
            write_json(new / METRICS_NAME, {"schema": SCHEMA, **{name: getattr(self, name) for name in SAVED}})
        return folder / METRICS_NAME

    def to_table(self, metrics: tuple[str, ...] | None = None) -> str:
        """Markdown tables, one per kind of target and level, with 95 % intervals, below a line about the market and the sample and the
        notes.

        Args:
            metrics: columns; default: those of `by_cutoff`. A metric that a retriever does not have is shown as –.
        """
        parts = [self._heading()] if self.requests else []
        parts += [f"* {note}" for note in self.notes]
        for kind, counts in self.targets.items():
            for level in _LEVELS:
                rows = {name: found["targets"].get(kind, {}).get(level) for name, found in self.retrievers.items()}
                rows = {name: row for name, row in rows.items() if row}
                if rows:
                    parts.append(f"**{_KINDS[kind]}, {_LEVELS[level]}** ({counts['requests']:,} requests with such a target)")
                    parts.append(_table(rows, metrics or by_cutoff(rows, self.cutoffs), self._costs()))
        if self.relevance:
            parts.append(f"**relevance judgements** ({self.relevance['queries']:,} judged queries)")
            parts += [f"* {note}" for note in self.relevance["notes"]]
            found = self.relevance["retrievers"]
            parts.append(_table(found, tuple(dict.fromkeys(metric for row in found.values() for metric in row)), {}))
            words = self.relevance.get("title_words")
            if words:
                sizes = ", ".join(f"{name}: {count:,} queries" for name, count in words["queries"].items())
                parts.append(
                    f"{words['metric']} by the share of relevant items whose title has every word of the query ({sizes})"
                )
                parts.append(_table(words["retrievers"], tuple(words["queries"]), {}))
        return "\n\n".join(parts) + "\n"

    def _heading(self) -> str:
        drawn = "all of them"
        if self.sample:
            drawn = f"a sample of {self.sample['count']:,} of {self.sample['of']:,}, seed {self.sample['seed']}"
        rule = f" ({describe(self.split_rule)})" if self.split_rule else ""
        measured = f"{self.market or 'market'}, {self.split} split{rule}: {self.requests:,} requests ({drawn})"
        return f"{measured}; 95 % bootstrap intervals over requests"

    def _costs(self) -> dict[str, dict[str, str]]:
        """Retriever → columns that do not depend on the kind of target and the level."""
        costs = {}
        for name, found in self.retrievers.items():
            rate = found["invalid_sid_rate"]
            costs[name] = {
                "ms/request": f"{1000 * found['seconds_per_request']:.2f}",
                "invalid SIDs": "–" if rate is None else f"{100 * rate:.2f} %",
            }
        return costs


def load_report(path: str | Path) -> Report:
    """Read a report back from ``metrics.json`` or its folder, without the fields that are not saved.

    Raises:
        ValueError: the file is no report or has another schema.
    """
    path = Path(path)
    path = path / METRICS_NAME if path.is_dir() else path
    saved = read_json(path)
    schema = saved.get("schema") if isinstance(saved, Mapping) else None
    if schema != SCHEMA or any(name not in saved for name in SAVED):
        raise ValueError(
            f"{path} has schema {schema!r}, expected {SCHEMA} with {', '.join(SAVED)}; "
            "write it again with `onesearch evaluate --overwrite`"
        )
    found: dict[str, Any] = {name: saved[name] for name in SAVED}
    found["cutoffs"] = tuple(found["cutoffs"])
    return Report(**found)


def check_settings(folder: str | Path, settings: Mapping[str, Any]) -> None:
    """Refuse to replace a report that was made with other settings.

    Args:
        folder: folder that a new report is about to be written to.
        settings: settings of the new report; see the module's docstring.

    Raises:
        FileExistsError: the folder holds a report with other settings; the message names those that differ.
    """
    path = Path(folder) / METRICS_NAME
    if not path.is_file():
        return
    old, new = _flat(read_json(path).get("settings", {})), _flat(settings)
    pairs = {name: (old.get(name, "unknown"), new.get(name, "unknown")) for name in new | old}
    differ = [f"{name} {before!r} → {after!r}" for name, (before, after) in pairs.items() if before != after]
    if differ:
        raise FileExistsError(
            f"{path} was made with other settings ({', '.join(differ)}); `onesearch evaluate` writes the new one to "
            "evaluation/NAME/ with --name NAME, and replaces this one with --overwrite"
        )


def check_name(name: str) -> str:
    """Return the name of a retriever or a report; ValueError if it cannot be the name of a file."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"name {name!r} must consist of letters, digits, '.', '_' and '-', because files are named after it")
    return name


def _flat(settings: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    """The settings in one mapping, nested ones under dotted keys."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{within}{name}.")
        else:
            found[f"{within}{name}"] = value
    return found


def _table(rows: Mapping[str, Mapping[str, Any]], metrics: tuple[str, ...], more: Mapping[str, Mapping[str, str]]) -> str:
    """Markdown table of retrievers: those of `metrics` that one of them has, and the columns in `more`."""
    shown = [metric for metric in metrics if any(metric in row for row in rows.values())]
    extra = list(next(iter(more.values()), {}))
    lines = ["| retriever | " + " | ".join([*shown, *extra]) + " |", "|---" * (1 + len(shown) + len(extra)) + "|"]
    for name, row in rows.items():
        cells = [_cell(row[metric]) if metric in row else "–" for metric in shown] + [more[name][column] for column in extra]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(estimate: Mapping[str, float]) -> str:
    """Value and interval."""
    return "{value:.4f} [{low:.4f}, {high:.4f}]".format(**estimate)


__all__ = ["METRICS_NAME", "SCHEMA", "Report", "check_name", "check_settings", "load_report"]
