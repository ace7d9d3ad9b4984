"""Memory of behaviour: statistics of items, counts of items under a query, and transitions between items, each readable as of any time.

New sessions join it without any training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onesearch.data.columns import session_entries
from onesearch.data.market import Market
from onesearch.data.user_logs import UserLogs
from onesearch.tokenization_sid.ragged import Ragged

from .counts import TimedCounts

WINDOW, DECAY = 5, 0.8
"""Latest items from which transitions are counted, and how much less each earlier one counts (our choice, that of the cascade)."""

CLICK_SHARE = 0.3
"""A click counts as this share of a purchase in a query's categories; our choice."""

STATISTICS = ("impressed", "clicked", "purchased")
"""Session columns that are counted per item."""


def query_key(query: str) -> str:
    """Normalise a query for counting: lower case, single spaces."""
    return " ".join(query.lower().split())


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
    def of(cls, market: Market, logs: UserLogs, leaf: np.ndarray, until: int | None = None) -> BehaviourMemory:
        """Count the sessions of a market.

        Args:
            market: sessions and catalogue.
            logs: event logs of the same market.
            leaf: leaf category of each item, ``(items,)``.
            until: sessions at this time or later are left out; None counts all.
        """
        times = np.asarray(market.sessions.data.column("time"), dtype=np.int64)
        seen = np.ones(len(times), dtype=bool) if until is None else times < until
        count, leaves = len(market.items), int(leaf.max(initial=-1)) + 1
        names = {key: number for number, key in enumerate(dict.fromkeys(query_key(text) for text in logs.queries))}
        number_of = np.array([names[query_key(text)] for text in logs.queries], dtype=np.int64)
        query = np.where(logs.blank[logs.query_rows], -1, number_of[logs.query_rows])
        entries = {}
        for column in STATISTICS:
            sessions, rows = session_entries(market, column)
            kept = seen[sessions]
            entries[column] = sessions[kept], rows[kept]
        statistics = tuple(TimedCounts.of(rows, times[sessions]) for sessions, rows in entries.values())

        def under_query(column: str) -> TimedCounts:
            sessions, rows = entries[column]
            searched = query[sessions] >= 0
            return TimedCounts.of((query[sessions] * count + rows)[searched], times[sessions][searched])

        sessions = np.concatenate([entries["clicked"][0], entries["purchased"][0]])
        rows = np.concatenate([entries["clicked"][1], entries["purchased"][1]])
        worth = np.repeat([CLICK_SHARE, 1.0], [len(entries["clicked"][0]), len(entries["purchased"][0])])
        known = (query[sessions] >= 0) & (leaf[rows] >= 0)
        sessions, rows, worth = sessions[known], rows[known], worth[known]
        pairs, moments, weights = _transitions(logs, times, seen, count)
        return cls(
            items=count,
            leaves=leaves,
            leaf=leaf,
            queries=names,
            statistics=statistics,
            query_clicked=under_query("clicked"),
            query_purchased=under_query("purchased"),
            query_leaves=TimedCounts.of(query[sessions] * leaves + leaf[rows], times[sessions], worth),
            query_events=TimedCounts.of(query[sessions], times[sessions], worth),
            transitions=TimedCounts.of(pairs, moments, weights),
            departures=TimedCounts.of(pairs // count, moments, weights),
        )

    def query_numbers(self, queries: Sequence[str]) -> np.ndarray:
        """Number of each query, -1 for one that was never asked, ``(queries,)``."""
        return np.array([self.queries.get(query_key(query), -1) for query in queries], dtype=np.int64)

    def features(self, queries: np.ndarray, history: Ragged, candidates: np.ndarray, times: np.ndarray) -> np.ndarray:
        """What was counted about each candidate before a time.

        Args:
            queries: number of each request's query, -1 if unknown, ``(requests,)``.
            history: item rows of each history, oldest first, ``requests`` rows.
            candidates: item rows, -1 for padding, ``(requests, candidates)``.
            times: only events strictly before these are counted, ``(requests,)``.

        Returns:
            float32 ``(requests, candidates, len(MEMORY_FEATURES))``.
        """
        rows, moment = np.maximum(candidates, 0), times[:, None]
        shown, clicked, purchased = (counts.before(rows, moment) for counts in self.statistics)
        pair = np.where(queries[:, None] < 0, -1, queries[:, None] * self.items + rows)
        under_clicked, under_purchased = self.query_clicked.before(pair, moment), self.query_purchased.before(pair, moment)
        leaf = np.where((queries[:, None] < 0) | (self.leaf[rows] < 0), -1, queries[:, None] * self.leaves + self.leaf[rows])
        events = self.query_events.before(queries, times)[:, None]
        columns = [
            np.log1p(shown),
            np.log1p(clicked),
            np.log1p(purchased),
            (clicked + 1) / (shown + 10),
            (purchased + 1) / (clicked + 10),
            np.log1p(under_clicked),
            np.log1p(under_purchased),
            (under_clicked + under_purchased) / np.sqrt(events + 1),
            self.query_leaves.before(leaf, moment) / np.maximum(events, 1e-9),
            np.broadcast_to(np.log1p(events), rows.shape),
            *self._votes(history, rows, times),
        ]
        return np.stack(columns, axis=2).astype(np.float32)

    def _votes(self, history: Ragged, rows: np.ndarray, times: np.ndarray) -> list[np.ndarray]:
        """Transitions from the latest items to each candidate: their decayed sum, and those from the very last item."""
        latest = history.tail(WINDOW).padded(-1)  # (requests, latest), aligned to the left
        lengths = np.minimum(history.lengths, WINDOW)
        age = lengths[:, None] - 1 - np.arange(latest.shape[1])
        weights = np.where(age >= 0, DECAY ** np.maximum(age, 0), 0.0)
        start = np.maximum(latest, 0)
        norm = np.sqrt(self.departures.before(start, times[:, None])) + 1e-9
        total, last = np.zeros(rows.shape), np.zeros(rows.shape)
        for place in range(latest.shape[1]):
            found = self.transitions.before(start[:, place, None] * self.items + rows, times[:, None])
            found = found / norm[:, place, None] * weights[:, place, None]
            total += found
            last = np.where(age[:, place, None] == 0, found, last)
        return [np.log1p(total), np.log1p(last)]


MEMORY_FEATURES = (
    "shown", "clicked", "purchased", "ctr", "cvr", "query_clicked", "query_purchased", "query_share", "query_leaf", "query_events",
    "transitions", "last_transition",
)  # fmt: skip
"""Names of the columns of `BehaviourMemory.features`."""


def _transitions(logs: UserLogs, times: np.ndarray, seen: np.ndarray, items: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of items close to each other in a history, the time of the later one, and the weight, each ``(pairs,)``."""
    sessions, rows = logs.own("clicked", "purchased")
    kept = seen[sessions]
    sessions, rows = sessions[kept], rows[kept]
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
    return np.concatenate(keys), np.concatenate(moments), np.concatenate(weights)


__all__ = ["MEMORY_FEATURES", "BehaviourMemory", "query_key"]
