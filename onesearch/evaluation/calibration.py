"""How good probabilities are: whether they order pairs (AUC), make what happened likely (log loss), and are true (ECE)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

BINS = 10
"""Number of bins of a reliability curve; our choice."""

SMALLEST = 1e-6
"""Probabilities are kept this far from 0 and 1, so that one confident error does not make a log loss infinite."""


class Reliability(NamedTuple):
    """Predicted and observed rates. Each bin holds about as many pairs as the others.

    Attributes:
        predicted: mean probability of each bin, ``(bins,)``.
        observed: share of the pairs of each bin whose label is 1, ``(bins,)``.
        counts: number of pairs of each bin, ``(bins,)``.
    """

    predicted: np.ndarray
    observed: np.ndarray
    counts: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: the mean distance of the two rates, weighted by the counts."""
        return float((self.counts * np.abs(self.predicted - self.observed)).sum() / max(self.counts.sum(), 1))


def auc(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """Probability that a pair with label 1 scores higher than one with label 0; equal scores count by half.

    Args:
        scores: score of each pair, ``(pairs,)``.
        labels: label of each pair, 0 or 1, ``(pairs,)``.

    Returns:
        The area under the ROC curve, None where all labels are equal.
    """
    positive = np.asarray(labels) > 0
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        return None
    values, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2  # mean rank of each value, from 1
    return float((ranks[places][positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log-likelihood of labels, in nats; both are ``(pairs,)``."""
    chances = np.clip(np.asarray(probabilities, dtype=np.float64), SMALLEST, 1 - SMALLEST)
    return float(-np.where(np.asarray(labels) > 0, np.log(chances), np.log1p(-chances)).mean())


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> Reliability:
    """Compare predicted with observed rates in bins of about equally many pairs, from the lowest probabilities to the highest.

    Args:
        probabilities: ``(pairs,)``.
        labels: 0 or 1, ``(pairs,)``.
        bins: largest number of bins; there are never more than pairs.
    """
    order = np.argsort(probabilities, kind="stable")
    parts = np.array_split(order, max(1, min(bins, len(order))))
    chances, happened = (np.asarray(values, dtype=np.float64) for values in (probabilities, labels))
    predicted, observed = (np.array([values[part].mean() for part in parts]) for values in (chances, happened))
    return Reliability(predicted, observed, np.array([len(part) for part in parts]))


def quality(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> dict[str, Any]:
    """All of the above as plain values: ``auc``, ``log_loss``, ``ece``, ``rate``, and the curve under ``reliability``."""
    curve = reliability(probabilities, labels, bins)
    return {
        "auc": auc(probabilities, labels),
        "log_loss": log_loss(probabilities, labels),
        "ece": curve.error,
        "rate": float(np.mean(labels)),
        "reliability": {name: values.tolist() for name, values in curve._asdict().items()},
    }


__all__ = ["BINS", "Reliability", "auc", "log_loss", "quality", "reliability"]
