"""Prompt fields of a market's sessions, whole columns at once, for training. `request_views.py` makes the same fields of single requests.

Everything is cut from `UserLogs`, so a session sees strictly earlier events only. Default histories are counted in the order of time for
the same reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onesearch.data.columns import session_entries
from onesearch.data.market import Market
from onesearch.data.requests import MAX_EVENTS, SPLITS, split_sessions, user_profiles
from onesearch.data.session_pairs import category_ids
from onesearch.data.user_logs import EventLog, UserLogs
from onesearch.modeling_onesearch.history_fields_onesearch import GAP_BUCKETS
from onesearch.tokenization_sid.prompts import PromptFields
from onesearch.tokenization_sid.ragged import Ragged, offsets_of
from onesearch.tokenization_sid.templates import PromptLayout

from .default_histories import ClickCounts, DefaultHistories
from .history_table import HistoryEvents, HistoryTable
from .prompt_fields import RequestColumns, filled, history_length, long_view_codes, prompt_fields
from .reward.inputs import UNKNOWN_GAP, event_kinds, gap_buckets
from .reward.session_columns import event_times

if TYPE_CHECKING:
    from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex

HIDDEN_AGES, HIDDEN_AGES_SEED = 0.5, 17
"""Share of the sessions whose events have unknown ages in training, and what seeds their choice; our choice."""


class SessionViews:
    """Prompt fields of a market's sessions.

    Args:
        market: its sessions must be sorted by time.
        index: codes of its items.
        layout: which views the prompts hold.
        queries: distinct queries.
        query_sids: (queries, levels) their SIDs, -1 at all levels where one is unknown; None where the layout needs none.

    Raises:
        ValueError: the layout needs the SIDs of queries, and none are given.
    """

    def __init__(
        self,
        market: Market,
        index: SidIndex,
        layout: PromptLayout,
        queries: Sequence[str] = (),
        query_sids: np.ndarray | None = None,
    ) -> None:
        if layout.needs_query_sids and query_sids is None:
            raise ValueError(
                "this prompt layout needs the SIDs of queries; pass query_sids, or set sid and default_history to false"
            )
        self.market, self.layout = market, layout
        self.logs = UserLogs(market)
        self.codebook_sizes = index.codebook_sizes
        codes = index.codes_of(market.items.data.column("item_id").to_pylist())
        self.item_sids = codes.astype(np.int64).reshape(len(market.items), -1)
        self.query_sids = self._sids_of_queries(queries, query_sids)  # (queries of the logs, levels)
        self.history_table: HistoryTable | None = None  # set where the layout shows items as vectors
        self.query_vectors: np.ndarray | None = (
            None  # (queries of the logs, size) float16, set where the layout shows the query's vector
        )

    def fields(self, sessions: np.ndarray) -> PromptFields:
        """Fields of the prompts of sessions.

        Args:
            sessions: (n,) rows of the sessions table.
        """
        layout, queries = self.layout, self.logs.query_rows[sessions]
        is_cold = layout.default_history and self._cold[sessions].any()
        columns = RequestColumns(
            queries=self.logs.queries[queries].tolist(),
            query_sids=self.query_sids[queries] if layout.sid else None,
            histories=self._codes(_recent(self.history_log, sessions, history_length(layout))),
            default_histories=self._codes(self.defaults.take(sessions)) if is_cold else None,
            earlier_queries=self._earlier_queries(sessions) if layout.queries else (),
            profiles=self._profiles(sessions) if layout.profile else (),
            query_vectors=self.vectors_of(sessions),
        )
        return prompt_fields(columns, layout, self.codebook_sizes)

    def long_spans(self, sessions: np.ndarray) -> np.ndarray:
        """(n, sequences, 2) places in `LongViewTable.values` where each long sequence of each session begins and ends."""
        starts = np.cumsum([0, *(len(log.values) for log in self.long_logs[:-1])])
        parts = [
            np.stack(log.last(sessions, self.layout.long_items), axis=1) + start for log, start in zip(self.long_logs, starts)
        ]
        return np.stack(parts, axis=1) if parts else np.zeros((len(sessions), 0, 2), dtype=np.int64)

    def vectors_of(self, sessions: np.ndarray) -> np.ndarray | None:
        """(n, size) text vectors of the sessions' queries; None where the layout shows none."""
        if not self.layout.query_vector:
            return None
        if self.query_vectors is None:
            raise ValueError("the views have no query_vectors; set them, as `onesearch.trainers.run_inputs` does")
        vectors: np.ndarray = self.query_vectors[self.logs.query_rows[sessions]]
        return vectors

    def columns(self, sessions: np.ndarray, asked: np.ndarray | None = None) -> list[dict[str, list[Any]]]:
        """Columns of examples that collators look up in `LongViewTable` and `ViewTensors`, for each session; empty where the layout has
        neither long view nor vectors.

        Args:
            sessions: (n,) rows of the sessions table.
            asked: (n,) rows of the sessions whose queries are asked; None for their own.
        """
        columns: list[dict[str, list[Any]]] = [{} for _ in sessions]
        vectors = self.vectors_of(sessions if asked is None else asked)
        if vectors is not None:
            for column, vector in zip(columns, vectors):
                column["query_vector"] = vector.tolist()
        if self.long_logs:
            for column, spans in zip(columns, self.long_spans(sessions)):
                column["long_view"] = spans.ravel().tolist()
        if self.layout.has_vectors:
            events = self.history_events(sessions)
            for row, column in enumerate(columns):
                column["history"] = events[row].ravel().tolist()
        return columns

    @cached_property
    def history_log(self) -> EventLog:
        """Log of the events whose items the history holds."""
        events = set(self.layout.item_events)
        return self.logs.touched if len(events) > 1 else self.logs.of_kind(*events)

    def history_events(self, sessions: np.ndarray) -> Ragged:
        """Item row, number of the kind and bucket of the gap of each event that the prompts of sessions have a place for, oldest first.

        The age of an event is known in training and in live requests, but not in a request that is built of a market's tables. The ages of
        a random half of the sessions are therefore hidden, so that a model learns to do without them.

        Args:
            sessions: (n,) rows of the sessions table.

        Returns:
            n rows of (events, 3) int64. The default history of a user without one counts as clicks of unknown age.
        """
        log = self.history_log
        places = Ragged.of_spans(np.arange(len(log.values)), *log.last(sessions, self.layout.items))
        owner = np.repeat(sessions, places.lengths)
        rows = Ragged(log.values[places.values].astype(np.int64), places.offsets)
        gaps = gap_buckets(self._times[owner] - self._event_times[places.values], GAP_BUCKETS)
        gaps = np.where(self._hides_ages[owner], UNKNOWN_GAP, gaps)
        kinds = event_kinds(rows, _recent(self.logs.purchased, sessions, MAX_EVENTS), len(self.market.items))
        events = Ragged(np.stack([rows.values, kinds, gaps], axis=1), rows.offsets)
        if not self.layout.default_history or not self._cold[sessions].any():
            return events
        defaults = self.defaults.take(sessions).tail(self.layout.items)
        values = np.stack([defaults.values, *(np.full(len(defaults.values), other) for other in (0, UNKNOWN_GAP))], axis=1)
        return filled(events, Ragged(values.astype(np.int64), defaults.offsets))

    @cached_property
    def _times(self) -> np.ndarray:
        return np.asarray(self.market.sessions.data.column("time"), dtype=np.int64)

    @cached_property
    def _event_times(self) -> np.ndarray:
        """Time of each event of `history_log`, (events,)."""
        events = self.layout.item_events
        own = self.logs.own(*events) if len(set(events)) > 1 else session_entries(self.market, events[0])
        return event_times(self.market, own[0])

    @cached_property
    def _hides_ages(self) -> np.ndarray:
        return np.random.default_rng(HIDDEN_AGES_SEED).random(len(self.market.sessions)) < HIDDEN_AGES

    @cached_property
    def long_logs(self) -> list[EventLog]:
        """Logs of the sequences that the long view pools."""
        return [self.logs.of_kind(kind) for kind in self.layout.long_view_sequences] if self.layout.long_view_tokens else []

    @cached_property
    def defaults(self) -> Ragged:
        """Item rows of the default history of each session, counted in strictly earlier sessions; empty where the user has a history."""
        return self._counted.histories

    def frozen_defaults(self) -> DefaultHistories:
        """Default histories for serving: everything that was counted in the training split."""
        return DefaultHistories.of_counts(self._counted.counts, self.logs.queries.tolist(), self.logs.item_ids.tolist())

    @cached_property
    def _cold(self) -> np.ndarray:
        """(sessions,) whether the user has no history yet."""
        return self.history_log.begin == self.history_log.end

    def _codes(self, items: Ragged) -> Ragged:
        return Ragged(self.item_sids[items.values], items.offsets)

    def _earlier_queries(self, sessions: np.ndarray) -> list[list[str]]:
        rows = _recent(self.logs.asked, sessions, self.layout.queries)
        return Ragged(self.logs.queries[rows.values], rows.offsets).tolist()

    def _profiles(self, sessions: np.ndarray) -> list[tuple[str, ...]]:
        users = self.market.sessions.data.column("user_id").take(sessions).to_pylist()
        return [self._profile_of.get(user, ()) for user in users]

    @cached_property
    def _profile_of(self) -> dict[str, tuple[str, ...]]:
        return user_profiles(self.market)

    def _sids_of_queries(self, queries: Sequence[str], sids: np.ndarray | None) -> np.ndarray:
        """(queries of the logs, levels) SIDs given for other rows of queries."""
        found = np.full((len(self.logs.queries), self.item_sids.shape[1]), -1, dtype=np.int64)
        if sids is not None:
            row_of = {query: row for row, query in enumerate(queries)}
            places = np.array([row_of.get(query, -1) for query in self.logs.queries], dtype=np.int64)
            found[places >= 0] = sids[places[places >= 0]]
        return found

    @cached_property
    def _counted(self) -> _Counted:
        """Default histories of the sessions of users without history, read off the counts while the training sessions are counted in the
        order of time. Sessions at the same time do not see each other."""
        counts = ClickCounts(self.query_sids, category_ids(self.market.items.data.column("categories"))[0], self.item_sids)
        in_training = split_sessions(self.market) == SPLITS.index("train")
        asked = np.where(self.logs.blank[self.logs.query_rows], -1, self.logs.query_rows)
        lists = [per_session(log, len(asked)) for log in (self.logs.own("clicked", "purchased"), self.logs.own("impressed"))]
        times = np.asarray(self.market.sessions.data.column("time"))
        histories: list[list[int]] = [[] for _ in asked]
        waiting: list[int] = []  # sessions of the current time, not counted yet
        for session in np.flatnonzero(in_training | self._cold).tolist():
            if waiting and times[waiting[-1]] < times[session]:
                _add_all(counts, waiting, asked, lists)
                waiting = []
            if self._cold[session] and asked[session] >= 0:
                histories[session] = counts.history(int(asked[session]))
            if in_training[session]:
                waiting.append(session)
        _add_all(counts, waiting, asked, lists)
        return _Counted(Ragged.of(histories), counts)


