"""What each user did before each session, for all sessions at once: one array of events per user, and where in it a session stands.

Nothing is copied per session: a history of a thousand items is two numbers. A session sees only what its user did at strictly earlier
times; of sessions at the same time it is not known which came first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
import pyarrow as pa

from .columns import session_entries
from .market import Market

SEQUENCES = ("clicked", "purchased", "shown")
"""Kinds of long behaviour sequences. OneSearch has click, order and RSU (its expansion is not published); `shown`, what was listed in
earlier sessions, is our third."""


@dataclass(frozen=True, eq=False)
class EventLog:
    """Events of one kind, those of a user in a row and oldest first.

    Args:
        values: (events,) row numbers: of the items table, or of `UserLogs.queries`.
        begin, end: (sessions,) a session's user did `values[begin:end]` before it.
    """

    values: np.ndarray
    begin: np.ndarray
    end: np.ndarray

    def last(self, sessions: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Range of the `most` latest events before each of `sessions`: begin and end, (rows,) each."""
        end = self.end[sessions]
        return np.maximum(self.begin[sessions], end - most), end


@dataclass(frozen=True, eq=False)
class Past(Sequence[str]):
    """What one user did before one session, as ids or texts: a view of an `EventLog`, nothing is copied.

    Args:
        log: the events; names: id or text of each value; begin, end: range of events.
    """

    log: EventLog
    names: np.ndarray
    begin: int
    end: int

    @property
    def rows(self) -> np.ndarray:
        """Row number of each event."""
        return self.log.values[self.begin : self.end]

    def __len__(self) -> int:
        return self.end - self.begin

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place):
        found = self.names[self.rows[place]]
        return found.tolist() if isinstance(place, slice) else found

    def __iter__(self) -> Iterator[str]:
        return iter(self.names[self.rows].tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(list(self))


class UserLogs:
    """All behaviour of a market's users.

    Args:
        market: sessions sorted by time.
    """

    def __init__(self, market: Market):
        column = market.sessions.data.column
        self.item_ids = np.array(market.items.data.column("item_id").to_pylist() or [""], dtype=object)
        users = column("user_id").combine_chunks().dictionary_encode().indices
        users, times = np.asarray(users, dtype=np.int64), np.asarray(column("time"), dtype=np.int64)
        self._order = np.argsort(users, kind="stable")  # sessions, those of a user together and in time order
        users, times = users[self._order], times[self._order]
        first = np.ones(len(users), dtype=bool)  # sessions that start another user, then those that start another time
        first[1:] = users[1:] != users[:-1]
        self._user_start = _last_true(first)
        first[1:] |= times[1:] != times[:-1]
        self._time_start = _last_true(first)
        self._market = market

    @cached_property
    def touched(self) -> EventLog:
        """Items clicked or purchased; of a session first those that were clicked alone, then the purchases."""
        return self._log(*self.own("clicked", "purchased"))

    @cached_property
    def clicked(self) -> EventLog:
        """Items clicked."""
        return self._log(*session_entries(self._market, "clicked"))

    @cached_property
    def purchased(self) -> EventLog:
        """Items purchased."""
        return self._log(*session_entries(self._market, "purchased"))

    @cached_property
    def shown(self) -> EventLog:
        """Items listed to the user."""
        return self._log(*session_entries(self._market, "impressed"))

    @cached_property
    def queries(self) -> np.ndarray:
        """(distinct,) texts that `asked` numbers; blank ones included."""
        return np.array(self._asked.dictionary.to_pylist() or [""], dtype=object)

    @cached_property
    def query_rows(self) -> np.ndarray:
        """(sessions,) row of each session's query in `queries`."""
        return np.asarray(self._asked.indices, dtype=np.int64)

    @cached_property
    def blank(self) -> np.ndarray:
        """(distinct,) which of `queries` are blank: behaviour without a search."""
        return np.array([not query.strip() for query in self.queries], dtype=bool)

    @cached_property
    def asked(self) -> EventLog:
        """Queries, as rows of `queries`; behaviour without a query is left out."""
        sessions = np.flatnonzero(~self.blank[self.query_rows])
        return self._log(sessions, self.query_rows[sessions])

    def of_kind(self, kind: str) -> EventLog:
        """The log of one of `SEQUENCES`; ValueError lists them."""
        if kind not in SEQUENCES:
            raise ValueError(f"behaviour sequence {kind!r} is unknown; allowed are {', '.join(SEQUENCES)}")
        return getattr(self, kind)

    def own(self, *columns: str) -> tuple[np.ndarray, np.ndarray]:
        """What happened in each session itself: session and item row of every entry of the list columns, sorted by session.

        Where there are several columns, an item stands with the last of them that names it: clicked and bought counts as bought.
        """
        parts = [session_entries(self._market, column) for column in columns]
        count = max(len(self.item_ids), 1)
        for place, (sessions, items) in enumerate(parts[:-1]):
            later = np.concatenate([other[0] * count + other[1] for other in parts[place + 1 :]])
            alone = ~np.isin(sessions * count + items, later)
            parts[place] = sessions[alone], items[alone]
        sessions, items = (np.concatenate(arrays) for arrays in zip(*parts))
        order = np.argsort(sessions, kind="stable")
        return sessions[order], items[order]

    @cached_property
    def _asked(self) -> pa.DictionaryArray:
        return self._market.sessions.data.column("query").combine_chunks().dictionary_encode()

    def _log(self, sessions: np.ndarray, values: np.ndarray) -> EventLog:
        """Log of events given with their session, in the order of the sessions."""
        place = np.empty(len(self._order), dtype=np.int64)
        place[self._order] = np.arange(len(self._order))
        order = np.argsort(place[sessions], kind="stable")
        counts = np.bincount(place[sessions], minlength=len(place))
        starts = np.cumsum(counts) - counts  # (sessions in user order,) first event of each
        begin, end = np.empty_like(place), np.empty_like(place)
        begin[self._order], end[self._order] = starts[self._user_start], starts[self._time_start]
        return EventLog(values[order].astype(np.int32), begin, end)


def _last_true(flags: np.ndarray) -> np.ndarray:
    """(n,) place of the last true value up to each place; the first is true."""
    return np.maximum.accumulate(np.where(flags, np.arange(len(flags)), 0))


__all__ = ["SEQUENCES", "EventLog", "Past", "UserLogs"]
