"""Rewards that the reward model of a checkpoint gives: its ranking score, its probability of a click, and relevance.

A rollout is a SID, and the reward model scores items: a SID has the best score among its most popular items, which are those that a search
can return for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from onesearch.data.market import Market
from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex
from onesearch.modeling_onesearch.hits_onesearch import MAX_ITEMS_PER_SID
from onesearch.serving.reranker import Reranker
from onesearch.views.reward.inputs import RewardColumns
from onesearch.views.reward.ranking import RankingWeights, rewards
from onesearch.views.reward.session_columns import SessionColumns

from .reward_mix import RewardMix
from .rewards import WeighedReward, log_rewards
from .rollouts import Rollouts

LARGEST_GRADE = 3
"""Highest grade of a judgement."""


class SidItems:
    """The most popular items of every SID of a catalogue, as rows of another table.

    Args:
        index: the catalogue.
        row_of: row of each item id.
        most: number of items per SID.
    """

    def __init__(self, index: SidIndex, row_of: Mapping[str, int], most: int = MAX_ITEMS_PER_SID) -> None:
        self.sizes = np.asarray(index.codebook_sizes, dtype=np.int64)
        ids, popularity = index.item_ids, np.asarray(index.popularity)
        keys = self._keys(np.asarray(index.codes, dtype=np.int64))
        order = np.lexsort((-popularity, keys))
        self.keys, first, counts = np.unique(keys[order], return_index=True, return_counts=True)
        rows = np.array([row_of.get(item_id, -1) for item_id in ids], dtype=np.int64)[order]
        width = int(min(counts.max(initial=1), most))
        places = first[:, None] + np.arange(width)
        self.rows = np.where(np.arange(width) < counts[:, None], rows[np.minimum(places, len(rows) - 1)], -1)

    def of(self, codes: np.ndarray) -> np.ndarray:
        """Rows of the items of SIDs: (..., levels) → (..., items), -1 for padding and for items that the other table lacks."""
        keys = self._keys(codes)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        known = (codes[..., 0] >= 0) & (self.keys[place] == keys)
        return np.where(known[..., None], self.rows[place], -1)

    def _keys(self, codes: np.ndarray) -> np.ndarray:
        """One number per SID."""
        keys = np.zeros(codes.shape[:-1], dtype=np.int64)
        for level, size in enumerate(self.sizes.tolist()):
            keys = keys * size + codes[..., level]
        return keys


class ModelScores(NamedTuple):
    """Scores of the items of rollouts, each (requests, group, items), -inf where there is no item.

    Args:
        score: weighted sum of the towers and the relevance.
        ctr: probability of a click.
        relevance: see [`RewardMix`].
    """

    score: np.ndarray
    ctr: np.ndarray
    relevance: np.ndarray


class SessionScorer:
    """Scores SIDs for sessions of a market by the reward model, with what was known before each session.

    The dataset's column `session` holds the row of the request's session, and `query_session`, if there is one, that of the session
    whose query the request asks.

    Args:
        reranker: the reward model.
        columns: what was known before each session; its memory has the times of its events.
        index: the catalogue.
        grades: grade of each judged pair of a query and an item row; see `judged_grades`.
    """

    def __init__(
        self, reranker: Reranker, columns: SessionColumns, index: SidIndex, grades: Mapping[tuple[str, int], int] | None = None
    ) -> None:
        self.reranker, self.columns, self.grades = reranker, columns, grades or {}
        self.items = SidItems(index, reranker.requests.row_of)
        # The towers rank; the generator's own log-probability is what is trained, so that it is no reward.
        own = reranker.parts.weights
        others = (own.ctr, own.cvr, own.ctcvr, own.relevance)
        self.weights = replace(own, log_p=0.0) if any(others) else RankingWeights()
        self._last: tuple[Rollouts, ModelScores] | None = None

    def __call__(self, rollouts: Rollouts) -> ModelScores:
        """The scores of the rollouts' items; computed once for all rewards that ask for them."""
        if self._last is None or self._last[0] is not rollouts:
            self._last = rollouts, self._scores(rollouts)
        return self._last[1]

    def _scores(self, rollouts: Rollouts) -> ModelScores:
        items = self.items.of(rollouts.codes.cpu().numpy())  # (requests, group, items)
        flat = items.reshape(len(items), -1)
        columns = self._columns(rollouts, flat)
        logits = self.reranker.logits(columns)
        relevance = self.reranker.relevance(columns)
        score = rewards(self.weights, logits, relevance, np.zeros_like(relevance))
        ctr = 1 / (1 + np.exp(-logits[..., 0].astype(np.float64)))
        parts = (score, ctr, self._with_grades(rollouts, flat, relevance))
        return ModelScores(*(np.where(items >= 0, part.reshape(items.shape), -np.inf) for part in parts))

    def _columns(self, rollouts: Rollouts, candidates: np.ndarray) -> RewardColumns:
        sessions = np.array([example["session"] for example in rollouts.examples], dtype=np.int64)
        columns = self.columns.of(sessions, candidates)
        if "query_session" not in rollouts.examples[0]:
            return columns
        asked = np.array([example["query_session"] for example in rollouts.examples], dtype=np.int64)
        queries = self.columns.of(asked, candidates[:, :0])
        return columns._replace(queries=queries.queries, query_vectors=queries.query_vectors)

    def _with_grades(self, rollouts: Rollouts, items: np.ndarray, cosine: np.ndarray) -> np.ndarray:
        """Relevance (requests, candidates) in [0, 1]: the grade of judged pairs, the cosine of all others."""
        relevance = cosine.clip(0.0, 1.0)
        if not self.grades:
            return relevance
        asked = "query_session" if "query_session" in rollouts.examples[0] else "session"
        logs = self.columns.logs
        for row, example in enumerate(rollouts.examples):
            query = str(logs.queries[logs.query_rows[int(example[asked])]])
            for place, item in enumerate(items[row].tolist()):
                grade = self.grades.get((query, item))
                if grade is not None:
                    relevance[row, place] = grade / LARGEST_GRADE
        return relevance


