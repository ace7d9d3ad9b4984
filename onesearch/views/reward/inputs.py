"""Inputs of the reward model, made of columns: one implementation for training (sessions of a market) and for serving (requests)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from onesearch.data.user_logs import UserLogs
from onesearch.modeling_onesearch.configuration_reward_onesearch import EVENT_KINDS
from onesearch.tokenization_sid.ragged import Ragged

from .counts import occurrences
from .facets import FACET_FEATURES, FacetHistories, ItemFacets, facet_features
from .memory import MEMORY_FEATURES, BehaviourMemory

if TYPE_CHECKING:
    import torch

RECENT = 10
"""Number of latest items whose facets are also counted alone; our choice."""

OWN_FEATURES = ("text_match", "history_length", "times_in_history")
"""Features beside those of the memory and of the facets."""

UNKNOWN_GAP = 0
"""Bucket of an event whose time is not known."""


@dataclass(frozen=True, eq=False)
class ItemTable:
    """What is known of every item of a catalogue, by row.

    Args:
        vectors: unit text vectors, float32 ``(items, size)``.
        codes: codes of the Semantic IDs, int64 ``(items, levels)``.
        facets: facets of the items.
        ids: number of each item's own embedding, 0 for an item that was seen too seldom, int64 ``(items,)``.
    """

    vectors: np.ndarray
    codes: np.ndarray
    facets: ItemFacets
    ids: np.ndarray

    def take(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Arguments of the model's `forward` that describe some items; `rows` is ``(wanted,)``."""
        facets = self.facets.of_items.take(rows)
        return {
            "item_vectors": self.vectors[rows],
            "item_codes": self.codes[rows],
            "item_facets": facets.values,
            "item_facet_offsets": facets.offsets[:-1],
            "item_ids": self.ids[rows],
            "item_groups": self.groups[rows],
        }

    @cached_property
    def groups(self) -> np.ndarray:
        """Numbers of each item's leaf category and of its first code, -1 without one, int64 ``(items, 2)``."""
        first = self.codes[:, 0] if self.codes.shape[1] else np.full(len(self.codes), -1, dtype=np.int64)
        return np.stack([self.facets.leaf, first], axis=1)


def own_embeddings(logs: UserLogs, training: np.ndarray, least: int) -> np.ndarray:
    """Number of each item's own embedding, 0 for items with fewer than `least` training clicks and purchases, ``(items,)``.

    Args:
        logs: event logs of a market.
        training: whether each session is in the training split, ``(sessions,)``.
        least: number of clicks and purchases from which on an item has an embedding.
    """
    sessions, items = logs.own("clicked", "purchased")
    counts = np.bincount(items[training[sessions]], minlength=len(logs.item_ids))
    return np.where(counts >= least, np.cumsum(counts >= least), 0)


class RewardColumns(NamedTuple):
    """What is known of n requests and their candidates.

    Attributes:
        candidates: item rows, -1 for padding, int64 ``(n, candidates)``.
        queries: number of each query in the memory, -1 for an unknown one, int64 ``(n,)``.
        query_vectors: unit text vectors, float32 ``(n, size)``.
        history: item rows of each history, oldest first, n rows.
        kinds: number of each event's kind, aligned with ``history.values``.
        gaps: bucket of each event's distance in time, aligned with ``history.values``.
        purchased: item rows of what was bought before, n rows.
        shown: item rows of what was listed before, n rows.
        times: only behaviour strictly before these is counted, int64 ``(n,)``; None counts all.
        users: the times bound the behaviour of these users alone, int64 ``(n,)``; None bounds that of everybody.
    """

    candidates: np.ndarray
    queries: np.ndarray
    query_vectors: np.ndarray
    history: Ragged
    kinds: np.ndarray
    gaps: np.ndarray
    purchased: Ragged
    shown: Ragged
    times: np.ndarray | None
    users: np.ndarray | None = None


