"""Quality of the towers of a reward model on the items that held-out sessions were shown, beside simpler and better predictors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onesearch.data.columns import session_entries
from onesearch.data.market import Market
from onesearch.data.requests import SPLITS, is_search, split_sessions, training_market
from onesearch.evaluation.calibration import quality
from onesearch.modeling_onesearch.configuration_reward_onesearch import TOWERS

if TYPE_CHECKING:
    from onesearch.serving.reranker import Reranker

BATCH = 64
"""Sessions that are scored at a time."""

PENALTY = 1e-4
"""Weight of half the squared length of a logistic regression's weights; our choice."""


class Pairs(NamedTuple):
    """Shown items of some searches, with what the predictors say of them.

    Attributes:
        sessions: row of each pair's session, ``(pairs,)``.
        items: row of its item, ``(pairs,)``.
        clicked: whether it was clicked or bought, ``(pairs,)``.
        purchased: whether it was bought, ``(pairs,)``.
        features: cross features, float32 ``(pairs, features)``.
        logits: log-odds of the towers, ``(pairs, 3)``.
    """

    sessions: np.ndarray
    items: np.ndarray
    clicked: np.ndarray
    purchased: np.ndarray
    features: np.ndarray
    logits: np.ndarray

    def of_tower(self, tower: str) -> tuple[np.ndarray, np.ndarray]:
        """The pairs that a tower speaks of, bool, and the labels of all pairs: the CVR tower speaks of clicked ones alone."""
        labels = self.clicked if tower == "ctr" else self.purchased
        return (self.clicked if tower == "cvr" else np.ones(len(labels), dtype=bool)), labels


def tower_quality(market: Market, reranker: Reranker, split: str, sample: int) -> dict[str, Any]:
    """AUC, log loss and calibration of the towers and of other predictors on shown items of held-out searches.

    The predictors are:

    * ``reward model``: the towers as they are. They learn from sampled negatives, so their probabilities need not be rates of shown items.
    * ``reward model, calibrated``: the same with a slope and an intercept in log-odds, fitted on shown items of validation searches.
    * ``logistic regression``: on the same cross features, fitted on shown items of training searches.
    * ``raw rate``: clicks per impression of the item in training, and so on, smoothed by ten events of the mean rate.
    * ``optimal``: the simulator's own predictor; only on a simulated market.

    Args:
        market: catalogue and sessions.
        reranker: the reward model with its memory.
        split: split of the searches that are measured.
        sample: number of searches of each split that are drawn, with seed 0; those without a click count as well.

    Returns:
        ``pairs``, ``notes``, and under ``quality`` tower → predictor → the values of `onesearch.evaluation.calibration.quality`.
    """
    shown = session_entries(market, "impressed")
    if not len(shown[0]):
        return {
            "pairs": 0,
            "notes": ["the market shows no impressions, so no rates of shown items can be measured"],
            "quality": {},
        }
    drawn = {name: _pairs(market, reranker, shown, name, sample) for name in dict.fromkeys((*SPLITS, split))}
    notes = [
        f"{len(drawn[split].sessions):,} shown items of {len(np.unique(drawn[split].sessions)):,} searches of the {split} split"
    ]
    found: dict[str, dict[str, Any]] = {}
    best = _optimal(market, drawn[split])
    for place, tower in enumerate(TOWERS):
        measured, labels = drawn[split].of_tower(tower)
        trained = drawn["train"].of_tower(tower)
        if not labels[measured].any() or not trained[1][trained[0]].any():
            notes.append(f"{tower}: no held-out or no training pair has the label 1")
            continue
        logits = drawn[split].logits[:, place]
        chances = {"reward model": _sigmoid(logits)}
        tuned, tuned_labels = drawn["validation"].of_tower(tower)
        if tuned_labels[tuned].any():
            line = _fit(drawn["validation"].logits[tuned, place, None], tuned_labels[tuned])
            chances["reward model, calibrated"] = line(logits[:, None])
        chances["logistic regression"] = _fit(drawn["train"].features[trained[0]], trained[1][trained[0]])(
            drawn[split].features
        )
        chances["raw rate"] = _raw_rates(reranker, drawn[split].items, tower)
        if best is not None:
            chances["optimal"] = best[place]
        found[tower] = {name: quality(values[measured], labels[measured]) for name, values in chances.items()}
    return {"pairs": len(drawn[split].sessions), "notes": notes, "quality": found}


