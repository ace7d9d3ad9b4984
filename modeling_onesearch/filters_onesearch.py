"""Item filters: the part of a catalogue that a request may get.

Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from .active_sids_onesearch import FEW_SHARE
from .columns_onesearch import gather
from .trie_onesearch import SidTrie
from .trie_view_onesearch import TrieView, restrict

if TYPE_CHECKING:
    from .catalogue_state_onesearch import CatalogueState


@dataclass(frozen=True)
class ItemFilter:
    """The items that a request may get. `SidIndex.filter` makes it.

    A search with a filter runs on the state of the catalogue that the filter was made for, whatever updates came since.

    Args:
        mask: (rows,) bool, whether each item passes.
        trie: the trie of the SIDs of those items.
        state: the state of the catalogue that the filter was made for.
    """

    mask: np.ndarray
    trie: SidTrie | TrieView
    state: CatalogueState

    @classmethod
    def of(
        cls,
        state: CatalogueState,
        allowed: np.ndarray | None,
        excluded: np.ndarray,
        categories: Sequence[str] | None,
    ) -> ItemFilter:
        """Make the filter of the items that pass all conditions.

        Args:
            state: the catalogue.
            allowed: (n,) rows of the allowed items, or (rows,) bool; None allows all.
            excluded: (n,) rows of items that must not be found; -1 excludes nothing.
            categories: an item passes if one of these names is on its path; None lets all items pass.

        Raises:
            ValueError: an unknown category, a mask of the wrong length, or no item passes.
        """
        first, updates = len(state.tables), state.updates
        mask = _mask_of(allowed, first + len(updates.ids))
        if categories is not None:
            category = np.concatenate([state.tables.category, updates.category])
            mask &= np.isin(category, updates.paths.with_any(categories))
        mask[excluded[excluded >= 0]] = False
        if updates.removed is not None:
            mask[:first] &= ~updates.removed
        mask[first:] &= updates.present
        trie = state.trie.to(state.tables.trie.device)  # a search through another filter may have moved the tables
        kept = torch.from_numpy(passing_sids(state, mask)).to(trie.device)
        return cls(mask, restrict(trie, kept), state)


class FilterCache:
    """The latest filters of one state of the catalogue, by the arguments that they were made with. An update starts a new one.

    Threads may use it at once: they find a filter or make their own.

    Args:
        rows: number of rows of the catalogue.
    """

    def __init__(self, rows: int) -> None:
        self.most = min(max(CACHED_ROWS // max(rows, 1), 1), MOST_FILTERS)
        self._kept: dict[Hashable, ItemFilter] = {}

    def __reduce__(self) -> tuple[type[FilterCache], tuple[int]]:
        """A copy and a pickle start empty."""
        return FilterCache, (CACHED_ROWS // self.most,)

    def get(self, key: Hashable, make: Callable[[], ItemFilter]) -> ItemFilter:
        """The filter under `key`; made where it is not kept."""
        found = self._kept.get(key)
        if found is None:
            found = make()
            if len(self._kept) >= self.most:
                self._kept.pop(next(iter(list(self._kept)), None), None)  # the oldest; another thread may have been faster
            self._kept[key] = found
        return found


CACHED_ROWS = 1 << 24
"""Rows of all filters that a catalogue keeps, about 4 bytes each; at least one filter is kept (our choice)."""

MOST_FILTERS = 256
"""Largest number of filters that a catalogue keeps; our choice."""


def filter_key(items: Sequence[str] | np.ndarray | None, excluded: Sequence[str], categories: Sequence[str] | None) -> Hashable:
    """Key of a filter in the cache, the same for equal arguments of `SidIndex.filter`.

    A mask is represented by a digest of its bits, since its owner may change it.
    """
    allowed: Hashable = None
    if isinstance(items, np.ndarray) and items.dtype == bool:
        allowed = (items.shape, hashlib.blake2b(np.packbits(items).tobytes(), digest_size=16).digest())
    elif items is not None:
        allowed = tuple(items)
    return allowed, tuple(excluded), None if categories is None else tuple(categories)


def _mask_of(allowed: np.ndarray | None, rows: int) -> np.ndarray:
    """Return a mask (rows,) of the allowed rows, which the caller may change."""
    if allowed is None:
        return np.ones(rows, dtype=bool)
    if allowed.dtype == bool:
        if allowed.shape != (rows,):
            raise ValueError(f"the mask has shape {allowed.shape}, the catalogue {rows:,} rows")
        return allowed.copy()
    mask = np.zeros(rows, dtype=bool)
    mask[allowed] = True
    return mask


def passing_sids(state: CatalogueState, mask: np.ndarray) -> np.ndarray:
    """Return which SIDs have an item that passes.

    Where more than `FEW_SHARE` of the items are excluded, the SIDs of all passing items are marked. Otherwise only the excluded items are
    looked at:

    1. Count the excluded items of each SID that has one.
    2. A SID passes unless all of its items are excluded.

    Invariant: removed items are excluded by `mask` and counted among the items of their SID, so both counts agree.

    Args:
        state: the catalogue.
        mask: (rows,) bool, whether each item passes.

    Returns:
        (SIDs,) bool.
    """
    tables, first = state.tables, len(state.tables)
    out = np.flatnonzero(~mask)
    if len(out) > FEW_SHARE * len(mask):
        kept = np.zeros(len(state.trie), dtype=bool)
        kept[tables.leaf_of_row[mask[:first]]] = True
        kept[state.leaves[mask[first:]]] = True
        return kept
    kept = np.ones(len(state.trie), dtype=bool)
    leaves = gather(tables.leaf_of_row, state.leaves, out)
    leaves, excluded = np.unique(leaves[leaves >= 0], return_counts=True)
    kept[leaves[excluded == _items_per_sid(state, leaves)]] = False
    return kept


def _items_per_sid(state: CatalogueState, leaves: np.ndarray) -> np.ndarray:
    """Return the number of items of each SID, removed ones included: (n,) → (n,)."""
    base, starts = len(state.tables.trie), state.tables.bucket_starts
    inside = np.where(leaves < base, leaves, 0)
    own = np.where(leaves < base, starts[inside + 1] - starts[inside], 0)
    added = np.sort(state.leaves)
    return own + np.searchsorted(added, leaves, side="right") - np.searchsorted(added, leaves, side="left")


__all__ = ["FilterCache", "ItemFilter", "filter_key", "passing_sids"]
