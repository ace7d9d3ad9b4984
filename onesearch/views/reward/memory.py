"""Memory of behaviour: statistics of items, counts of items under a query, and transitions between items, each as of any time.

New sessions are counted without any training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from onesearch.data.columns import session_entries
from onesearch.data.market import Market
from onesearch.data.text import query_key
from onesearch.data.user_logs import UserLogs
from onesearch.tokenization_sid.ragged import Ragged

from .counts import TimedCounts

WINDOW = 5
"""Number of latest items from which transitions are counted; our choice."""

DECAY = 0.8
"""Weight of each earlier item relative to the one after it; our choice."""

CLICK_SHARE = 0.3
"""A click counts as this share of a purchase in a query's categories; our choice."""

STATISTICS = ("impressed", "clicked", "purchased")
"""Session columns that are counted per item."""


@dataclass(frozen=True, eq=False)
class BehaviourMemory:
    """Counts of the sessions of a market.

    Args:
        items: number of items of the catalogue.
        leaves: number of leaf categories.
        leaf: leaf category of each item, -1 without one, ``(items,)``.
        queries: number of each normalised query.
        statistics: events of each item, one per entry of `STATISTICS`; key: item row.
        query_clicked: clicks under a query; key: query × items + item.
        query_purchased: purchases under a query; key: query × items + item.
        query_leaves: purchases and clicks under a query by leaf category; key: query × leaves + leaf.
        query_events: the sum of `query_leaves` over a query's leaves; key: query.
        transitions: weight of a pair of items close to each other in a history, in both directions; key: from × items + to.
        departures: sum of `transitions` over the items that follow; key: item row.
    """

    items: int
    leaves: int
    leaf: np.ndarray
    queries: dict[str, int]
    statistics: tuple[TimedCounts, ...]
    query_clicked: TimedCounts
    query_purchased: TimedCounts
    query_leaves: TimedCounts
    query_events: TimedCounts
    transitions: TimedCounts
    departures: TimedCounts

    @classmethod
    def of(cls, market: Market, logs: UserLogs, leaf: np.ndarray) -> BehaviourMemory:
        """Count all sessions of a market.

        Args:
            market: sessions and catalogue; `onesearch.data.requests.training_market` leaves out the sessions that a model is measured on.
            logs: event logs of the same market.
            leaf: leaf category of each item, ``(items,)``.
        """
        times = np.asarray(market.sessions.data.column("time"), dtype=np.int64)
        items, leaves = len(market.items), int(leaf.max(initial=-1)) + 1
        queries = {key: number for number, key in enumerate(dict.fromkeys(map(query_key, logs.queries)))}
        query = _query_of_sessions(logs, queries)
        events = {column: _Events(*session_entries(market, column)) for column in STATISTICS}
        answers = _answers(events, query, times, leaf)
        transitions = _transitions(logs, times, items)
        return cls(
            items=items,
            leaves=leaves,
            leaf=leaf,
            queries=queries,
            statistics=tuple(TimedCounts.of(part.rows, times[part.sessions]) for part in events.values()),
            query_clicked=_under_query(events["clicked"], query, times, items),
            query_purchased=_under_query(events["purchased"], query, times, items),
            query_leaves=TimedCounts.of(*answers),
            query_events=TimedCounts.of(answers.keys // max(leaves, 1), answers.times, answers.weights),
            transitions=TimedCounts.of(*transitions),
            departures=TimedCounts.of(transitions.keys // max(items, 1), transitions.times, transitions.weights),
        )

    def query_numbers(self, queries: Sequence[str]) -> np.ndarray:
        """Number of each query, -1 for one that was never asked, ``(queries,)``."""
        return np.array([self.queries.get(query_key(query), -1) for query in queries], dtype=np.int64)

    def features(self, queries: np.ndarray, history: Ragged, candidates: np.ndarray, times: np.ndarray | None) -> np.ndarray:
        """Counts of each candidate before a time.

        Args:
            queries: number of each request's query, -1 if unknown, ``(requests,)``.
            history: item rows of each history, oldest first, ``requests`` rows.
            candidates: item rows, -1 for padding, ``(requests, candidates)``.
            times: only events strictly before these are counted, ``(requests,)``; None counts all.

        Returns:
            float32 ``(requests, candidates, len(MEMORY_FEATURES))``.
        """
        rows, moment = np.maximum(candidates, 0), None if times is None else times[:, None]
        asked = queries[:, None]
        pair = np.where(asked < 0, -1, asked * self.items + rows)
        under_clicked, under_purchased = self.query_clicked.before(pair, moment), self.query_purchased.before(pair, moment)
        leaf = np.where((asked < 0) | (self.leaf[rows] < 0), -1, asked * self.leaves + self.leaf[rows])
        events = self.query_events.before(queries, times)[:, None]
        features = np.empty((*rows.shape, len(MEMORY_FEATURES)), dtype=np.float32)
        features[..., :5] = self._of_all_items[rows] if moment is None else self._of_items(rows, moment)
        features[..., 5] = np.log1p(under_clicked)
        features[..., 6] = np.log1p(under_purchased)
        features[..., 7] = (under_clicked + under_purchased) / np.sqrt(events + 1)
        features[..., 8] = self.query_leaves.before(leaf, moment) / np.maximum(events, 1e-9)
        features[..., 9] = np.log1p(events)
        features[..., 10], features[..., 11] = self._votes(history, rows, times)
        return features

    @cached_property
    def _of_all_items(self) -> np.ndarray:
        """`_of_items` of the whole catalogue with all events, ``(items, 5)``."""
        return self._of_items(np.arange(self.items), None)

    def _of_items(self, rows: np.ndarray, moment: np.ndarray | None) -> np.ndarray:
        """The five features that depend on the item alone, float32 ``(..., 5)``; `rows` and `moment` as for `TimedCounts.before`."""
        shown, clicked, purchased = (counts.before(rows, moment) for counts in self.statistics)
        logs = [np.log1p(counts) for counts in (shown, clicked, purchased)]
        return np.stack([*logs, (clicked + 1) / (shown + 10), (purchased + 1) / (clicked + 10)], axis=-1).astype(np.float32)

    def _votes(self, history: Ragged, rows: np.ndarray, times: np.ndarray | None) -> list[np.ndarray]:
        """Transitions from the latest items to each candidate: their decayed sum, and those from the very last item."""
        latest = history.tail(WINDOW).padded(-1)  # (requests, latest), aligned to the left
        age = np.minimum(history.lengths, WINDOW)[:, None] - 1 - np.arange(latest.shape[1])
        start, moment = np.maximum(latest, 0), None if times is None else times[:, None]
        norm = np.sqrt(self.departures.before(start, moment)) + 1e-9
        weights = np.where(age >= 0, DECAY ** np.maximum(age, 0), 0.0) / norm  # (requests, latest)
        pairs = start[:, :, None] * self.items + rows[:, None]  # (requests, latest, candidates)
        found = self.transitions.before(pairs, None if moment is None else moment[:, :, None]) * weights[:, :, None]
        return [np.log1p(found.sum(1)), np.log1p((found * (age == 0)[:, :, None]).sum(1))]


MEMORY_FEATURES = (
    "shown", "clicked", "purchased", "ctr", "cvr", "query_clicked", "query_purchased", "query_share", "query_leaf", "query_events",
    "transitions", "last_transition",
)  # fmt: skip
"""Names of the columns of `BehaviourMemory.features`."""


class _Events(NamedTuple):
    """Row of the session and row of the item of each event of one kind, both ``(events,)``."""

    sessions: np.ndarray
    rows: np.ndarray


class _Weighted(NamedTuple):
    """Arguments of `TimedCounts.of`, each ``(events,)``."""

    keys: np.ndarray
    times: np.ndarray
    weights: np.ndarray


def _query_of_sessions(logs: UserLogs, queries: Mapping[str, int]) -> np.ndarray:
    """Number of each session's query, -1 for a blank one, ``(sessions,)``."""
    number_of = np.array([queries[query_key(text)] for text in logs.queries], dtype=np.int64)
    return np.where(logs.blank[logs.query_rows], -1, number_of[logs.query_rows])


def _under_query(events: _Events, query: np.ndarray, times: np.ndarray, items: int) -> TimedCounts:
    """Count the events of sessions with a query by query and item; `query` and `times` are ``(sessions,)``."""
    sessions, rows = events
    searched = query[sessions] >= 0
    return TimedCounts.of((query[sessions] * items + rows)[searched], times[sessions][searched])


def _answers(events: Mapping[str, _Events], query: np.ndarray, times: np.ndarray, leaf: np.ndarray) -> _Weighted:
    """Purchases, and clicks at `CLICK_SHARE`, under a query by leaf category; key: query × leaves + leaf."""
    clicked, purchased = events["clicked"], events["purchased"]
    sessions, rows = (np.concatenate(pair) for pair in zip(clicked, purchased))
    weights = np.repeat([CLICK_SHARE, 1.0], [len(clicked.rows), len(purchased.rows)])
    known = (query[sessions] >= 0) & (leaf[rows] >= 0)
    sessions, rows = sessions[known], rows[known]
    leaves = int(leaf.max(initial=-1)) + 1
    return _Weighted(query[sessions] * leaves + leaf[rows], times[sessions], weights[known])


def _transitions(logs: UserLogs, times: np.ndarray, items: int) -> _Weighted:
    """Pairs of items close to each other in a history, at the time of the later one; key: from × items + to."""
    sessions, rows = logs.own("clicked", "purchased")
    log = logs.touched
    keys, moments, weights = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for gap in range(1, WINDOW + 1):
        place = log.end[sessions] - gap
        there = place >= log.begin[sessions]
        before, after = log.values[place[there]].astype(np.int64), rows[there]
        other = before != after
        before, after, moment = before[other], after[other], times[sessions[there]][other]
        keys += [before * items + after, after * items + before]
        moments += [moment, moment]
        weights += [np.full(2 * len(before), DECAY ** (gap - 1))]
    return _Weighted(np.concatenate(keys), np.concatenate(moments), np.concatenate(weights))


__all__ = ["MEMORY_FEATURES", "BehaviourMemory"]
