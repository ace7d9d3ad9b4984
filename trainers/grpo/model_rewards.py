"""Rewards that the reward model of a checkpoint gives: its ranking score, its probability of a click, and relevance.

The dataset's column `session` holds the row of the request's session in the market, and `query_session`, if there is one, that of the
session whose query the request asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from onesearch.data.market import Market
from onesearch.data.user_logs import UserLogs
from onesearch.tokenization_sid.embedding.alignment_measures import held_out_queries

from ..preference.session_scores import SessionScorer, SidScores
from .reward_mix import RewardMix
from .rewards import Reward, WeighedReward, log_rewards
from .rollouts import Rollouts

HIGHEST_GRADE = 3
"""Highest grade of a judgement."""


class RolloutScores:
    """The reward model's scores of rollouts, which are computed once for all rewards that ask for them.

    Args:
        scorer: the reward model for sessions of a market.
    """

    def __init__(self, scorer: SessionScorer) -> None:
        self.scorer = scorer
        self._last: tuple[Rollouts, SidScores] | None = None

    def __call__(self, rollouts: Rollouts) -> SidScores:
        """Scores of the rollouts, (requests, group) each."""
        if self._last is None or self._last[0] is not rollouts:
            sids = rollouts.codes.cpu().numpy()
            self._last = rollouts, self.scorer(_column(rollouts, "session"), sids, asked_sessions(rollouts))
        return self._last[1]


def _column(rollouts: Rollouts, name: str) -> np.ndarray:
    """A column of the requests' rows, (requests,); KeyError without it."""
    if name not in rollouts.examples[0]:
        raise KeyError(f"the dataset has no column {name!r}, which the rewards model, ctr and relevance need")
    return np.array([int(example[name]) for example in rollouts.examples], dtype=np.int64)


def asked_sessions(rollouts: Rollouts) -> np.ndarray:
    """Rows of the sessions whose queries the requests ask, (requests,)."""
    return _column(rollouts, "query_session" if "query_session" in rollouts.examples[0] else "session")


class ScoreReward:
    """The reward model's ranking score of the best item of each SID, without the policy's own log-probability, or its click probability.

    Args:
        scores: the scores.
        pick: takes the numbers (requests, group) from them. An item that the reward model does not know has the least of its request.
    """

    def __init__(self, scores: RolloutScores, pick: Callable[[SidScores], np.ndarray]) -> None:
        self.scores, self.pick = scores, pick

    def __call__(self, rollouts: Rollouts) -> torch.Tensor:
        """See [`Reward`]."""
        found = self.scores(rollouts)
        values, known = self.pick(found), found.items >= 0
        least = np.where(known, values, np.inf).min(1, keepdims=True)
        values = np.where(known, values, np.where(np.isfinite(least), least, 0.0))
        return torch.from_numpy(values).float().to(rollouts.codes.device)


class RelevanceReward:
    """Relevance of query and item in [0, 1]: the grade of the market's judgement over 3, where there is one, else the cosine of the reward
    model's text vectors.

    Args:
        scores: the scores.
        grades: grade of each judged pair of a query and an item row; see `judged_grades`.
    """

    def __init__(self, scores: RolloutScores, grades: Mapping[tuple[str, int], int]) -> None:
        self.scores, self.grades = scores, grades

    def __call__(self, rollouts: Rollouts) -> torch.Tensor:
        """See [`Reward`]."""
        found = self.scores(rollouts)
        relevance = found.relevance.clip(0.0, 1.0).astype(np.float64)
        if self.grades:
            logs: UserLogs = self.scores.scorer.columns.logs
            queries = logs.queries[logs.query_rows[asked_sessions(rollouts)]].tolist()
            for row, place in np.argwhere(found.items >= 0).tolist():
                grade = self.grades.get((queries[row], int(found.items[row, place])))
                if grade is not None:
                    relevance[row, place] = grade / HIGHEST_GRADE
        return torch.from_numpy(relevance).float().to(rollouts.codes.device)


def judged_grades(market: Market) -> dict[tuple[str, int], int]:
    """Grade of each judged pair of a query and an item row, but of queries that are asked in held-out sessions."""
    row_of = {item_id: row for row, item_id in enumerate(market.items.data.column("item_id").to_pylist())}
    held = held_out_queries(market)
    columns = [market.relevance.data.column(name).to_pylist() for name in ("query", "item_id", "grade")]
    return {(query, row_of[item]): grade for query, item, grade in zip(*columns) if item in row_of and query not in held}


def build_rewards(
    mix: RewardMix, scorer: SessionScorer | None = None, grades: Mapping[tuple[str, int], int] | None = None
) -> list[WeighedReward]:
    """The rewards of a mix, in the order of `REWARDS`.

    Args:
        mix: weights and settings.
        scorer: the reward model; needed where the mix weighs one of its scores.
        grades: judgements for the relevance; None takes cosines alone.

    Raises:
        ValueError: the mix needs the reward model and there is none.
    """
    found = {own.name: own for own in log_rewards(mix)}
    if mix.needs_reward_model:
        if scorer is None:
            raise ValueError(
                f"the rewards {', '.join(mix.weights)} need a reward model, and there is none; train one with `onesearch reward`, or set "
                "rewards.model, rewards.ctr and rewards.relevance to 0 and another reward above 0"
            )
        scores = RolloutScores(scorer)
        parts: dict[str, Reward] = {
            "model": ScoreReward(scores, lambda scores: scores.score),
            "ctr": ScoreReward(scores, lambda scores: scores.ctr),
            "relevance": RelevanceReward(scores, grades or {}),
        }
        found |= {name: WeighedReward(name, mix.weights[name], parts[name]) for name in parts if name in mix.weights}
    return [found[name] for name in mix.weights]


__all__ = ["RelevanceReward", "RolloutScores", "ScoreReward", "asked_sessions", "build_rewards", "judged_grades"]
