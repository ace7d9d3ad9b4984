"""Columns of the reward model for requests, for serving. `session_columns.py` makes the same columns of a market's sessions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from onesearch.data.requests import Request
from onesearch.tokenization_sid.ragged import Ragged

from .inputs import UNKNOWN_GAP, RewardColumns, event_kinds
from .memory import BehaviourMemory

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

    def rows(self, item_ids: Sequence[str]) -> list[int]:
        """Rows of the items that the reward model knows."""
        return [self.row_of[item_id] for item_id in item_ids if item_id in self.row_of]

    def histories(self, requests: Sequence[Request]) -> Ragged:
        """Item rows of each history, oldest first; items that the reward model does not know are left out."""
        return Ragged.of([self.rows(request.history) for request in requests])

    def columns(self, requests: Sequence[Request], candidates: np.ndarray) -> RewardColumns:
        """The columns of requests. All behaviour in the memory counts; the times of events are not known.

        Args:
            requests: n requests.
            candidates: item rows, -1 for padding, ``(n, candidates)``.
        """
        queries = [request.query for request in requests]
        history = self.histories(requests)
        purchased = Ragged.of([self.rows(request.context.purchased) for request in requests])
        return RewardColumns(
            candidates=candidates,
            queries=self.memory.query_numbers(queries),
            query_vectors=self.embed(queries).astype(np.float32),
            history=history,
            kinds=event_kinds(history, purchased, len(self.row_of)),
            gaps=np.full(len(history.values), UNKNOWN_GAP),
            purchased=purchased,
            shown=Ragged.of([self.rows(request.context.shown) for request in requests]),
            times=None,
        )


__all__ = ["Embed", "RewardRequests"]
