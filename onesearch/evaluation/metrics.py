"""Ranking metrics per request, and bootstrap intervals over requests.

A request has one or several positives, the items with a gain above 0. At cutoff k:

* ``HR@k`` (hit rate) is 1 if any positive is in the top k, else 0. With several positives it is **not** recall.
* ``Recall@k`` is the share of the distinct positives that are in the top k.
* ``MRR@k`` is 1 / rank of the first positive, or 0 if no positive is in the top k.
* ``NDCG@k`` is the sum of gain / log2(rank + 1) over the top k, divided by the same sum of the ideal order. The gain is linear:
  the grade for relevance judgements, 1 for clicks and purchases. This equals ir-measures' ``nDCG`` with its default ``dcg``
  and differs from the variant with gain 2^grade − 1.

The rank is the position in the ranking: equal scores are not reordered. A positive that is not retrieved counts as missed, also
if the catalogue lacks it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from .cutoffs import CUTOFFS

METRICS = ("HR", "Recall", "MRR", "NDCG")

Entry = TypeVar("Entry", bound=Hashable)
"""Type of a ranking's entries: item ids or SIDs."""

_DRAWS_PER_CHUNK = 2_000_000
"""Number of draws that the bootstrap holds at a time: bounds the memory and does not change the result."""


@dataclass(frozen=True, slots=True)
class GainTable:
    """Gains of rankings; every metric is computed from this table.

    Args:
        found: gain of the item at each rank, ``(requests, depth)``.
        ideal: gains in the best possible order, ``(requests, depth)``.
        positives: number of distinct items with a gain above 0, ``(requests,)``.
    """

    found: np.ndarray
    ideal: np.ndarray
    positives: np.ndarray

    def upto(self, k: int) -> np.ndarray:
        """Return the gains of the first `k` ranks, ``(requests, k)``.

        Raises:
            ValueError: `k` is outside 1 to depth.
        """
        if not 1 <= k <= self.found.shape[1]:
            raise ValueError(f"cutoff {k} is outside 1..{self.found.shape[1]}, the depth that the rankings were read to")
        return self.found[:, :k]


def gain_table(rankings: Sequence[Sequence[Entry]], gains: Sequence[Mapping[Entry, float]], depth: int) -> GainTable:
    """Look up the gains of the first `depth` entries of each ranking.

    Args:
        rankings: item ids or SIDs per request, best first, without duplicates.
        gains: gain of each judged item per request. Unjudged items have gain 0. Every request needs a gain above 0.
        depth: largest cutoff that the metrics will use.

    Raises:
        ValueError: lengths differ, a request has no positive, or a gain is negative.
    """
    if len(rankings) != len(gains):
        raise ValueError(f"{len(rankings)} rankings for {len(gains)} requests; give one per request")
    found = np.zeros((len(rankings), depth), dtype=np.float32)
    ideal = np.zeros_like(found)
    positives = np.zeros(len(rankings), dtype=np.int64)
    for row, (ranking, gain_of) in enumerate(zip(rankings, gains)):
        best = sorted((gain for gain in gain_of.values() if gain), reverse=True)
        if not best or best[-1] < 0:
            raise ValueError(
                f"gains of request {row} are {dict(gain_of)}; no gain may be negative, and at least one must be positive"
            )
        positives[row] = len(best)
        ideal[row, : len(best)] = best[:depth]
        top = [gain_of.get(entry, 0.0) for entry in ranking[:depth]]
        found[row, : len(top)] = top
    return GainTable(found, ideal, positives)


def hit_rate(table: GainTable, k: int) -> np.ndarray:
    """Return HR@k of each request, ``(requests,)``."""
    return np.where((table.upto(k) > 0).any(axis=1), 1.0, 0.0)


def recall(table: GainTable, k: int) -> np.ndarray:
    """Return Recall@k of each request, ``(requests,)``."""
    return (table.upto(k) > 0).sum(axis=1) / table.positives


def mrr(table: GainTable, k: int) -> np.ndarray:
    """Return MRR@k of each request, ``(requests,)``."""
    hit = table.upto(k) > 0
    return np.where(hit.any(axis=1), 1.0 / (hit.argmax(axis=1) + 1), 0.0)


def ndcg(table: GainTable, k: int) -> np.ndarray:
    """Return NDCG@k of each request with linear gains, ``(requests,)``."""
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    return (table.upto(k) @ discount) / (table.ideal[:, :k] @ discount)


_FUNCTIONS = {"HR": hit_rate, "Recall": recall, "MRR": mrr, "NDCG": ndcg}


