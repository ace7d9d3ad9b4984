"""Ranking metrics per request, and bootstrap intervals over requests.

Written for k of a ranking and a request with one or several positives (gain > 0):

* ``HR@k``: 1 if any positive is in the top k. With several positives this is **not** recall.
* ``Recall@k``: share of the distinct positives that are in the top k.
* ``MRR@k``: 1 / rank of the first positive, 0 if it is below k.
* ``NDCG@k``: sum of gain / log2(rank + 1) over the top k, divided by that of the ideal order. The gain is linear: the grade
  itself for relevance judgements, 1 for clicks and purchases. This is ir-measures' ``nDCG`` with its default ``dcg``, not
  the 2^grade − 1 variant.

Ranks are positions; equal scores are not re-ordered. Positives outside the catalogue or never retrieved count as missed.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

CUTOFFS = (5, 10, 50)
METRICS = ("HR", "Recall", "MRR", "NDCG")

_DRAWS_PER_CHUNK = 2_000_000


@dataclass(frozen=True, slots=True)
class GainTable:
    """Rankings reduced to numbers; every metric is computed from this.

    Args:
        found: gain of the item at each rank, ``(requests, depth)``.
        ideal: gains in the best possible order, ``(requests, depth)``.
        positives: distinct items with a gain above 0, ``(requests,)``.
    """

    found: np.ndarray
    ideal: np.ndarray
    positives: np.ndarray

    def upto(self, k: int) -> np.ndarray:
        """Gains of the first `k` ranks, ``(requests, k)``."""
        if not 1 <= k <= self.found.shape[1]:
            raise ValueError(f"cutoff {k} is outside 1..{self.found.shape[1]}, the depth that the rankings were read to")
        return self.found[:, :k]


def gain_table(rankings: Sequence[Sequence[Hashable]], gains: Sequence[Mapping[Hashable, float]], depth: int) -> GainTable:
    """Look up the gains of the first `depth` entries of each ranking.

    Args:
        rankings: per request, item ids or SIDs, best first, without duplicates.
        gains: per request, the gain of each judged item; unjudged items count 0. At least one must be above 0.
        depth: largest cutoff that will be asked for.

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
            raise ValueError(f"gains of request {row} are {dict(gain_of)}; none may be negative and one must be positive")
        positives[row] = len(best)
        ideal[row, : len(best)] = best[:depth]
        top = [gain_of.get(entry, 0.0) for entry in ranking[:depth]]
        found[row, : len(top)] = top
    return GainTable(found, ideal, positives)


def hit_rate(table: GainTable, k: int) -> np.ndarray:
    """HR@k, ``(requests,)``."""
    return (table.upto(k) > 0).any(axis=1).astype(np.float64)


def recall(table: GainTable, k: int) -> np.ndarray:
    """Recall@k, ``(requests,)``."""
    return (table.upto(k) > 0).sum(axis=1) / table.positives


def mrr(table: GainTable, k: int) -> np.ndarray:
    """MRR@k, ``(requests,)``."""
    hit = table.upto(k) > 0
    return np.where(hit.any(axis=1), 1.0 / (hit.argmax(axis=1) + 1), 0.0)


def ndcg(table: GainTable, k: int) -> np.ndarray:
    """NDCG@k with linear gains, ``(requests,)``."""
    discount = 1.0 / np.log2(np.arange(2, k + 2))
    return (table.upto(k) @ discount) / (table.ideal[:, :k] @ discount)


_FUNCTIONS = {"HR": hit_rate, "Recall": recall, "MRR": mrr, "NDCG": ndcg}


def all_metrics(table: GainTable, cutoffs: Sequence[int] = CUTOFFS, names: Sequence[str] = METRICS) -> dict[str, np.ndarray]:
    """Every metric at every cutoff, as ``{"HR@5": (requests,), ...}``."""
    unknown = [name for name in names if name not in _FUNCTIONS]
    if unknown:
        raise ValueError(f"metrics {unknown} are unknown; allowed are {', '.join(METRICS)}")
    return {f"{name}@{k}": _FUNCTIONS[name](table, k) for name in names for k in cutoffs}


def bootstrap_interval(
    values: np.ndarray, samples: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float] | tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval of the mean over requests.

    Requests are drawn with replacement; all columns of a matrix share the draws, and so do all calls with the same number of
    requests, `samples` and `seed`. Memory is bounded: some two million draws are held at a time, or one resample where that
    is more.

    Args:
        values: ``(requests,)`` or ``(requests, metrics)``, one value per request.
        samples: resamples.
        seed: of the draws.
        level: coverage, e.g. 0.95.

    Returns:
        Lower and upper end: two floats, or two arrays ``(metrics,)`` if `values` is a matrix.

    Raises:
        ValueError: no requests, a value that is not finite, or a level or sample count out of range.
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
    return (float(low[0]), float(high[0])) if values.ndim == 1 else (low, high)


def paired_bootstrap(
    a: np.ndarray, b: np.ndarray, samples: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, float, float] | tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean of ``a − b`` over the same requests, with its percentile interval; an interval without 0 tells the systems apart.

    Args:
        a, b: values of two systems, ``(requests,)`` or ``(requests, metrics)``, row by row for the same requests.
        samples, seed, level: as in `bootstrap_interval`.

    Returns:
        Difference, lower and upper end: floats, or arrays ``(metrics,)``.
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.shape != b.shape:
        raise ValueError(f"values of shapes {a.shape} and {b.shape}; a paired comparison needs the same requests and metrics")
    low, high = bootstrap_interval(a - b, samples, seed, level)
    difference = (a - b).mean(axis=0)
    return (float(difference) if a.ndim == 1 else difference), low, high


def _resampled_means(columns: np.ndarray, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Means of `samples` resamples, ``(samples, metrics)``; each resample is a row of how often every request was drawn."""
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