class LongViewTable:
    """Long sequences as codes, for collators: it looks up the codes that the column `long_view` of examples points to.

    Args:
        views: views of the market's sessions.
        levels: number of levels that the model's long view reads.
    """

    def __init__(self, views: SessionViews, levels: int) -> None:
        self.values = np.concatenate([log.values for log in views.long_logs])
        self.codes = np.ascontiguousarray(views.item_sids[:, :levels])

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """(examples, sequences, longest, levels) int64 codes, padded with -1; `longest` is at least 1."""
        ends = np.stack([np.asarray(example["long_view"], dtype=np.int64) for example in examples]).reshape(-1, 2)
        rows = Ragged.of_spans(self.values, ends[:, 0], ends[:, 1])
        return long_view_codes(Ragged(self.codes[rows.values], rows.offsets), len(examples))


class ViewTensors:
    """Histories and query vectors as the model takes them, for collators: the items that the column `history` of examples names, and the
    column `query_vector`.

    Args:
        views: views of the market's sessions, with what is known of its items, by row of the items table.

    Raises:
        ValueError: the views have no table of items although their layout shows items as vectors.
    """

    def __init__(self, views: SessionViews) -> None:
        if views.layout.has_vectors and views.history_table is None:
            raise ValueError("the views have no history_table; set it, as `onesearch.trainers.run_inputs` does")
        self.item_sids, self.table = views.item_sids, views.history_table
        self.size = views.query_vectors.shape[1] if views.layout.query_vector and views.query_vectors is not None else 0

    @classmethod
    def of(cls, views: SessionViews) -> ViewTensors | None:
        """The lookup of a market's views; None where their layout shows no vectors."""
        return cls(views) if views.layout.has_vectors or views.layout.query_vector else None

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        """Arguments `history_items`, `history_vectors` and `query_vectors` of the model, one row per example; see `HistoryTable.arrays`."""
        arrays = {} if self.table is None else self._history(examples, self.table)
        if self.size:
            arrays["query_vectors"] = np.zeros((len(examples), self.size), dtype=np.float32)
            for row, example in enumerate(examples):
                vector = example["query_vector"]
                if len(vector):  # empty where the prompt shows no query's vector
                    arrays["query_vectors"][row] = vector
        return arrays

    def _history(self, examples: Sequence[Mapping[str, Any]], table: HistoryTable) -> dict[str, np.ndarray]:
        """The items of the examples' histories."""
        events = Ragged.of([np.asarray(example["history"]) for example in examples], (3,))
        rows, kinds, gaps = events.values.T
        return table.arrays(HistoryEvents(Ragged(rows, events.offsets), self.item_sids[rows], kinds, gaps))


class _Counted(NamedTuple):
    """Item rows of each session's default history, and the counts at the end of the training split."""

    histories: Ragged
    counts: ClickCounts


def _recent(log: EventLog, sessions: np.ndarray, most: int) -> Ragged:
    """Values of the `most` latest events before each session."""
    return Ragged.of_spans(log.values, *log.last(sessions, most))


def per_session(pairs: tuple[np.ndarray, np.ndarray], sessions: int) -> Ragged:
    """Rows of the items of each session, of pairs of a session and an item that are sorted by session (`UserLogs.own`)."""
    return Ragged(pairs[1], offsets_of(np.bincount(pairs[0], minlength=sessions)))


def _add_all(counts: ClickCounts, sessions: Sequence[int], asked: np.ndarray, lists: Sequence[Ragged]) -> None:
    for session in sessions:
        counts.add(int(asked[session]), *(of_session[session].tolist() for of_session in lists))


__all__ = ["LongViewTable", "SessionViews", "ViewTensors", "per_session"]
