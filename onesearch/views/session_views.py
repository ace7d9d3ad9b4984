"""The views of users that prompts hold, for whole columns of sessions at once. `Searcher` makes the same of single requests.

Everything is cut from `UserLogs`, so a session sees strictly earlier events only; default histories count as time goes on for the same
reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import SPLITS, split_sessions, user_profiles
from onesearch.data.session_pairs import category_ids
from onesearch.data.user_logs import EventLog, UserLogs
from onesearch.modeling_onesearch.index_onesearch import SidIndex
from onesearch.tokenization_sid.prompts import PromptFields, PromptLayout
from onesearch.tokenization_sid.ragged import Ragged, offsets_of, spans
from onesearch.tokenization_sid.user_ids import user_signatures

from .default_histories import ClickCounts, DefaultHistories


class SessionViews:
    """Prompt fields of a market's sessions.

    Args:
        market: its tables; index: codes of its items; layout: which views are wanted.
        queries, query_sids: distinct queries and their SIDs (queries, levels), -1 where one has none; None where the layout needs none.

    Raises:
        ValueError: the layout needs SIDs of queries, and none are given.
    """

    def __init__(
        self,
        market: Market,
        index: SidIndex,
        layout: PromptLayout,
        queries: Sequence[str] = (),
        query_sids: np.ndarray | None = None,
    ):
        if layout.needs_query_sids and query_sids is None:
            raise ValueError(
                "this prompt layout needs the SIDs of queries; pass query_sids, or set sid and default_history to false"
            )
        self.market, self.layout = market, layout
        self.logs = UserLogs(market)
        self.codebook_sizes = index.codebook_sizes
        self.item_sids = (
            index.codes_of(market.items.data.column("item_id").to_pylist()).astype(np.int64).reshape(len(market.items), -1)
        )
        self.query_sids = self._sids_of_queries(queries, query_sids)  # (queries of the logs, levels)

    def fields(self, sessions: np.ndarray) -> PromptFields:
        """Everything the layout asks for, of these rows of the sessions table."""
        layout, asked = self.layout, self.logs.query_rows[sessions]
        return PromptFields(
            texts=self.logs.queries[asked].tolist(),
            sids=self.query_sids[asked] if layout.sid else None,
            items=self._codes(self._history(sessions, layout.items)),
            users=self._users(sessions) if layout.user else None,
            queries=self._earlier_queries(sessions) if layout.queries else None,
            profiles=self._profiles(sessions) if layout.profile else None,
        )

    def long_spans(self, sessions: np.ndarray) -> np.ndarray:
        """(rows, sequences, 2) where each long sequence of each session begins and ends in `LongViewTable.values`."""
        starts = np.cumsum([0, *(len(log.values) for log in self.long_logs[:-1])])
        parts = [
            np.stack(log.last(sessions, self.layout.long_items), axis=1) + start for log, start in zip(self.long_logs, starts)
        ]
        return np.stack(parts, axis=1) if parts else np.zeros((len(sessions), 0, 2), dtype=np.int64)

    @cached_property
    def long_logs(self) -> list[EventLog]:
        """Logs of the sequences that the long view pools."""
        return [self.logs.of_kind(kind) for kind in self.layout.long_view_sequences] if self.layout.long_view_tokens else []

    @cached_property
    def defaults(self) -> Ragged:
        """Per session the rows of its default history, counted from strictly earlier sessions alone; empty unless its user is cold."""
        return self._counted[0]

    def frozen_defaults(self) -> DefaultHistories:
        """Default histories for serving: everything counted in the training split."""
        return DefaultHistories.of_counts(self._counted[1], self.logs.queries.tolist(), self.logs.item_ids.tolist())

    @cached_property
    def _cold(self) -> np.ndarray:
        return self.logs.touched.begin == self.logs.touched.end

    def _history(self, sessions: np.ndarray, most: int) -> Ragged:
        """Item rows of the `most` recent items, or of the default history of a user without any."""
        log = self.logs.touched
        begin, end = log.last(sessions, most)
        own = Ragged.of_spans(log.values, begin, end)
        if not self.layout.default_history or not self._cold[sessions].any():
            return own
        given = self.defaults.take(sessions).tail(most)  # empty where the user is warm
        starts = np.where(self._cold[sessions], len(own.values) + given.offsets[:-1], own.offsets[:-1])
        lengths = own.lengths + given.lengths
        return Ragged(np.concatenate([own.values, given.values])[spans(starts, lengths)], offsets_of(lengths))

    def _codes(self, items: Ragged) -> Ragged:
        return Ragged(self.item_sids[items.values], items.offsets)

    def _users(self, sessions: np.ndarray) -> np.ndarray:
        """(rows, 2, levels) signatures of the recent items and of the long sequence."""
        short, long = (
            self._codes(self._history(sessions, most)) for most in (max(self.layout.items, 1), self.layout.long_items)
        )
        return np.stack([user_signatures(short, self.codebook_sizes), user_signatures(long, self.codebook_sizes)], axis=1)

    def _earlier_queries(self, sessions: np.ndarray) -> list[list[str]]:
        begin, end = self.logs.asked.last(sessions, self.layout.queries)
        texts = self.logs.queries[self.logs.asked.values[spans(begin, end - begin)]].tolist()
        ends = np.cumsum(end - begin).tolist()
        return [texts[start:stop] for start, stop in zip([0, *ends[:-1]], ends)]

    def _profiles(self, sessions: np.ndarray) -> list[tuple[str, ...]]:
        return [
            self._profile_of.get(user, ()) for user in self.market.sessions.data.column("user_id").take(sessions).to_pylist()
        ]

    @cached_property
    def _profile_of(self) -> dict[str, tuple[str, ...]]:
        return user_profiles(self.market)

    def _sids_of_queries(self, queries: Sequence[str], sids: np.ndarray | None) -> np.ndarray:
        found = np.full((len(self.logs.queries), self.item_sids.shape[1]), -1, dtype=np.int64)
        if sids is not None:
            row_of = {query: row for row, query in enumerate(queries)}
            places = np.array([row_of.get(query, -1) for query in self.logs.queries], dtype=np.int64)
            found[places >= 0] = sids[places[places >= 0]]
        return found

    @cached_property
    def _counted(self) -> tuple[Ragged, ClickCounts]:
        """Default histories of the sessions of cold users, noted on a way through the training sessions in time order; and the counts at
        its end."""
        counts = ClickCounts(self.query_sids, category_ids(self.market.items.data.column("categories"))[0], self.item_sids)
        in_training = split_sessions(self.market) == SPLITS.index("train")
        asked = np.where(self.logs.blank[self.logs.query_rows], -1, self.logs.query_rows)
        lists = [_per_session(log, len(asked)) for log in (self.logs.own("clicked", "purchased"), self.logs.own("impressed"))]
        times = np.asarray(self.market.sessions.data.column("time"))
        noted: list[list[int]] = [[] for _ in asked]
        waiting: list[int] = []  # sessions at the same time do not see each other
        for session in np.flatnonzero(in_training | self._cold).tolist():
            if waiting and times[waiting[-1]] < times[session]:
                _add_all(counts, waiting, asked, lists)
                waiting = []
            if self._cold[session] and asked[session] >= 0:
                noted[session] = counts.history(int(asked[session]))
            if in_training[session]:
                waiting.append(session)
        _add_all(counts, waiting, asked, lists)
        return Ragged.of(noted), counts


class LongViewTable:
    """Long sequences as codes, for collators: called with examples, it looks up what their column `long_view` points to.

    Args:
        views: of the market; levels: the first so many codes of a SID.
    """

    def __init__(self, views: SessionViews, levels: int):
        self.values = np.concatenate([log.values for log in views.long_logs])
        self.codes = np.ascontiguousarray(views.item_sids[:, :levels])

    def __call__(self, examples: Sequence[dict]) -> np.ndarray:
        """(examples, sequences, longest, levels) int64, padded with -1; one entry at least, so that shapes never vanish."""
        ends = np.stack([np.asarray(example["long_view"], dtype=np.int64) for example in examples]).reshape(-1, 2)
        rows = Ragged.of_spans(self.values, ends[:, 0], ends[:, 1])
        padded = Ragged(self.codes[rows.values], rows.offsets).padded(-1)
        return padded.reshape(len(examples), -1, *padded.shape[1:])


def _per_session(pairs: tuple[np.ndarray, np.ndarray], sessions: int) -> Ragged:
    return Ragged(pairs[1], offsets_of(np.bincount(pairs[0], minlength=sessions)))


def _add_all(counts: ClickCounts, sessions: Sequence[int], asked: np.ndarray, lists: Sequence[Ragged]) -> None:
    for session in sessions:
        counts.add(int(asked[session]), *(of_session[session].tolist() for of_session in lists))


__all__ = ["LongViewTable", "SessionViews"]