def all_metrics(table: GainTable, cutoffs: Sequence[int] = CUTOFFS, names: Sequence[str] = METRICS) -> dict[str, np.ndarray]:
    """Compute metrics at cutoffs.

    Args:
        table: gains of the rankings.
        cutoffs: values of k, at most the depth of the table.
        names: any of `METRICS`.

    Returns:
        Values by metric and cutoff, for example ``{"HR@5": (requests,), ...}``.

    Raises:
        ValueError: a metric is unknown or a cutoff exceeds the depth.
    """
    unknown = [name for name in names if name not in _FUNCTIONS]
    if unknown:
        raise ValueError(f"metrics {unknown} are unknown; allowed are {', '.join(METRICS)}")
    return {f"{name}@{k}": _FUNCTIONS[name](table, k) for name in names for k in cutoffs}


class Interval(NamedTuple):
    """Ends of an interval, each of shape ``()`` or ``(metrics,)``."""

    low: np.ndarray
    high: np.ndarray


class PairedDifference(NamedTuple):
    """A mean difference and the ends of its interval, each of shape ``()`` or ``(metrics,)``."""

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def bootstrap_interval(values: np.ndarray, samples: int = 1000, seed: int = 0, level: float = 0.95) -> Interval:
    """Compute the percentile bootstrap interval of the mean over requests.

    Requests are drawn with replacement. All columns of a matrix share the draws, and so do all calls with the same number of
    requests, `samples` and `seed`. Two million draws (16 MB) or one resample are held at a time, whichever is more.

    Args:
        values: one value per request, ``(requests,)`` or ``(requests, metrics)``.
        samples: number of resamples; raising it makes the ends of the interval more exact.
        seed: seeds the draws.
        level: coverage of the interval, for example 0.95.

    Returns:
        Lower and upper end, of shape ``()`` for a vector and ``(metrics,)`` for a matrix.

    Raises:
        ValueError: there are no requests, a value is not finite, or the level or the number of samples is out of range.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim not in (1, 2) or not len(values) or not np.isfinite(values).all():
        raise ValueError(
            f"values of shape {values.shape}; bootstrap needs (requests,) or (requests, metrics), not empty, all finite"
        )
    if samples < 1 or not 0 < level < 1:
        raise ValueError(f"samples={samples}, level={level}; samples must be at least 1 and the level between 0 and 1")
    columns = values[:, None] if values.ndim == 1 else values
    means = _resampled_means(columns, samples, np.random.default_rng(seed))
    tail = 50 * (1 - level)
    low, high = np.percentile(means, [tail, 100 - tail], axis=0)
    shape = values.shape[1:]
    return Interval(low.reshape(shape), high.reshape(shape))


def paired_bootstrap(a: np.ndarray, b: np.ndarray, samples: int = 1000, seed: int = 0, level: float = 0.95) -> PairedDifference:
    """Compute the mean of ``a − b`` over the same requests, with its percentile bootstrap interval.

    If the interval does not contain 0, the two systems differ at that level.

    Args:
        a: values of one system, ``(requests,)`` or ``(requests, metrics)``.
        b: values of the other system, row by row for the same requests, of the same shape.
        samples: number of resamples, as in `bootstrap_interval`.
        seed: seeds the draws.
        level: coverage of the interval.

    Returns:
        Difference, lower and upper end, of shape ``()`` for vectors and ``(metrics,)`` for matrices.

    Raises:
        ValueError: the shapes differ, or `bootstrap_interval` refuses the values.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"values of shapes {a.shape} and {b.shape}; a paired comparison needs the same requests and metrics")
    interval = bootstrap_interval(a - b, samples, seed, level)
    return PairedDifference(np.asarray((a - b).mean(axis=0)), *interval)


def _resampled_means(columns: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Means of the resamples, ``(samples, metrics)``.

    A resample is a row that counts how often each request was drawn; its product with `columns` ``(requests, metrics)`` divided
    by the number of requests is the mean.
    """
    count = len(columns)
    per_chunk = max(1, min(samples, _DRAWS_PER_CHUNK // count))
    means = np.empty((samples, columns.shape[1]))
    for start in range(0, samples, per_chunk):
        rows = min(per_chunk, samples - start)
        draws = rng.integers(0, count, size=(rows, count))
        draws += np.arange(rows)[:, None] * count
        drawn = np.bincount(draws.ravel(), minlength=rows * count).reshape(rows, count)
        means[start : start + rows] = drawn @ columns / count
    return means
