"""Columns of the reward model for sessions of a market, whole columns at once, for training and for measuring on a market."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onesearch.data.market import Market
from onesearch.data.user_logs import EventLog, UserLogs
from onesearch.modeling_onesearch.configuration_reward_onesearch import GAP_BUCKETS
from onesearch.tokenization_sid.ragged import Ragged

from .inputs import RewardColumns, event_kinds, gap_buckets
from .memory import BehaviourMemory


class SessionColumns:
    """What was known before each session of a market.

    Args:
        market: its sessions must be sorted by time.
        logs: event logs of the same market.
        memory: numbers of its queries.
        queries: distinct queries, ``(queries,)``.
        query_vectors: their unit text vectors, float32 ``(queries, size)``.
        max_history: number of latest events that are read.
        users: number of each session's user in the memory, ``(sessions,)``: a session then sees its user's own behaviour as of its time and
            all that of others, as a session that is measured does where times of users cannot be compared. None bounds all behaviour by
            the session's time.
    """

    def __init__(
        self,
        market: Market,
        logs: UserLogs,
        memory: BehaviourMemory,
        queries: Sequence[str],
        query_vectors: np.ndarray,
        max_history: int = 1000,
        users: np.ndarray | None = None,
    ) -> None:
        self.logs, self.max_history, self.users = logs, max_history, users
        self.times = np.asarray(market.sessions.data.column("time"), dtype=np.int64)
        row_of = {query: row for row, query in enumerate(queries)}
        places = np.array([row_of.get(query, len(queries)) for query in logs.queries], dtype=np.int64)
        vectors = np.concatenate([query_vectors, np.zeros((1, query_vectors.shape[1]), query_vectors.dtype)])
        self.vectors, self.place = vectors.astype(np.float32), places[logs.query_rows]
        self.number = memory.query_numbers(logs.queries.tolist())[logs.query_rows]
        self._items, self._moments = len(market.items), event_times(market, logs.own("clicked", "purchased")[0])

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
        history = Ragged(touched.values[places.values].astype(np.int64), places.offsets)
        purchased = self._past(self.logs.purchased, sessions)
        return RewardColumns(
            candidates=candidates,
            queries=self.number[sessions],
            query_vectors=self.vectors[self.place[sessions]],
            history=history,
            kinds=event_kinds(history, purchased, self._items),
            gaps=gap_buckets(gaps, GAP_BUCKETS),
            purchased=purchased,
            shown=self._past(self.logs.shown, sessions),
            times=self.times[sessions],
            users=None if self.users is None else self.users[sessions],
        )

    def _past(self, log: EventLog, sessions: np.ndarray) -> Ragged:
        return Ragged.of_spans(log.values.astype(np.int64), *log.last(sessions, self.max_history))


def event_times(market: Market, sessions: np.ndarray) -> np.ndarray:
    """Time of every event of a log, ``(events,)``: a log runs by user, then by session.

    Args:
        market: its sessions.
        sessions: session of each event, ascending, ``(events,)``.
    """
    users = user_numbers(market)
    times = np.asarray(market.sessions.data.column("time"), dtype=np.int64)
    return times[sessions[np.lexsort((sessions, users[sessions]))]]


def user_numbers(market: Market) -> np.ndarray:
    """Number of each session's user, int64 ``(sessions,)``."""
    users = market.sessions.data.column("user_id").combine_chunks().dictionary_encode()
    return np.asarray(users.indices, dtype=np.int64)


__all__ = ["SessionColumns", "event_times", "user_numbers"]
