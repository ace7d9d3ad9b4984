"""A linear ranking of candidate lists: softmax regression, the start from which the boosted cascade's trees go on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class LinearRanking(NamedTuple):
    """A linear order of candidates.

    Attributes:
        means: mean of each feature, ``(features,)``.
        scales: standard deviation of each feature, ``(features,)``.
        weights: weight of each standardised feature, ``(features,)``.
    """

    means: np.ndarray
    scales: np.ndarray
    weights: np.ndarray

    def score(self, values: np.ndarray) -> np.ndarray:
        """Scores of candidates, float64 ``(candidates,)``; `values` is ``(candidates, features)``."""
        return ((values - self.means) / self.scales) @ self.weights


def fit_linear_ranking(values: np.ndarray, gains: np.ndarray, sizes: np.ndarray, penalty: float) -> LinearRanking:
    """Fit the weights that give the wanted candidates of each list the largest share of its softmax.

    Args:
        values: features of all candidates, list by list, ``(candidates, features)``.
        gains: worth of each candidate, at least 0 and above 0 for one of each list, ``(candidates,)``.
        sizes: number of candidates of each list, ``(lists,)``.
        penalty: weight of half the squared length of the weights; raise it for few lists.
    """
    from scipy.optimize import minimize

    means, scales = values.mean(axis=0), values.std(axis=0) + 1e-3
    units = (values - means) / scales
    starts = np.cumsum(sizes) - sizes
    shares = gains / np.repeat(np.add.reduceat(gains, starts), sizes)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = units @ weights
        scores = scores - np.repeat(np.maximum.reduceat(scores, starts), sizes)
        totals = np.repeat(np.add.reduceat(np.exp(scores), starts), sizes)
        logs = scores - np.log(totals)
        value = -(shares @ logs) / len(sizes) + penalty * (weights @ weights) / 2
        return value, units.T @ (np.exp(logs) - shares) / len(sizes) + penalty * weights

    found = minimize(loss, np.zeros(values.shape[1]), jac=True, method="L-BFGS-B", options={"maxiter": 100})
    return LinearRanking(means, scales, found.x)


__all__ = ["LinearRanking", "fit_linear_ranking"]
