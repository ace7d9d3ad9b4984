"""Memory of behaviour: statistics of items, counts of items under a query, and transitions between items, each as of any time.

New sessions are counted without any training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
        log_end: bytes of the server's event log whose sessions are counted, from its begin.
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
    log_end: int = 0

    @classmethod
    def of(cls, market: Market, logs: UserLogs, leaf: np.ndarray, users: np.ndarray | None = None) -> BehaviourMemory:
        """Count all sessions of a market.

        Args:
            market: sessions and catalogue; `onesearch.data.requests.training_market` leaves out the sessions that a model is measured on.
            logs: event logs of the same market.
            leaf: leaf category of each item, ``(items,)``.
            users: number of each session's user, ``(sessions,)``, where counts are to be read for a user; see `TimedCounts.before`.
        """
        times = np.asarray(market.sessions.data.column("time"), dtype=np.int64)
        items, leaves = len(market.items), int(leaf.max(initial=-1)) + 1
        queries = {key: number for number, key in enumerate(dict.fromkeys(map(query_key, logs.queries)))}
        query = _query_of_sessions(logs, queries)
        events = {column: _Events(*session_entries(market, column)) for column in STATISTICS}
        answers = _answers(events, query, leaf)
        transitions = _transitions(logs, items)

        def counts(keys: np.ndarray, sessions: np.ndarray, weights: np.ndarray | None = None) -> TimedCounts:
            return TimedCounts.of(keys, times[sessions], weights, None if users is None else users[sessions])

        return cls(
            items=items,
            leaves=leaves,
            leaf=leaf,
            queries=queries,
            statistics=tuple(counts(part.rows, part.sessions) for part in events.values()),
            query_clicked=counts(*_under_query(events["clicked"], query, items)),
            query_purchased=counts(*_under_query(events["purchased"], query, items)),
            query_leaves=counts(*answers),
            query_events=counts(answers.keys // max(leaves, 1), answers.sessions, answers.weights),
            transitions=counts(*transitions),
            departures=counts(transitions.keys // max(items, 1), transitions.sessions, transitions.weights),
        )

    def updated(self, market: Market, log_end: int | None = None) -> BehaviourMemory:
        """Count further sessions, without any training. The result is read whole: it keeps no times.

        Transitions are counted between the further sessions of a user; those from earlier sessions to the first further one are not known.

        Args:
            market: sessions that are not counted yet, sorted by time, and the same items in the same rows.
            log_end: where these sessions end in the server's event log; None if they are not from there.
        """
        more = BehaviourMemory.of(market, UserLogs(market), self.leaf)
        queries = dict(self.queries)
        for query in more.queries:
            queries.setdefault(query, len(queries))
        number = np.array([queries[query] for query in more.queries] or [0], dtype=np.int64)

        def under_query(part: TimedCounts, width: int) -> np.ndarray:
            query, rest = np.divmod(part.keys, max(width, 1))
            return number[query] * width + rest

        return replace(
            self,
            log_end=self.log_end if log_end is None else log_end,
            queries=queries,
            statistics=tuple(own.plus(new.keys, new.sums) for own, new in zip(self.statistics, more.statistics)),
            query_clicked=self.query_clicked.plus(under_query(more.query_clicked, self.items), more.query_clicked.sums),
            query_purchased=self.query_purchased.plus(under_query(more.query_purchased, self.items), more.query_purchased.sums),
            query_leaves=self.query_leaves.plus(under_query(more.query_leaves, self.leaves), more.query_leaves.sums),
            query_events=self.query_events.plus(number[more.query_events.keys], more.query_events.sums),
            transitions=self.transitions.plus(more.transitions.keys, more.transitions.sums),
            departures=self.departures.plus(more.departures.keys, more.departures.sums),
        )

    def with_items(self, leaf: np.ndarray) -> BehaviourMemory:
        """The same counts for a catalogue with further items behind the known ones. The result is read whole: it keeps no times.

        Args:
            leaf: leaf category of each further item, one of the known ones or -1, ``(further items,)``.
        """
        items = self.items + len(leaf)

        def widened(part: TimedCounts) -> TimedCounts:
            first, second = np.divmod(part.keys, self.items)
            return TimedCounts.whole(first * items + second, part.sums)

        return replace(
            self,
            items=items,
            leaf=np.concatenate([self.leaf, leaf]),
            query_clicked=widened(self.query_clicked),
            query_purchased=widened(self.query_purchased),
            transitions=widened(self.transitions),
        )

    def query_numbers(self, queries: Sequence[str]) -> np.ndarray:
        """Number of each query, -1 for one that was never asked, ``(queries,)``."""
        return np.array([self.queries.get(query_key(query), -1) for query in queries], dtype=np.int64)

    def features(
        self,
        queries: np.ndarray,
        history: Ragged,
        candidates: np.ndarray,
        times: np.ndarray | None,
        users: np.ndarray | None = None,
    ) -> np.ndarray:
        """Counts of each candidate before a time.

        Args:
            queries: number of each request's query, -1 if unknown, ``(requests,)``.
            history: item rows of each history, oldest first, ``requests`` rows.
            candidates: item rows, -1 for padding, ``(requests, candidates)``.
            times: only events strictly before these are counted, ``(requests,)``; None counts all.
            users: the times bound the events of these users alone, ``(requests,)``; None bounds those of everybody.

        Returns:
            float32 ``(requests, candidates, len(MEMORY_FEATURES))``.
        """
        rows, seen = np.maximum(candidates, 0), Seen.of(times, users)
        features = np.empty((*rows.shape, len(MEMORY_FEATURES)), dtype=np.float32)
        features[..., :5] = self._of_all_items[rows] if times is None else self._of_items(rows, seen)
        features[..., 5:10] = self._under_query(queries[:, None], rows, seen) if (queries >= 0).any() else 0.0
        features[..., 10], features[..., 11] = self._votes(history, rows, seen)
        return features

    def _under_query(self, asked: np.ndarray, rows: np.ndarray, seen: Seen) -> np.ndarray:
        """The five features that depend on the query, ``(requests, candidates, 5)``.

        Args:
            asked: number of each request's query, -1 if unknown, ``(requests, 1)``.
            rows: item rows, ``(requests, candidates)``.
            seen: the events that count.
        """
        pair = np.where(asked < 0, -1, asked * self.items + rows)
        under_clicked, under_purchased = seen.sums(self.query_clicked, pair), seen.sums(self.query_purchased, pair)
        leaf = np.where((asked < 0) | (self.leaf[rows] < 0), -1, asked * self.leaves + self.leaf[rows])
        events = seen.sums(self.query_events, asked)
        features = np.empty((*rows.shape, 5), dtype=np.float32)
        features[..., 0] = np.log1p(under_clicked)
        features[..., 1] = np.log1p(under_purchased)
        features[..., 2] = (under_clicked + under_purchased) / np.sqrt(events + 1)
        features[..., 3] = seen.sums(self.query_leaves, leaf) / np.maximum(events, 1e-9)
        features[..., 4] = np.log1p(events)
        return features

    @cached_property
    def _of_all_items(self) -> np.ndarray:
        """`_of_items` of the whole catalogue with all events, ``(items, 5)``."""
        return self._of_items(np.arange(self.items), Seen.of(None, None))

    def _of_items(self, rows: np.ndarray, seen: Seen) -> np.ndarray:
        """The five features that depend on the item alone, float32 ``(..., 5)``; `rows` is of any shape."""
        shown, clicked, purchased = (seen.sums(counts, rows) for counts in self.statistics)
        logs = [np.log1p(counts) for counts in (shown, clicked, purchased)]
        return np.stack([*logs, (clicked + 1) / (shown + 10), (purchased + 1) / (clicked + 10)], axis=-1).astype(np.float32)

    def _votes(self, history: Ragged, rows: np.ndarray, seen: Seen) -> list[np.ndarray]:
        """Transitions from the latest items to each candidate: their decayed sum, and those from the very last item."""
        latest = history.tail(WINDOW).padded(-1)  # (requests, latest), aligned to the left
        age = np.minimum(history.lengths, WINDOW)[:, None] - 1 - np.arange(latest.shape[1])
        start = np.maximum(latest, 0)
        norm = np.sqrt(seen.sums(self.departures, start)) + 1e-9
        weights = np.where(age >= 0, DECAY ** np.maximum(age, 0), 0.0) / norm  # (requests, latest)
        pairs = start[:, :, None] * self.items + rows[:, None]  # (requests, latest, candidates)
        found = seen.sums(self.transitions, pairs) * weights[:, :, None]
        return [np.log1p(found.sum(1)), np.log1p((found * (age == 0)[:, :, None]).sum(1))]

    def transitions_to(self, history: Ragged, candidates: np.ndarray) -> np.ndarray:
        """Sum of all transitions from the latest items of each history to each candidate, float32 ``(requests, candidates)``.

        Args:
            history: item rows, oldest first, ``requests`` rows.
            candidates: item rows, -1 for an unknown one, ``(requests, candidates)``.
        """
        latest = history.tail(WINDOW).padded(-1)
        known = (latest[:, :, None] >= 0) & (candidates[:, None] >= 0)
        return self.transitions.before(np.where(known, latest[:, :, None] * self.items + candidates[:, None], -1)).sum(1)


class Seen(NamedTuple):
    """The events that requests may see; see `TimedCounts.before`. Both are ``(requests, 1)`` or None."""

    times: np.ndarray | None
    users: np.ndarray | None

    @classmethod
    def of(cls, times: np.ndarray | None, users: np.ndarray | None) -> Seen:
        """Make columns of ``(requests,)`` times and users."""
        return cls(*(None if part is None else part[:, None] for part in (times, users)))

    def sums(self, counts: TimedCounts, keys: np.ndarray) -> np.ndarray:
        """Sums of the events that may be seen, float32; `keys` is ``(requests, ...)``, of any shape where all events may be."""
        times, users = (None if part is None else part.reshape(-1, *[1] * (keys.ndim - 1)) for part in self)
        return counts.before(keys, times, users)


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
    """Key, row of the session and weight of each event, each ``(events,)``; without weights each event counts as 1."""

    keys: np.ndarray
    sessions: np.ndarray
    weights: np.ndarray | None = None


def _query_of_sessions(logs: UserLogs, queries: Mapping[str, int]) -> np.ndarray:
    """Number of each session's query, -1 for a blank one, ``(sessions,)``."""
    number_of = np.array([queries[query_key(text)] for text in logs.queries], dtype=np.int64)
    return np.where(logs.blank[logs.query_rows], -1, number_of[logs.query_rows])


