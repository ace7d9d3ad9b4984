"""Item-to-item transitions: which items occur close to each other in training histories, and a ranking by them alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import Request

from ..retrievers import Ranking
from .training import TrainingLog, best_rows, make_ranking, read_training_log


@dataclass(frozen=True)
class Transitions:
    """A sparse matrix (items, items) of transition weights as compressed rows.

    Args:
        starts: the entries of row i are ``starts[i] : starts[i + 1]``, ``(items + 1,)``.
        columns: item row of each entry, ``(entries,)``.
        weights: weight of each entry, ``(entries,)``.
    """

    starts: np.ndarray
    columns: np.ndarray
    weights: np.ndarray

    @classmethod
    def count(cls, log: TrainingLog, window: int, decay: float) -> Transitions:
        """Count pairs of different items in the history of one user, in both directions.

        A row is divided by the square root of its sum. Without that division frequent items would dominate the votes; divided by
        the full sum, an item seen once would weigh as much as a frequent one. The square root is our choice.

        Args:
            log: interactions of the training split.
            window: largest distance of a pair in the history; raising it adds pairs that are further apart.
            decay: a pair at distance d counts ``decay ** (d − 1)``; lowering it favours neighbours.
        """
        items = len(log.item_ids)
        keys, worth = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
        for gap in range(1, min(window, max(0, len(log.rows) - 1)) + 1):
            same = (log.users[gap:] == log.users[:-gap]) & (log.rows[gap:] != log.rows[:-gap])
            before, after = log.rows[:-gap][same], log.rows[gap:][same]
            keys += [before * items + after, after * items + before]
            worth += [np.full(2 * len(before), decay ** (gap - 1))]
        pairs, inverse = np.unique(np.concatenate(keys), return_inverse=True)
        weights = np.bincount(inverse, weights=np.concatenate(worth), minlength=len(pairs))
        origin = pairs // items
        total = np.bincount(origin, weights=weights, minlength=items)
        starts = np.concatenate([[0], np.cumsum(np.bincount(origin, minlength=items))])
        return cls(starts, pairs % items, weights / np.sqrt(total[origin]))


class TransitionRetriever:
    """Ranks the whole catalogue by the transitions from the user's latest items. It reads no query and has no trained parameter.

    Each of the latest items votes for the items close to it in training histories. Popular items follow those without a vote, and are the
    whole ranking for a user without a history. Items of the history are left out where repeated interactions are rare.

    Args:
        market: catalogue and sessions; only the training split is read.
        log: counts of the training split; computed if absent.
        history: number of latest items that vote.
        decay: weight of an item's vote relative to that of the next newer item.
        window: largest distance of two items in a training history that counts as a transition.
        window_decay: factor on a transition's weight per further position of distance.
    """

    name = "transitions"

    def __init__(
        self,
        market: Market,
        *,
        log: TrainingLog | None = None,
        history: int = 5,
        decay: float = 0.7,
        window: int = 20,
        window_decay: float = 0.9,
    ) -> None:
        self.log = log or read_training_log(market)
        self.item_ids = self.log.item_ids
        self._votes = decay ** np.arange(history)
        self._transitions = Transitions.count(self.log, window, window_decay)
        self._order = self.log.popularity_order()
        self._exclude_history = self.log.repeats_are_rare()

    def retrieve(self, requests: Sequence[Request], top_k: int) -> list[Ranking]:
        """Rank items by votes. Items with equal votes stay in order of popularity."""
        rankings = []
        for request in requests:
            past = [self.log.row_of[item] for item in request.history if item in self.log.row_of]
            scores = self._scores(past)
            if self._exclude_history:
                scores[past] = -1.0
            ordered = scores[self._order]
            best = best_rows(ordered, top_k)
            best = best[ordered[best] >= 0]
            rankings.append(make_ranking(self.item_ids, self._order[best], ordered[best]))
        return rankings

    def _scores(self, past: Sequence[int]) -> np.ndarray:
        """Votes for all items, ``(items,)``; `past` are item rows from old to new."""
        scores = np.zeros(len(self.item_ids))
        for row, vote in zip(past[::-1], self._votes):
            entries = slice(self._transitions.starts[row], self._transitions.starts[row + 1])
            scores[self._transitions.columns[entries]] += vote * self._transitions.weights[entries]
        return scores
