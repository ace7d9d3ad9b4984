"""Columns of the reward model for sessions of a market, whole columns at once, for training and for measuring on a market."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onesearch.data.market import Market
from onesearch.data.user_logs import EventLog, UserLogs
from onesearch.modeling_onesearch.configuration_reward_onesearch import EVENT_KINDS, GAP_BUCKETS
from onesearch.tokenization_sid.ragged import Ragged

from .inputs import RewardColumns, gap_buckets
from .memory import BehaviourMemory


class SessionColumns:
    """What was known before each session of a market.

    Args:
        market: its sessions must be sorted by time.
        logs: event logs of the same market.
        memory: numbers of its queries.
        queries: distinct queries, ``(queries,)``.
        query_vectors: their unit text vectors, float32 ``(queries, size)``.
        frozen: from this time on nothing more is counted in the memory, as for a checkpoint that was finished then.
        max_history: number of latest events that are read.
    """

    def __init__(
        self,
        market: Market,
        logs: UserLogs,
        memory: BehaviourMemory,
        queries: Sequence[str],
        query_vectors: np.ndarray,
        frozen: int,
        max_history: int = 1000,
    ) -> None:
        self.logs, self.frozen, self.max_history = logs, frozen, max_history
        self.times = np.asarray(market.sessions.data.column("time"), dtype=np.int64)
        row_of = {query: row for row, query in enumerate(queries)}
        places = np.array([row_of.get(query, len(queries)) for query in logs.queries], dtype=np.int64)
        vectors = np.concatenate([query_vectors, np.zeros((1, query_vectors.shape[1]), query_vectors.dtype)])
        self.vectors, self.place = vectors.astype(np.float32), places[logs.query_rows]
        self.number = memory.query_numbers(logs.queries.tolist())[logs.query_rows]
        self._kinds, self._moments = _events(market, logs)

    def of(self, sessions: np.ndarray, candidates: np.ndarray) -> RewardColumns:
        """The columns of some sessions.

        Args:
            sessions: rows of the sessions table, ``(n,)``.
            candidates: item rows, -1 for padding, ``(n, candidates)``.
        """
        touched = self.logs.touched
        begin, end = touched.last(sessions, self.max_history)
        places = Ragged.of_spans(np.arange(len(touched.values)), begin, end)
        owner = np.repeat(np.arange(len(sessions)), places.lengths)
        gaps = self.times[sessions][owner] - self._moments[places.values]
        return RewardColumns(
            candidates=candidates,
            queries=self.number[sessions],
            query_vectors=self.vectors[self.place[sessions]],
            history=Ragged(touched.values[places.values].astype(np.int64), places.offsets),
            kinds=self._kinds[places.values],
            gaps=gap_buckets(gaps, GAP_BUCKETS),
            purchased=self._past(self.logs.purchased, sessions),
            shown=self._past(self.logs.shown, sessions),
            times=np.minimum(self.times[sessions], self.frozen),
        )

    def _past(self, log: EventLog, sessions: np.ndarray) -> Ragged:
        return Ragged.of_spans(log.values.astype(np.int64), *log.last(sessions, self.max_history))


def _events(market: Market, logs: UserLogs) -> tuple[np.ndarray, np.ndarray]:
    """Kind and time of every event of ``logs.touched``, both ``(events,)``.

    Steps:
        1. List the pairs of session and item that the log was built from, with the number of their kind.
        2. Bring them into the order of the log: by user, then by session.
    """
    count = len(logs.item_ids)
    sessions, items = logs.own("clicked", "purchased")
    keys = sessions * count + items
    kinds = np.zeros(len(keys), dtype=np.int64)
    for column in ("carted", "purchased"):
        own = logs.own(column)
        kinds[np.isin(keys, own[0] * count + own[1])] = EVENT_KINDS.index(column)
    users = np.asarray(market.sessions.data.column("user_id").combine_chunks().dictionary_encode().indices, dtype=np.int64)
    times = np.asarray(market.sessions.data.column("time"), dtype=np.int64)
    order = np.lexsort((np.arange(len(keys)), sessions, users[sessions]))
    return kinds[order], times[sessions[order]]


__all__ = ["SessionColumns"]
