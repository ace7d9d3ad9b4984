"""What an evaluation found: kept as JSON, as TREC files and as a table.

``metrics.json`` (schema 1)::

    {"schema": 1, "market": str, "split": str, "requests": int,
     "sample": {"count": int, "of": int, "seed": int} | null,
     "cutoffs": [int], "bootstrap": {"samples": int, "seed": int, "level": float}, "reference": str | null,
     "targets": {"purchase": {"requests": int, "left_out": int}, "click": ...},
     "retrievers": {name: {
         "seconds_per_request": float, "cpu_seconds_per_request": float, "invalid_sid_rate": float | null,
         "targets": {"purchase": {
             "item": {"HR@5": {"value": float, "low": float, "high": float}, ...}, "sid": {...},
             "users": {"cold": {"requests": int, "HR@5": {...}, ...}, "warm": {...}},
             "reference_lead": {"item": {...}, "sid": {...}}}}}},
     "relevance": {"queries": int, "recall_queries": int, "recall_grade": int, "retrievers": {name: {metric: {...}}}} | null}

``sid`` is absent without SIDs, ``reference_lead`` (reference minus this retriever, paired) for the reference itself and
without one; a kind that no request has is absent under ``retrievers``; ``invalid_sid_rate`` is null for retrievers without
beams.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onesearch.files import atomic_file, read_json, write_json

from .retrievers import Ranking

SCHEMA = 1
SAVED = ("market", "split", "requests", "sample", "cutoffs", "bootstrap", "reference", "targets", "retrievers", "relevance")
"""Fields that ``metrics.json`` holds; the others live as long as the report does."""

TABLE_METRICS = ("HR@10", "Recall@10", "MRR@10", "NDCG@10", "HR@50")

_LEVELS = {"item": "items", "sid": "Semantic IDs"}
_KINDS = {"purchase": "purchases", "click": "clicks"}


@dataclass
class Report:
    """Result of `onesearch.evaluation.evaluator.evaluate`; the module's docstring explains the saved fields.

    Args:
        market, split, requests, sample, cutoffs, bootstrap, reference, targets, retrievers, relevance: as in ``metrics.json``.
        values: retriever → target kind → level → metric → value per request with such a target; not saved.
        rankings: retriever → session id → ranking; not saved but as run files.
        truth: target kind → session id → target items; not saved but as qrels.
        warm: session id → whether its user has a history; not saved.
    """

    market: str = ""
    split: str = "test"
    requests: int = 0
    sample: dict[str, int] | None = None
    cutoffs: tuple[int, ...] = ()
    bootstrap: dict[str, float] = field(default_factory=dict)
    reference: str | None = None
    targets: dict[str, dict[str, int]] = field(default_factory=dict)
    retrievers: dict[str, dict[str, Any]] = field(default_factory=dict)
    relevance: dict[str, Any] | None = None
    values: dict[str, dict[str, dict[str, dict[str, np.ndarray]]]] = field(default_factory=dict, repr=False, compare=False)
    rankings: dict[str, dict[str, Ranking]] = field(default_factory=dict, repr=False, compare=False)
    truth: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict, repr=False, compare=False)
    warm: dict[str, bool] = field(default_factory=dict, repr=False, compare=False)

    def value(self, retriever: str, metric: str, kind: str = "purchase", level: str = "item") -> float:
        """One number, e.g. ``report.value("bm25", "HR@10")``.

        Raises:
            KeyError: it was not measured; the message says what was.
        """
        found: Any = self.retrievers
        for key in (retriever, "targets", kind, level, metric):
            if key not in found:
                raise KeyError(f"{key!r} of {(retriever, kind, level, metric)} was not measured; there are {', '.join(found)}")
            found = found[key]
        return found["value"]

    def save(self, folder: str | Path) -> Path:
        """Write ``metrics.json``, ``<retriever>.<split>.run`` and ``<kind>.<split>.qrels`` into `folder`.

        Qrels of a kind that no request has are not written.

        Returns:
            Path of ``metrics.json``.
        """
        folder = Path(folder)
        for name in self.rankings:
            self.write_run(name, folder / f"{name}.{self.split}.run")
        for kind, truth in self.truth.items():
            if any(truth.values()):
                self.write_qrels(kind, folder / f"{kind}.{self.split}.qrels")
        write_json(folder / "metrics.json", {"schema": SCHEMA, **{name: getattr(self, name) for name in SAVED}})
        return folder / "metrics.json"

    def write_run(self, retriever: str, path: str | Path) -> None:
        """Write the rankings of one retriever as a TREC run: session id, Q0, item id, rank from 1, score, name.

        Scores strictly decrease as 32-bit floats, by which trec_eval sorts: one that does not becomes the next smaller number.
        """
        with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for session_id, ranking in self.rankings[retriever].items():
                prefix = f"{_word(session_id)} Q0"
                for rank, (item, score) in enumerate(zip(ranking.item_ids, _decreasing(ranking.scores)), start=1):
                    file.write(f"{prefix} {_word(item)} {rank} {score:.9g} {retriever}\n")

    def write_qrels(self, kind: str, path: str | Path) -> None:
        """Write the targets of one kind as TREC qrels: session id, 0, item id, 1."""
        with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for session_id, items in self.truth[kind].items():
                file.writelines(f"{_word(session_id)} 0 {_word(item)} 1\n" for item in dict.fromkeys(items))

    def to_table(self, metrics: tuple[str, ...] | None = None) -> str:
        """Markdown: one table per target kind and level, with 95 % intervals, under a line that says what was measured.

        Args:
            metrics: columns; default: those of `TABLE_METRICS` that were measured.
        """
        parts = [self._heading()] if self.requests else []
        for kind, counts in self.targets.items():
            for level in _LEVELS:
                rows = {name: found["targets"].get(kind, {}).get(level) for name, found in self.retrievers.items()}
                rows = {name: row for name, row in rows.items() if row}
                if rows:
                    parts.append(f"**{_KINDS[kind]}, {_LEVELS[level]}** ({counts['requests']:,} requests with such a target)")
                    parts.append(_table(rows, metrics or TABLE_METRICS, self._costs()))
        if self.relevance:
            parts.append(f"**relevance judgements** ({self.relevance['queries']:,} judged queries)")
            parts.append(_table(self.relevance["retrievers"], tuple(next(iter(self.relevance["retrievers"].values()))), {}))
        return "\n\n".join(parts) + "\n"

    def _heading(self) -> str:
        drawn = "all of them"
        if self.sample:
            drawn = f"a sample of {self.sample['count']:,} of {self.sample['of']:,}, seed {self.sample['seed']}"
        measured = f"{self.market or 'market'}, {self.split} split: {self.requests:,} requests ({drawn})"
        return f"{measured}; 95 % bootstrap intervals over requests"

    def _costs(self) -> dict[str, dict[str, str]]:
        """Columns that do not depend on target kind and level."""
        costs = {}
        for name, found in self.retrievers.items():
            rate = found["invalid_sid_rate"]
            costs[name] = {
                "ms/request": f"{1000 * found['seconds_per_request']:.2f}",
                "invalid SIDs": "–" if rate is None else f"{100 * rate:.2f} %",
            }
        return costs


def load_report(path: str | Path) -> Report:
    """Read a report back from ``metrics.json`` or its folder, without `values`, `rankings` and `truth`.

    Raises:
        ValueError: the file is no report or has a newer schema.
    """
    path = Path(path)
    path = path / "metrics.json" if path.is_dir() else path
    saved = read_json(path)
    if not isinstance(saved, Mapping) or saved.get("schema") != SCHEMA or any(name not in saved for name in SAVED):
        schema = saved.get("schema") if isinstance(saved, Mapping) else None
        raise ValueError(
            f"{path} has schema {schema!r}, expected {SCHEMA} with {', '.join(SAVED)}; write it again with `onesearch evaluate`"
        )
    return Report(**{name: tuple(saved[name]) if name == "cutoffs" else saved[name] for name in SAVED})


def check_name(name: str) -> str:
    """Return a retriever's name if it can name a file and a column of a run file, else raise ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(f"retriever name {name!r} must consist of letters, digits, '.', '_' and '-': it names run files")
    return name