def _under_query(events: _Events, query: np.ndarray, items: int) -> _Weighted:
    """The events of sessions with a query by query and item; `query` is ``(sessions,)``."""
    sessions, rows = events
    searched = query[sessions] >= 0
    return _Weighted((query[sessions] * items + rows)[searched], sessions[searched])


def _answers(events: Mapping[str, _Events], query: np.ndarray, leaf: np.ndarray) -> _Weighted:
    """Purchases, and clicks at `CLICK_SHARE`, under a query by leaf category; key: query × leaves + leaf."""
    clicked, purchased = events["clicked"], events["purchased"]
    sessions, rows = (np.concatenate(pair) for pair in zip(clicked, purchased))
    weights = np.repeat([CLICK_SHARE, 1.0], [len(clicked.rows), len(purchased.rows)])
    known = (query[sessions] >= 0) & (leaf[rows] >= 0)
    sessions, rows = sessions[known], rows[known]
    leaves = int(leaf.max(initial=-1)) + 1
    return _Weighted(query[sessions] * leaves + leaf[rows], sessions, weights[known])


def _transitions(logs: UserLogs, items: int) -> _Weighted:
    """Pairs of items close to each other in a history, in the session of the later one; key: from × items + to."""
    sessions, rows = logs.own("clicked", "purchased")
    log = logs.touched
    keys, owners, weights = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for gap in range(1, WINDOW + 1):
        place = log.end[sessions] - gap
        there = place >= log.begin[sessions]
        before, after = log.values[place[there]].astype(np.int64), rows[there]
        other = before != after
        before, after, owner = before[other], after[other], sessions[there][other]
        keys += [before * items + after, after * items + before]
        owners += [owner, owner]
        weights += [np.full(2 * len(before), DECAY ** (gap - 1))]
    return _Weighted(np.concatenate(keys), np.concatenate(owners), np.concatenate(weights))


__all__ = ["MEMORY_FEATURES", "BehaviourMemory"]
