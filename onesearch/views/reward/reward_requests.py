"""Columns of the reward model for requests, for serving. `session_columns.py` makes the same columns of a market's sessions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import repeat

import numpy as np

from onesearch.data.requests import Request
from onesearch.modeling_onesearch.configuration_reward_onesearch import EVENT_KINDS, GAP_BUCKETS
from onesearch.tokenization_sid.ragged import Ragged, offsets_of

from .inputs import UNKNOWN_GAP, RewardColumns, event_kinds, gap_buckets
from .memory import BehaviourMemory

KIND_NUMBERS = {kind: number for number, kind in enumerate(EVENT_KINDS)}
"""Number of each kind of event."""

Embed = Callable[[Sequence[str]], np.ndarray]
"""Makes unit vectors ``(texts, size)`` of texts."""


class RewardRequests:
    """What is known of requests.

    Args:
        item_ids: ids of the items, by row.
        memory: what was counted of them.
        embed: makes the vectors of queries.
    """

    def __init__(self, item_ids: Sequence[str], memory: BehaviourMemory, embed: Embed) -> None:
        self.row_of = {item_id: row for row, item_id in enumerate(item_ids)}
        self.memory, self.embed = memory, embed

    def histories(self, requests: Sequence[Request]) -> Ragged:
        """Item rows of each history, oldest first; items that the reward model does not know are left out."""
        return self._known_rows([request.history for request in requests])

    def rows(self, item_ids: Collection[str]) -> np.ndarray:
        """Row of each item, -1 for one that the reward model does not know, int64 ``(items,)``."""
        return np.fromiter(map(self.row_of.get, item_ids, repeat(-1)), np.int64, len(item_ids))

    def _known_rows(self, lists: Sequence[Sequence[str]]) -> Ragged:
        """Rows of those items of each list that the reward model knows."""
        rows = self.rows([item_id for own in lists for item_id in own])
        lengths = np.fromiter(map(len, lists), np.int64, len(lists))
        known = rows >= 0
        if not known.all():
            owners = np.repeat(np.arange(len(lists)), lengths)
            rows, lengths = rows[known], np.bincount(owners[known], minlength=len(lists))
        return Ragged(rows, offsets_of(lengths))

    def columns(self, requests: Sequence[Request], candidates: np.ndarray) -> RewardColumns:
        """The columns of requests. All behaviour in the memory counts. Times and kinds of events are read where the context gives them.

        Args:
            requests: n requests.
            candidates: item rows, -1 for padding, ``(n, candidates)``.
        """
        queries = [request.query for request in requests]
        history = self.histories(requests)
        purchased = self._known_rows([request.context.purchased for request in requests])
        return RewardColumns(
            candidates=candidates,
            queries=self.memory.query_numbers(queries),
            query_vectors=self.embed(queries).astype(np.float32),
            history=history,
            kinds=self._kinds(requests, history, purchased),
            gaps=self._gaps(requests, history),
            purchased=purchased,
            shown=self._known_rows([request.context.shown for request in requests]),
            times=None,
        )

    def _gaps(self, requests: Sequence[Request], history: Ragged) -> np.ndarray:
        """Bucket of each event's age, `UNKNOWN_GAP` where the request gives no ages, aligned with ``history.values``."""
        gaps = np.full(len(history.values), UNKNOWN_GAP)
        for place, request in enumerate(requests):
            if len(request.context.ages):
                ages = np.asarray(request.context.ages, dtype=np.int64)[self.rows(request.history) >= 0]
                gaps[history.offsets[place] : history.offsets[place + 1]] = gap_buckets(ages, GAP_BUCKETS)
        return gaps

    def _kinds(self, requests: Sequence[Request], history: Ragged, purchased: Ragged) -> np.ndarray:
        """Number of each event's kind, as the request gives it or as `event_kinds` finds it, aligned with ``history.values``."""
        if all(len(request.context.kinds) for request in requests):
            kinds = np.empty(len(history.values), dtype=np.int64)
        else:
            kinds = event_kinds(history, purchased, len(self.row_of))
        for place, request in enumerate(requests):
            given = request.context.kinds
            if len(given):
                numbers = np.fromiter(map(KIND_NUMBERS.__getitem__, given), np.int64, len(given))
                kinds[history.offsets[place] : history.offsets[place + 1]] = numbers[self.rows(request.history) >= 0]
        return kinds


__all__ = ["Embed", "RewardRequests"]
