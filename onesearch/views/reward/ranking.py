"""The score by which candidates are ranked: a weighted sum of the towers, the relevance and the generator's own log-probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace

import numpy as np

STEPS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Values that `fit_weights` tries for each weight; our choice."""

CUTOFF = 10
"""Length of the lists whose quality `fit_weights` raises."""


RELEVANCE, LOG_P = 3, 4
"""Places of two terms in the last axis of `terms`."""

TOLERANCE = 1e-3
"""Loss of mean relevance that counts as none, of a cosine between -1 and 1; our choice."""


@dataclass(frozen=True)
class RankingWeights:
    """R = λ₁ CTR + λ₂ CVR + λ₃ CTCVR + λ₄ S_rel (OneSearch, arXiv 2509.03236, PARS), and λ₅ log p of the generator.

    The paper publishes no values; `fit_weights` chooses them on validation requests. Only their ratios matter. The last term is our
    addition: the paper's model reads the generator's inputs and not its probability.

    Args:
        ctr: λ₁, weight of the probability of a click.
        cvr: λ₂, weight of the probability of a purchase after a click.
        ctcvr: λ₃, weight of the probability of a click and a purchase.
        relevance: λ₄, weight of the cosine of the text vectors of query and item.
        log_p: λ₅, weight of the generator's log-probability of the item, divided by 10.

    Raises:
        ValueError: a weight is negative or no number, or all are 0.
    """

    ctr: float = 0.0
    cvr: float = 0.0
    ctcvr: float = 1.0
    relevance: float = 0.0
    log_p: float = 0.0

    def __post_init__(self) -> None:
        if not all(value >= 0 for value in astuple(self)) or not any(astuple(self)):
            raise ValueError(f"{self}: weights must be at least 0, and one of them above 0")


def rewards(weights: RankingWeights, logits: np.ndarray, relevance: np.ndarray, log_p: np.ndarray) -> np.ndarray:
    """Scores of candidates, float64 ``(requests, candidates)``.

    Args:
        weights: weights of the terms.
        logits: log-odds of the three towers, ``(requests, candidates, 3)``.
        relevance: cosine of the text vectors, ``(requests, candidates)``.
        log_p: log-probability of the generator, ``(requests, candidates)``.
    """
    return terms(logits, relevance, log_p) @ np.array(astuple(weights))


def terms(logits: np.ndarray, relevance: np.ndarray, log_p: np.ndarray) -> np.ndarray:
    """The five terms of the score, float64 ``(requests, candidates, 5)``; arguments as for `rewards`."""
    towers = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return np.concatenate([towers, relevance[..., None], log_p[..., None] / 10], axis=-1)


def fit_weights(
    parts: np.ndarray, wanted: np.ndarray, known: np.ndarray, keep_relevance: bool = True, unused: Sequence[str] = ()
) -> RankingWeights:
    """Choose the weights with the best NDCG@10 on some requests, under the condition that the first ten do not lose relevance.

    Steps:
        1. Start with λ₃ alone.
        2. Try for one weight after the other every value in `STEPS` and keep the best; equal values keep the earlier one. Weights whose
           first ten are less relevant than those of the generator's own order are worse than all others, by as much as they fall short.
        3. Repeat until nothing gets better. The quality never falls from one step to the next.

    Args:
        parts: terms of the candidates, ``(requests, candidates, 5)``.
        wanted: whether the request's user bought (or, where nothing was bought, clicked) the candidate, ``(requests, candidates)``.
        known: whether there is a candidate, ``(requests, candidates)``.
        keep_relevance: False drops the condition.
        unused: weights that stay 0.
    """
    least = first_relevance(parts[..., LOG_P], parts[..., RELEVANCE], known) if keep_relevance else -np.inf

    def quality(weights: RankingWeights) -> tuple[float, float]:
        scores = parts @ np.array(astuple(weights))
        lost = max(least - first_relevance(scores, parts[..., RELEVANCE], known) - TOLERANCE, 0.0)
        return -lost, ndcg(scores, wanted, known)

    best = RankingWeights()
    reached = quality(best)
    while True:
        before = reached
        for field in (part for part in fields(RankingWeights) if part.name not in unused):
            for value in STEPS:
                changed = {**{part.name: getattr(best, part.name) for part in fields(best)}, field.name: value}
                if not any(changed.values()):
                    continue
                tried = replace(best, **{field.name: value})
                found = quality(tried)
                if found > (reached[0] + 1e-12, -np.inf) or (found[0] >= reached[0] and found[1] > reached[1] + 1e-9):
                    best, reached = tried, found
        if reached <= before:
            return best


def first_relevance(scores: np.ndarray, relevance: np.ndarray, known: np.ndarray) -> float:
    """Mean relevance of the first ten candidates by `scores`, all ``(requests, candidates)``; 0 without any candidate."""
    order = np.argsort(-np.where(known, scores, -np.inf), axis=1, kind="stable")[:, :CUTOFF]
    there = np.take_along_axis(known, order, axis=1)
    found = np.where(there, np.take_along_axis(relevance, order, axis=1), 0.0)
    counts = there.sum(axis=1)
    return float((found.sum(axis=1) / np.maximum(counts, 1))[counts > 0].mean()) if counts.any() else 0.0


def ndcg(scores: np.ndarray, wanted: np.ndarray, known: np.ndarray) -> float:
    """Mean NDCG@10 of the requests that have a wanted candidate; 0 without any. Equal scores keep the order of the candidates."""
    answered = wanted.any(axis=1)
    if not answered.any():
        return 0.0
    order = np.argsort(-np.where(known, scores, -np.inf)[answered], axis=1, kind="stable")[:, :CUTOFF]
    found = np.take_along_axis(wanted[answered], order, axis=1)
    discount = 1 / np.log2(np.arange(2, found.shape[1] + 2))
    ideal = np.cumsum(discount)[np.minimum(wanted[answered].sum(axis=1), found.shape[1]) - 1]
    return float(((found * discount).sum(axis=1) / ideal).mean())


def stable_order(scores: np.ndarray) -> np.ndarray:
    """Places of the scores from the best to the worst; equal ones keep their order."""
    return np.argsort(-scores, kind="stable")


__all__ = ["RankingWeights", "first_relevance", "fit_weights", "ndcg", "rewards", "stable_order", "terms"]