class ModelReward:
    """One of the scores of the reward model, of the best item of each SID.

    Args:
        scorer: makes the scores.
        name: field of [`ModelScores`].
    """

    def __init__(self, scorer: SessionScorer, name: str) -> None:
        self.scorer, self.name = scorer, name

    def __call__(self, rollouts: Rollouts) -> torch.Tensor:
        """See [`Reward`]; the least reward of the request for SIDs whose items the reward model does not know."""
        values = getattr(self.scorer(rollouts), self.name).max(-1)
        known = np.isfinite(values)
        least = np.where(known, values, np.inf).min(1, keepdims=True)
        values = np.where(known, values, np.where(np.isfinite(least), least, 0.0))
        return torch.from_numpy(values).float().to(rollouts.codes.device)


def judged_grades(market: Market, row_of: Mapping[str, int]) -> dict[tuple[str, int], int]:
    """Grade of each judged pair of a query and an item of a market; empty without judgements.

    Args:
        market: its table of relevance is read.
        row_of: row of each item id; pairs of other items are left out.
    """
    columns = [market.relevance.data.column(name).to_pylist() for name in ("query", "item_id", "grade")]
    return {(query, row_of[item]): grade for query, item, grade in zip(*columns) if item in row_of}


def build_rewards(mix: RewardMix, scorer: SessionScorer | None = None) -> list[WeighedReward]:
    """The rewards of a mix, in the order of `REWARDS`.

    Args:
        mix: weights and settings.
        scorer: the reward model; needed where the mix weighs one of its scores.

    Raises:
        ValueError: the mix needs the reward model and there is none.
    """
    if mix.needs_reward_model and scorer is None:
        raise ValueError(
            f"the rewards {', '.join(mix.weights)} need a reward model, and the checkpoint has none; train one with `onesearch reward`, "
            "or set rewards.model, rewards.ctr and rewards.relevance to 0 and another reward above 0"
        )
    found = {own.name: own for own in log_rewards(mix)}
    fields = {"model": "score", "ctr": "ctr", "relevance": "relevance"}
    for name, field in fields.items():
        if name in mix.weights and scorer is not None:
            found[name] = WeighedReward(name, mix.weights[name], ModelReward(scorer, field))
    return [found[name] for name in mix.weights]


__all__ = ["ModelReward", "ModelScores", "SessionScorer", "SidItems", "build_rewards", "judged_grades"]