class RewardInputs:
    """Makes the tensors of `OneSearchRewardModel.forward`.

    Args:
        table: what is known of the items.
        memory: what was counted of them.
        max_history: number of latest events that are read.
        without: groups of inputs that are left out, of `INPUT_GROUPS`; their features are 0.
    """

    def __init__(self, table: ItemTable, memory: BehaviourMemory, max_history: int = 1000, without: Sequence[str] = ()) -> None:
        if "id_memory" in without:
            table = replace(table, ids=np.zeros_like(table.ids))
        if "attributes" in without:
            none = Ragged(table.facets.of_items.values[:0], np.zeros_like(table.facets.of_items.offsets))
            table = replace(table, facets=replace(table.facets, of_items=none))
        self.table, self.memory, self.max_history, self.without = table, memory, max_history, tuple(without)
        kinds = table.facets.kinds
        self.names = (
            *MEMORY_FEATURES,
            *(f"{name}_{kind}" for name in FACET_FEATURES for kind in kinds),
            *OWN_FEATURES,
        )

    def features(self, columns: RewardColumns) -> np.ndarray:
        """Cross features, float32 ``(n, candidates, len(names))``."""
        columns, rows = self._shortened(columns), np.maximum(columns.candidates, 0)
        events = FacetHistories(columns.history, columns.history.tail(RECENT), columns.purchased, columns.shown)
        features = np.empty((*rows.shape, len(self.names)), dtype=np.float32)
        counted, own = len(MEMORY_FEATURES), len(OWN_FEATURES)
        seen = columns.queries, columns.history, columns.candidates, columns.times, columns.users
        features[..., :counted] = self.memory.features(*seen)
        features[..., counted:-own] = facet_features(self.table.facets, events, columns.candidates)
        if "attributes" in self.without:
            features[..., counted:-own] = 0.0
        if "transitions" in self.without:
            features[..., [place for place, name in enumerate(MEMORY_FEATURES) if "transition" in name]] = 0.0
        features[..., -3] = np.einsum("ncd,nd->nc", self.table.vectors.take(rows, axis=0), columns.query_vectors)
        features[..., -2] = np.log1p(columns.history.lengths)[:, None]
        features[..., -1] = np.log1p(_times_in(columns.history, rows, len(self.table.vectors)))
        return features

    def tensors(self, columns: RewardColumns) -> dict[str, torch.Tensor]:
        """All arguments of the model's `forward` but the labels. Items are gathered once each, however often they occur."""
        arrays = self.requests(columns)
        events, candidates = arrays["history"], arrays["candidates"]
        rows, places = np.unique(np.concatenate([candidates.ravel(), events.ravel()]), return_inverse=True)
        if rows[0] < 0:
            rows, places = rows[1:], places - 1  # -1 stays -1
        arrays["candidates"] = places[: candidates.size].reshape(candidates.shape)
        arrays["history"] = places[candidates.size :].reshape(events.shape)
        return _as_tensors({**arrays, **self.table.take(rows)})

    def tensors_with_states(self, columns: RewardColumns, states: torch.Tensor) -> dict[str, torch.Tensor]:
        """As `tensors`, with states of all items of the catalogue that were computed before, ``(items, hidden_size)``."""
        return {**_as_tensors(self.requests(columns)), **self._whole, "item_states": states}

    @cached_property
    def _whole(self) -> dict[str, torch.Tensor]:
        return _as_tensors({"item_groups": self.table.groups})

    def _shortened(self, columns: RewardColumns) -> RewardColumns:
        """The columns, with the latest `RECENT` events alone where the long history is left out."""
        if "long_history" not in self.without:
            return columns
        kept = _tail_places(columns.history, RECENT)
        return columns._replace(
            history=columns.history.tail(RECENT),
            kinds=columns.kinds[kept],
            gaps=columns.gaps[kept],
            purchased=columns.purchased.tail(RECENT),
            shown=columns.shown.tail(RECENT),
        )

    def requests(self, columns: RewardColumns) -> dict[str, np.ndarray]:
        """The arguments of the model's `forward` that describe requests; items are rows of the catalogue."""
        columns = self._shortened(columns)
        history, kinds, gaps = columns.history, columns.kinds, columns.gaps
        if history.lengths.max(initial=0) > self.max_history:
            history, kept = history.tail(self.max_history), _tail_places(history, self.max_history)
            kinds, gaps = kinds[kept], gaps[kept]
        return {
            "candidates": columns.candidates,
            "history": history.padded(-1),
            "kinds": Ragged(kinds, history.offsets).padded(0),
            "gaps": Ragged(gaps, history.offsets).padded(0),
            "features": self.features(columns),
            "query_vectors": columns.query_vectors,
        }


def _as_tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    import torch

    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def event_kinds(history: Ragged, purchased: Ragged, items: int) -> np.ndarray:
    """Number of each event's kind in `EVENT_KINDS`: purchased for an item that the user has bought before, else clicked.

    Args:
        history: item rows of each history, n rows.
        purchased: item rows of what was bought before, n rows.
        items: number of items.

    Returns:
        int64, aligned with ``history.values``.
    """
    owner = np.repeat(np.arange(len(history)), history.lengths)
    buyer = np.repeat(np.arange(len(purchased)), purchased.lengths)
    bought = np.sort(buyer * items + purchased.values)
    was_bought = np.zeros(len(history.values), dtype=bool)
    if len(bought):
        keys = owner * items + history.values
        was_bought = bought[np.minimum(np.searchsorted(bought, keys), len(bought) - 1)] == keys
    return np.where(was_bought, EVENT_KINDS.index("purchased"), EVENT_KINDS.index("clicked"))


def gap_buckets(gaps: np.ndarray, buckets: int) -> np.ndarray:
    """Bucket of each time between an event and a request: 1 + ⌊log₂(gap)⌋, at most ``buckets - 1``; `UNKNOWN_GAP` for negative gaps.

    Args:
        gaps: times, int64 of any shape.
        buckets: number of buckets.
    """
    logs = np.log2(np.maximum(gaps, 1)).astype(np.int64)
    return np.where(gaps < 0, UNKNOWN_GAP, np.minimum(1 + logs, buckets - 1))


def _tail_places(rows: Ragged, most: int) -> np.ndarray:
    """Places in ``rows.values`` of the last `most` entries of each row."""
    return Ragged(np.arange(len(rows.values)), rows.offsets).tail(most).values


def _times_in(history: Ragged, rows: np.ndarray, items: int) -> np.ndarray:
    """How often each candidate occurs in its request's history, ``(n, candidates)``; `items` is the size of the catalogue."""
    owner = np.repeat(np.arange(len(history)), history.lengths)
    return occurrences(owner * items + history.values, np.arange(len(rows))[:, None] * items + rows, len(rows) * items)


__all__ = [
    "OWN_FEATURES",
    "UNKNOWN_GAP",
    "ItemTable",
    "RewardColumns",
    "RewardInputs",
    "event_kinds",
    "gap_buckets",
    "own_embeddings",
]
