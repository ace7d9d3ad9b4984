"""Answers of a run's baselines, kept in ``evaluation/baselines.parquet``: a baseline is fitted, and asked the same requests, once per run.

What a baseline answers depends on the market, the embeddings, what is fitted and the versions of the libraries. The file holds a hash of
all of them; answers of another hash are not used, and the next evaluation replaces them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from onesearch.data.market import Market
from onesearch.data.requests import Request
from onesearch.evaluation.measuring import timed
from onesearch.evaluation.retrievers import Ranking, Retriever
from onesearch.files import RunFolder, atomic_file
from onesearch.parquet_files import read_table, write_table

from .baselines import run_baselines
from .recipe import EvaluationConfig

ANSWERS_NAME = "baselines.parquet"
"""File of the answers, in ``evaluation/``."""

FORMAT = "onesearch-baseline-answers/1"

LIBRARIES = ("onesearch", "numpy", "torch", "bm25s", "lightgbm")
"""Packages on whose versions the answers may depend."""


class Answers(NamedTuple):
    """Answers of one baseline to one batch of requests, and the wall and CPU seconds that they took."""

    rankings: list[Ranking]
    seconds: float
    cpu_seconds: float


class KnownAnswers:
    """The answers that are known, by baseline and batch of requests.

    Args:
        path: parquet file that holds them.
        basis: hash of everything that they depend on.
        item_ids: ids of the market's items, in its order.
    """

    def __init__(self, path: Path, basis: str, item_ids: Sequence[str]) -> None:
        self.path, self.basis, self.item_ids = path, basis, list(item_ids)
        self.of: dict[tuple[str, str], Answers] = {}
        self.names: tuple[str, ...] = ()
        self._saved = 0

    def load(self) -> None:
        """Read the file, unless there is none or its answers depend on something else.

        Raises:
            ValueError: the file is damaged.
        """
        if not self.path.is_file():
            return
        table = read_table(self.path, "remove the file; the next evaluation asks the baselines again")
        known = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        if (known.get("format"), known.get("basis")) == (FORMAT, self.basis):
            self.names = tuple(json.loads(known["names"]))
            self.of = dict(_batches(table, self.item_ids))
            self._saved = len(self.of)

    def save(self) -> None:
        """Write the file, whole or not at all, if anything is new."""
        if len(self.of) == self._saved:
            return
        row_of = {item_id: row for row, item_id in enumerate(self.item_ids)}
        columns: dict[str, list] = {name: [] for name in ("baseline", "batch", "items", "scores", "seconds", "cpu_seconds")}
        for (name, batch), answers in self.of.items():
            count = len(answers.rankings)
            columns["baseline"] += [name] * count
            columns["batch"] += [batch] * count
            columns["items"] += [[row_of[item_id] for item_id in ranking.item_ids] for ranking in answers.rankings]
            columns["scores"] += [ranking.scores for ranking in answers.rankings]
            columns["seconds"] += [answers.seconds / count] * count
            columns["cpu_seconds"] += [answers.cpu_seconds / count] * count
        kinds = [pa.string(), pa.string(), pa.list_(pa.int32()), pa.list_(pa.float64()), pa.float64(), pa.float64()]
        metadata = {"format": FORMAT, "basis": self.basis, "names": json.dumps(self.names)}
        schema = pa.schema(list(zip(columns, kinds)), metadata=metadata)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.path) as temporary:
            write_table(pa.table(columns, schema=schema), temporary)
        self._saved = len(self.of)


class RunBaselines:
    """The baselines of a run; each is fitted only when a request comes whose answer is not known.

    Args:
        run: folder with embeddings of the items.
        market: its market.
        config: what is fitted.
        again: use no known answers, and replace them.

    Raises:
        ValueError: the file of the answers is damaged.
        MissingExtraError: a baseline is fitted, but the extra ``evaluation`` is not installed.
    """

    def __init__(self, run: RunFolder, market: Market, config: EvaluationConfig, again: bool = False) -> None:
        self._fit = partial(run_baselines, run, market, config)
        item_ids = market.items.data.column("item_id").to_pylist()
        self._known = KnownAnswers(run.evaluation / ANSWERS_NAME, basis_of(run, config), item_ids)
        if not again:
            self._known.load()
        if not self._known.names:
            self._known.names = tuple(self._fitted)

    def retrievers(self) -> list[Retriever]:
        """The baselines, in the order of a report."""
        return [RecordedBaseline(name, self._known, partial(self._get, name)) for name in self._known.names]

    def save(self) -> None:
        """Keep the answers for the next evaluation of the run."""
        self._known.save()

    def _get(self, name: str) -> Retriever:
        return self._fitted[name]

    @cached_property
    def _fitted(self) -> dict[str, Retriever]:
        return {retriever.name: retriever for retriever in self._fit()}


class RecordedBaseline:
    """One baseline that answers known requests from the file.

    Args:
        name: its name in reports.
        known: the known answers; new ones are added.
        fitted: gives the baseline itself.
    """

    def __init__(self, name: str, known: KnownAnswers, fitted: Callable[[], Retriever]) -> None:
        self.name, self._known, self._fitted = name, known, fitted

    def retrieve(self, requests: Sequence[Request], top_k: int) -> list[Ranking]:
        """The baseline's rankings, see `Retriever.retrieve`."""
        return self._answers(requests, top_k).rankings

    def spent(self, requests: Sequence[Request], top_k: int) -> tuple[float, float]:
        """Wall and CPU seconds of the baseline for these requests, when it answered them."""
        answers = self._answers(requests, top_k)
        return answers.seconds, answers.cpu_seconds

    def _answers(self, requests: Sequence[Request], top_k: int) -> Answers:
        key = self.name, _batch_name(requests, top_k)
        if key not in self._known.of:
            self._known.of[key] = Answers(*timed(self._fitted(), requests, top_k))
        return self._known.of[key]