def _pairs(market: Market, reranker: Reranker, shown: tuple[np.ndarray, np.ndarray], split: str, sample: int) -> Pairs:
    """Shown items of a sample of one split's searches. Those of training see what was known at their time, the others the whole memory."""
    from onesearch.data.user_logs import UserLogs
    from onesearch.views.reward.inputs import RewardInputs
    from onesearch.views.reward.memory import BehaviourMemory
    from onesearch.views.reward.session_columns import SessionColumns

    wanted = (split_sessions(market) == SPLITS.index(split)) & is_search(market)
    wanted &= np.bincount(shown[0], minlength=len(wanted)) > 0
    drawn = np.random.default_rng(0).permutation(np.flatnonzero(wanted))[:sample]
    drawn = np.sort(drawn)
    logs = UserLogs(market)
    texts = logs.queries.tolist()
    asked = np.unique(logs.query_rows[drawn])
    vectors = np.zeros((len(texts), reranker.parts.table.vectors.shape[1]), dtype=np.float32)
    vectors[asked] = reranker.requests.embed([texts[row] for row in asked.tolist()])
    inputs, memory = reranker.inputs, reranker.parts.memory
    is_training = split == "train"
    if is_training:  # the memory of a checkpoint knows no times: the events of these very sessions are in it
        past = training_market(market)
        memory = BehaviourMemory.of(past, UserLogs(past), memory.leaf)
        inputs = RewardInputs(reranker.parts.table, memory, inputs.max_history, inputs.without)
    columns = SessionColumns(market, logs, memory, texts, vectors, inputs.max_history)
    order = np.argsort(shown[0], kind="stable")
    sessions, items = shown[0][order], shown[1][order]
    parts: list[tuple[np.ndarray, ...]] = []
    for start in range(0, len(drawn), BATCH):
        own = drawn[start : start + BATCH]
        begin, end = np.searchsorted(sessions, own), np.searchsorted(sessions, own, side="right")
        width = int((end - begin).max())
        place = begin[:, None] + np.arange(width)
        there = place < end[:, None]
        rows = np.where(there, items[np.minimum(place, len(items) - 1)], -1)
        seen = columns.of(own, rows)
        features, logits = reranker.predict(seen if is_training else seen._replace(times=None), inputs)
        parts.append((np.repeat(own, there.sum(1)), rows[there], features[there], logits[there]))
    owner, rows, features, logits = (np.concatenate(arrays) for arrays in zip(*parts)) if parts else _nothing(reranker)
    keys = owner * len(market.items) + rows
    events = [np.isin(keys, pair[0] * len(market.items) + pair[1]) for pair in _answers(market)]
    return Pairs(owner, rows, events[0] | events[1], events[1], features, logits)


def _nothing(reranker: Reranker) -> tuple[np.ndarray, ...]:
    none = np.zeros(0, dtype=np.int64)
    return none, none, np.zeros((0, len(reranker.inputs.names)), dtype=np.float32), np.zeros((0, len(TOWERS)))


def _answers(market: Market) -> list[tuple[np.ndarray, np.ndarray]]:
    return [session_entries(market, name) for name in ("clicked", "purchased")]


class _Logistic(NamedTuple):
    """A logistic regression: means, scales and weights of the features, ``(features,)``, and the intercept."""

    means: np.ndarray
    scales: np.ndarray
    weights: np.ndarray
    intercept: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Probabilities, ``(pairs,)``; `values` is ``(pairs, features)``."""
        return _sigmoid((values - self.means) / self.scales @ self.weights + self.intercept)


def _fit(values: np.ndarray, labels: np.ndarray) -> _Logistic:
    """Fit a logistic regression with a small penalty; `values` is ``(pairs, features)``, `labels` ``(pairs,)``."""
    from scipy.optimize import minimize

    means, scales = values.mean(axis=0), values.std(axis=0) + 1e-3
    units = ((values - means) / scales).astype(np.float64)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = units @ weights[:-1] + weights[-1]
        error = (_sigmoid(scores) - labels) / len(labels)
        value = float((np.logaddexp(0, scores) - labels * scores).mean() + PENALTY * (weights[:-1] @ weights[:-1]) / 2)
        return value, np.append(units.T @ error + PENALTY * weights[:-1], error.sum())

    found = minimize(loss, np.zeros(values.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return _Logistic(means, scales, found[:-1], float(found[-1]))


def _raw_rates(reranker: Reranker, items: np.ndarray, tower: str) -> np.ndarray:
    """Rate of each item in the memory, smoothed by ten events of the mean rate, ``(pairs,)``."""
    shown, clicked, purchased = (
        part.before(np.arange(reranker.parts.memory.items)) for part in reranker.parts.memory.statistics
    )
    happened, of = {"ctr": (clicked, shown), "cvr": (purchased, clicked), "ctcvr": (purchased, shown)}[tower]
    mean = happened.sum() / max(of.sum(), 1)
    return ((happened + 10 * mean) / (of + 10))[items]


def _optimal(market: Market, pairs: Pairs) -> list[np.ndarray] | None:
    """Chances of the simulator's own predictor for each tower; None for a market that was not simulated."""
    config = market.info.get("config")
    if not str(market.info.get("source", "")).startswith("onesearch.simulator") or not config:
        return None
    from onesearch.simulator import build_world
    from onesearch.simulator.click_model import fit_constants
    from onesearch.simulator.config import ResolvedConfig
    from onesearch.simulator.oracle import shown_chances

    world = build_world(ResolvedConfig(**config))
    chances = shown_chances(world, fit_constants(world), pairs.sessions, pairs.items)
    return [chances.click, chances.purchase / np.maximum(chances.click, 1e-12), chances.purchase]


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values.astype(np.float64)))


__all__ = ["Pairs", "tower_quality"]