def _table(rows: Mapping[str, Mapping[str, Any]], metrics: tuple[str, ...], more: Mapping[str, Mapping[str, str]]) -> str:
    shown = [metric for metric in metrics if all(metric in row for row in rows.values())]
    extra = list(next(iter(more.values()), {}))
    lines = ["| retriever | " + " | ".join([*shown, *extra]) + " |", "|---" * (1 + len(shown) + len(extra)) + "|"]
    for name, row in rows.items():
        cells = [_cell(row[metric]) for metric in shown] + [more[name][column] for column in extra]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(estimate: Mapping[str, float]) -> str:
    return "{value:.4f} [{low:.4f}, {high:.4f}]".format(**estimate)


def _decreasing(scores: tuple[float, ...]) -> list[float]:
    """Scores as strictly decreasing 32-bit floats, ``(items,)``.

    Floats are numbered in order (neighbouring floats differ by 1), so that number + rank must not increase.
    """
    values = np.asarray(scores, dtype=np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"scores {scores} cannot be written to a run file; they must be finite 32-bit floats")
    bits = values.view(np.int32).astype(np.int64)
    number = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    ranks = np.arange(len(number))
    number = np.minimum.accumulate(number + ranks) - ranks
    magnitude = np.abs(number).astype(np.int32).view(np.float32)
    return np.where(number < 0, -magnitude, magnitude).tolist()


def _word(text: str) -> str:
    if not text or text.split() != [text]:
        raise ValueError(f"id {text!r} cannot be written to a TREC file; it must be one word without white space")
    return text