def basis_of(run: RunFolder, config: EvaluationConfig) -> str:
    """Hash of everything that the answers of a run's baselines depend on: tables, embeddings, settings and versions of libraries."""
    state = hashlib.sha256(json.dumps([config.split, config.tune_cascade, config.sasrec, *map(_version, LIBRARIES)]).encode())
    for folder in (run.market, run.embeddings):
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            with path.open("rb") as file:
                state.update(f"{path.relative_to(run.root)} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return state.hexdigest()


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"{package} is not installed"


def _batch_name(requests: Sequence[Request], top_k: int) -> str:
    """Hash of a batch. A session's id stands for its history too: the hash of the market is in the basis."""
    asked = [[request.session_id, request.user_id, request.query] for request in requests]
    return hashlib.sha256(json.dumps([top_k, asked]).encode()).hexdigest()


def _batches(table: pa.Table, item_ids: Sequence[str]) -> Iterator[tuple[tuple[str, str], Answers]]:
    """The answers of a file by baseline and batch; the rows of a batch follow each other."""
    names, batches = table.column("baseline").to_pylist(), table.column("batch").to_pylist()
    seconds, cpu_seconds = (table.column(name).to_numpy() for name in ("seconds", "cpu_seconds"))
    keys = list(zip(names, batches))
    starts = [row for row, key in enumerate(keys) if row == 0 or key != keys[row - 1]]
    rankings = _rankings(table, item_ids)
    for start, stop in zip(starts, [*starts[1:], len(keys)]):
        yield keys[start], Answers(rankings[start:stop], float(seconds[start:stop].sum()), float(cpu_seconds[start:stop].sum()))


def _rankings(table: pa.Table, item_ids: Sequence[str]) -> list[Ranking]:
    ids = np.array(item_ids, dtype=object)
    items, scores = (table.column(name).combine_chunks() for name in ("items", "scores"))
    found = ids[items.flatten().to_numpy()]
    values, ends = scores.flatten().to_pylist(), items.value_lengths().to_numpy().cumsum()
    return [
        Ranking(tuple(found[start:stop]), tuple(values[start:stop]))
        for start, stop in zip([0, *ends[:-1].tolist()], ends.tolist())
    ]


__all__ = ["ANSWERS_NAME", "RecordedBaseline", "RunBaselines", "basis_of"]
