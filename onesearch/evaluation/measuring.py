"""Running a retriever on requests, and the intervals of the metrics: shared by `evaluator.py` and `relevance.py`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from onesearch.data.requests import Request

from .metrics import bootstrap_interval, paired_bootstrap
from .retrievers import Ranking, RecordedRetriever, Retriever

Values = dict[str, np.ndarray]
"""Metric → one value per request, ``(requests,)``."""

Estimates = dict[str, dict[str, float]]
"""Metric → ``value``, ``low`` and ``high``: the mean and the ends of its interval."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """The bootstrap of the intervals: number of resamples and seed."""

    samples: int
    seed: int

    def estimates(self, values: Values) -> Estimates:
        """Mean and interval of each metric."""
        matrix = _matrix(values)
        interval = bootstrap_interval(matrix, self.samples, self.seed)
        return _estimates(values, matrix.mean(axis=0), interval.low, interval.high)

    def lead(self, reference: Values, values: Values) -> Estimates:
        """Mean and interval of reference − values, paired by request."""
        difference = paired_bootstrap(_matrix(reference), _matrix(values), self.samples, self.seed)
        return _estimates(values, difference.value, difference.low, difference.high)


def run_retriever(
    retriever: Retriever, requests: Sequence[Request], top_k: int, batch_size: int, progress: bool
) -> tuple[list[Ranking], dict[str, float]]:
    """The rankings of a retriever, and its wall and CPU seconds per request."""
    from tqdm.auto import tqdm

    rankings: list[Ranking] = []
    seconds = cpu_seconds = 0.0
    with tqdm(total=len(requests), desc=retriever.name, unit="request", disable=not progress) as bar:
        for start in range(0, len(requests), batch_size):
            batch = requests[start : start + batch_size]
            answers, wall, cpu = timed(retriever, batch, top_k)
            seconds, cpu_seconds = seconds + wall, cpu_seconds + cpu
            longest = max((len(ranking.item_ids) for ranking in answers), default=0)
            if len(answers) != len(batch) or longest > top_k:
                raise ValueError(
                    f"{retriever.name} gave {len(answers)} rankings of up to {longest} items for {len(batch)} requests and "
                    f"top_k={top_k}; it must give one ranking per request and at most top_k items"
                )
            rankings.extend(answers)
            bar.update(len(batch))
    return rankings, {"seconds_per_request": seconds / len(requests), "cpu_seconds_per_request": cpu_seconds / len(requests)}


def timed(retriever: Retriever, requests: Sequence[Request], top_k: int) -> tuple[list[Ranking], float, float]:
    """Rankings of requests, and the wall and CPU seconds that they took; a `RecordedRetriever` says itself how long they took."""
    wall, cpu = time.perf_counter(), time.process_time()
    rankings = retriever.retrieve(requests, top_k)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if isinstance(retriever, RecordedRetriever):
        wall, cpu = retriever.spent(requests, top_k)
    return rankings, wall, cpu


def _matrix(values: Values) -> np.ndarray:
    """The values as one array, ``(requests, metrics)``."""
    return np.column_stack(list(values.values()))


def _estimates(names: Iterable[str], value: np.ndarray, low: np.ndarray, high: np.ndarray) -> Estimates:
    """The estimates of all metrics, from arrays ``(metrics,)``."""
    rows = zip(value.tolist(), low.tolist(), high.tolist())
    return {name: dict(zip(("value", "low", "high"), row)) for name, row in zip(names, rows)}


__all__ = ["Bootstrap", "Estimates", "Values", "run_retriever", "timed"]
