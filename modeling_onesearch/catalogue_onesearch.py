"""Which item has which Semantic ID: it turns the SIDs that a model emits back into items.

The tables are flat arrays in one safetensors file and stay memory-mapped; an item id is decoded when it is asked for. A loaded index is
never changed: additions and removals make a small second layer, which is written to a file of its own beside the index.
Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

import copy
import os
import sys
import threading
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .catalogue_files_onesearch import (
    OnDisk,
    changing,
    is_newer,
    read_catalogue,
    refuse_newer,
    write_catalogue,
    write_changes,
)
from .catalogue_state_onesearch import CatalogueState
from .catalogue_tables_onesearch import CatalogueTables, check_counts
from .columns_onesearch import gather
from .expansion_onesearch import FoundItems, found_items
from .filters_onesearch import ItemFilter, filter_key
from .given_items_onesearch import GivenItems
from .hits_onesearch import MAX_ITEMS_PER_SID, RANKINGS, Hit
from .sequences_onesearch import checked_item_ids, checked_paths, checked_popularity, checked_texts
from .trie_building_onesearch import checked_codes
from .trie_onesearch import SidTrie
from .trie_view_onesearch import TrieView

SID_INDEX_NAME = "sid_index.safetensors"
"""File name of the item index, beside the weights of a checkpoint."""

SID_UPDATES_NAME = "sid_index_updates.safetensors"
"""File name of the updates of the item index; they lie beside the index."""


class SidIndex:
    """The catalogue: item ids, their SIDs, and the order of the items that share a SID.

    Make one with `SidIndex.build` or `SidIndex.load`. Items are counted by *row*: the items of the tables first, then the added ones.

    Args:
        state: the catalogue; an update replaces it as a whole.
        on_disk: the files that the state was read from; None if it has not been written.
    """

    def __init__(self, state: CatalogueState, on_disk: OnDisk | None = None) -> None:
        self.codebook_sizes = state.tables.codebook_sizes
        self.fingerprint = state.tables.fingerprint
        self._state = state
        self._on_disk = on_disk
        self._written = state if on_disk is not None else None
        self._lock = threading.Lock()
        _INDEXES.add(self)

    @classmethod
    def build(
        cls,
        item_ids: Sequence[str],
        codes: np.ndarray,
        popularity: np.ndarray,
        codebook_sizes: Sequence[int],
        fingerprint: str,
        categories: Sequence[Sequence[str]] | None = None,
    ) -> SidIndex:
        """Build an index of items.

        Args:
            item_ids: one string per item, all different.
            codes: (items, levels) codes.
            popularity: (items,) orders the items of one SID, larger values first; equal values keep catalogue order.
            codebook_sizes: number of codes of each level.
            fingerprint: fingerprint of the codebooks; a model accepts only the index of the codebooks that it was trained on.
            categories: the category path of each item, from coarse to fine; `filter(categories=…)` knows the names on these paths.

        Raises:
            TypeError: a text, a set or a generator where a list belongs, or an entry that is not text.
            ValueError: counts that do not agree, an item id that comes twice, is empty or holds white space, a popularity that is not a
                finite number, an empty category name, a code outside its level's codebook, or a codebook size outside 1 … 2³¹ - 1.
        """
        item_ids = checked_item_ids(item_ids)
        codes = np.asarray(codes)
        check_counts(item_ids, codes)
        popularity = checked_popularity(popularity, len(item_ids))
        categories = checked_paths(categories, len(item_ids))
        tables = CatalogueTables.build(item_ids, codes, popularity, codebook_sizes, fingerprint, categories)
        return cls(CatalogueState.without_updates(tables))

    @classmethod
    def load(cls, path: str | os.PathLike, verify: bool | None = None) -> SidIndex:
        """Map an index and the updates beside it into memory.

        Other processes may write both files meanwhile: index and updates are read as they belong together.

        Args:
            path: the index file.
            verify: compare the content of both files with the fingerprints that they carry, which reads them whole (about 1 ms per MiB).
                None does so for files of at most `VERIFY_BYTES`. Without it a damaged file may give wrong hits; it is always checked
                that no table refers to a place outside another.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: a file is damaged or has another format, or the updates belong to another index; the message holds the path.
        """
        return cls(*read_catalogue(Path(path), verify))

    # Reading

    def __len__(self) -> int:
        """Return the number of items in the catalogue."""
        return len(self._state)

    @property
    def trie(self) -> SidTrie | TrieView:
        """The trie of all SIDs that have an item."""
        return self._state.trie

    @property
    def item_ids(self) -> list[str]:
        """All item ids, in catalogue order."""
        return self._state.item_ids()

    @property
    def codes(self) -> np.ndarray:
        """The codes of all items, in catalogue order: (items, levels) int64."""
        state = self._state
        return gather(state.tables.codes, state.updates.codes, state.rows()).astype(np.int64)

    @property
    def popularity(self) -> np.ndarray:
        """The popularity of all items, in catalogue order: (items,) float32."""
        state = self._state
        return gather(state.tables.popularity, state.updates.popularity, state.rows())

    @property
    def revision(self) -> int:
        """The number of updates since the tables were built."""
        return self._state.updates.revision

    @property
    def categories(self) -> list[str]:
        """The names that `filter(categories=…)` knows, in alphabetical order."""
        return self._state.updates.paths.names

    def snapshot(self) -> SidIndex:
        """Return the catalogue as it is now, for a search that must not see half of an update. It shares all tables."""
        return copy.copy(self)

    def __deepcopy__(self, memo: dict[int, object]) -> SidIndex:
        """Return an index that is updated on its own; tables are never changed, so copies of a model share them."""
        return copy.copy(self)

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes for a copy or a pickle: all but the lock, which belongs to this process."""
        attributes = dict(vars(self))
        del attributes["_lock"]
        return attributes

    def __setstate__(self, attributes: dict[str, Any]) -> None:
        """Take over the attributes of another index, with a lock of its own."""
        vars(self).update(attributes)
        self._lock = threading.Lock()
        _INDEXES.add(self)

    def sid_of(self, item_id: str) -> tuple[int, ...]:
        """Return the codes of one item; KeyError if it is not in the catalogue."""
        return tuple(self.codes_of([item_id])[0].tolist())

    def codes_of(self, item_ids: Sequence[str]) -> np.ndarray:
        """Return the codes of items: (items, levels) int64; KeyError names an item that is not in the catalogue.

        `item_ids` is a list; TypeError if it is a text, a set or a generator.
        """
        state = self._state
        rows = state.find_rows(checked_texts(item_ids, "item ids"))
        return gather(state.tables.codes, state.updates.codes, rows).astype(np.int64)

    def rows_of(self, item_ids: Sequence[str]) -> np.ndarray:
        """Return the rows of items, as the masks of filters count them: (items,) int64; KeyError names an item that is missing.

        `item_ids` is a list; TypeError if it is a text, a set or a generator.
        """
        return self._state.find_rows(checked_texts(item_ids, "item ids"))

    def contains(self, item_ids: Sequence[str], item_filter: ItemFilter | None = None) -> np.ndarray:
        """Return whether each item of a list is in the catalogue and passes the filter: (items,) bool.

        Args:
            item_ids: a list; TypeError if it is a text, a set or a generator.
            item_filter: the catalogue is that which the filter was made for; None for this one, as it is now, without a filter.
        """
        state = self._state if item_filter is None else self.checked(item_filter).state
        rows = state.find_rows(checked_texts(item_ids, "item ids"), missing_ok=True)
        return (rows >= 0) if item_filter is None else (rows >= 0) & item_filter.mask[rows]

    def given(self, item_ids: Sequence[Sequence[str]], item_filter: ItemFilter | None = None) -> GivenItems:
        """Look up items that a caller names for each query; those that are not in the catalogue, or do not pass, are left out.

        Args:
            item_ids: a list per query.
            item_filter: as for `hits`.
        """
        state = self._state if item_filter is None else self.checked(item_filter).state
        lists = [checked_texts(own, "the items of a query") for own in item_ids]
        return GivenItems.of(state, None if item_filter is None else item_filter.mask, lists)

    def items_of(
        self, leaves: Iterable[int], limit: int = MAX_ITEMS_PER_SID, mask: np.ndarray | None = None
    ) -> list[list[str]]:
        """Return the items of each SID, most popular first.

        Args:
            leaves: numbers of SIDs, as `Trie.leaf_of` gives them.
            limit: the largest number of items per SID.
            mask: (rows,) bool, the items that count; None for all.
        """
        state = self._state
        ids, added = state.tables.ids, state.updates.ids
        return [ids.at(state.rows_in_sid(leaf, mask)[:limit].tolist(), added) for leaf in leaves]

    def hits(
        self,
        leaves: torch.Tensor,
        scores: torch.Tensor,
        top_k: int,
        items_per_sid: int = MAX_ITEMS_PER_SID,
        item_filter: ItemFilter | None = None,
        level_scores: torch.Tensor | None = None,
        rank_by: str = "sid",
    ) -> list[list[Hit]]:
        """Expand beams to items.

        1. List the items of each beam's SID that pass the filter, most popular first, at most `items_per_sid`.
        2. Score each item. Sort the items of a query by score; equal scores keep the order of the beams, and of the items in their SID.

        Args:
            leaves: (queries, beams) numbers of SIDs, as `Trie.leaf_of` gives them; -1 is no SID.
            scores: (queries, beams) log-probabilities, best first; -inf is no SID.
            top_k: the largest number of hits per query.
            items_per_sid: the largest number of items that a SID expands to.
            item_filter: only items that pass are expanded to, in the catalogue as it was when the filter was made; None for all.
            level_scores: (queries, beams, levels) the log-probability of each code, to be shown in the hits; None leaves it out.
            rank_by: `sid` ranks by the score of the SID, then by popularity. `item` ranks by the log-probability of the item, that of its
                SID plus the log of its share of the SID's popularity, so that the less popular items of a SID with many items do not
                stand before the next SID.

        Returns:
            per query at most `top_k` hits, best first, no item twice.

        Raises:
            ValueError: an unknown `rank_by`, or a filter of another catalogue.
        """
        if rank_by not in RANKINGS:
            raise ValueError(f"rank_by={rank_by!r} is unknown; use one of {', '.join(map(repr, RANKINGS))}")
        state = self._state if item_filter is None else self.checked(item_filter).state
        mask = None if item_filter is None else item_filter.mask
        found = found_items(state, mask, leaves.cpu().numpy(), scores.cpu().numpy(), top_k, items_per_sid, rank_by)
        parts: list[Any] = [None] * len(found) if level_scores is None else level_scores.tolist()
        return [_hits(state, own, of_beams) for own, of_beams in zip(found, parts)]

    def filter(
        self,
        items: Sequence[str] | np.ndarray | None = None,
        exclude: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
    ) -> ItemFilter:
        """Make a filter of the items that pass all of the given conditions, for `search(..., item_filter=…)`.

        A search with a filter sees the catalogue as it was when the filter was made. Make the filter anew to see later updates.
        Where other threads update the index, fill a mask and make its filter on one `snapshot()`.
        The latest filters are kept until the next update, so that making one again with equal arguments takes no time.

        Args:
            items: the allowed items (in stock, of one shop, …), as ids or as a boolean mask (rows,), which `rows_of` helps to fill. None
                allows all.
            exclude: items that must not be found (already bought, …). Ids that are not in the catalogue exclude nothing.
            categories: names of categories at any depth; an item passes if one of them is on its path. None lets all items pass.

        Raises:
            KeyError: an allowed item is not in the catalogue.
            TypeError: a text, a set or a generator where a list belongs, or an entry that is not text.
            ValueError: an unknown category, a mask of another length, or no item passes.
        """
        state = self._state
        if items is not None and not (isinstance(items, np.ndarray) and items.dtype == bool):
            items = checked_texts(items, "items")
        excluded = [] if exclude is None else checked_texts(exclude, "exclude")
        wanted = None if categories is None else checked_texts(categories, "categories")

        def make() -> ItemFilter:
            rows = items if items is None or isinstance(items, np.ndarray) else state.find_rows(items)
            return ItemFilter.of(state, rows, state.find_rows(excluded, missing_ok=True), wanted)

        return state.filters.get(filter_key(items, excluded, wanted), make)

    def checked(self, item_filter: ItemFilter) -> ItemFilter:
        """Return `item_filter` itself; ValueError if it was made for a catalogue of other codebooks."""
        tables = item_filter.state.tables
        if (tables.codebook_sizes, tables.fingerprint) != (self.codebook_sizes, self.fingerprint):
            raise ValueError(
                "the filter was made for a catalogue of other codebooks; make it with the filter method of this index"
            )
        return item_filter

    # Updates

    def add_items(
        self,
        item_ids: Sequence[str],
        codes: np.ndarray,
        popularity: np.ndarray | None = None,
        categories: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """Add items; the next search finds them. The SIDs of all other items stay as they are. `save_updates` writes the change.

        Args:
            item_ids: the new items.
            codes: (items, levels) their codes, from the codebooks that the index belongs to.
            popularity: (items,) orders them among the items of their SID; None counts as 0.
            categories: the category path of each item; None for items without categories.

        Raises:
            TypeError: a text, a set or a generator where a list belongs, or an entry that is not text; nothing is added then.
            ValueError: an item is in the catalogue already, or the arguments do not fit (see `build`); nothing is added then.
        """
        item_ids = checked_item_ids(item_ids)
        codes = checked_codes(codes, self.codebook_sizes).astype(self._state.tables.codes.dtype)
        check_counts(item_ids, codes)
        popularity = checked_popularity(popularity, len(item_ids))
        categories = checked_paths(categories, len(item_ids))
        with self._lock:
            twice = [item_id for item_id, is_known in zip(item_ids, self.contains(item_ids)) if is_known]
            if twice or len(set(item_ids)) < len(item_ids):
                known = twice[0] if twice else next(one for one in item_ids if item_ids.count(one) > 1)
                raise ValueError(f"item {known!r} is in the catalogue already or given twice; an item keeps its SID")
            self._state = self._state.with_items(item_ids, codes, popularity, categories)

    def remove_items(self, item_ids: Sequence[str]) -> None:
        """Remove items; the next search does not find them. A SID whose items are all removed is not searched any more.

        Args:
            item_ids: the items to remove; an item may be named twice.

        Raises:
            KeyError: an item is not in the catalogue; nothing is removed then.
            TypeError: a text, a set or a generator instead of a list, or an entry that is not text.
            ValueError: no item would be left; nothing is removed then.
        """
        item_ids = checked_texts(item_ids, "item ids")
        with self._lock:
            rows = np.unique(self.rows_of(item_ids))
            if len(rows) == len(self):
                raise ValueError("removing these items would leave an empty catalogue; leave at least one")
            self._state = self._state.without(rows)

    # Files

    def save(self, path: str | os.PathLike) -> None:
        """Write the index; the file appears whole or not at all. Updates are merged first, which gives the rows new numbers.

        Args:
            path: the index file. The updates beside it are deleted, since they are merged.

        Raises:
            ValueError: `path` is the file that this index was loaded from, and another process has updated it meanwhile; the message says
                how to keep both changes.
            OSError: the folder does not exist, or the disk is full.
            TimeoutError: another process has been changing the index for `LOCK_TIMEOUT` seconds.
        """
        path = Path(path)
        with changing(path), self._lock:
            refuse_newer(path, self._on_disk)
            if self._state.updates.revision:
                self._state = CatalogueState.without_updates(self._state.merged())
            self._on_disk = write_catalogue(path, self._state.tables)
            self._written = self._state

    def save_updates(self, path: str | os.PathLike) -> None:
        """Write all additions and removals since the index was written to a file beside it.

        This takes milliseconds, whatever the catalogue's size. A process that dies leaves either the updates that were there before or the
        new ones. Processes write one after another; one whose index is out of date is refused.

        Args:
            path: the index file; it is not touched.

        Raises:
            ValueError: the file at `path` is another index, or another process has updated it meanwhile.
            OSError: the disk is full.
            TimeoutError: another process has been changing the index for `LOCK_TIMEOUT` seconds.
        """
        path = Path(path)
        with changing(path), self._lock:
            self._on_disk = write_changes(path, self._state.updates, self._on_disk)
            self._written = self._state

    def refresh(self) -> bool:
        """Take over what other processes have written to the files of this index since they were read or written here.

        A search that is at work sees the catalogue as it was when the search began; the next one sees the new one.

        Returns:
            whether anything has changed.

        Raises:
            FileNotFoundError: the file does not exist any more; the catalogue stays as it is, as after every error.
            ValueError: the index is on no disk, holds updates that were not saved, or the files are damaged or belong to other codebooks.
        """
        with self._lock:
            known = self._on_disk
            if known is None or self._state is not self._written:
                raise ValueError(
                    "this index holds items that are in no file; write them with save or save_updates before it is refreshed"
                )
            if not is_newer(known):
                return False
            state, on_disk = read_catalogue(known.path, None)
            tables = state.tables
            if (tables.codebook_sizes, tables.fingerprint) != (self.codebook_sizes, self.fingerprint):
                raise ValueError(f"{known.path} belongs to other codebooks now; load model, tokenizer and index anew together")
            self._state = self._written = state
            self._on_disk = on_disk
        return True


def _hits(state: CatalogueState, found: FoundItems, level_scores: Sequence[Sequence[float]] | None) -> list[Hit]:
    """The hits of one query; `level_scores` (beams, levels) are those of the codes, None leaves them out."""
    tables, updates = state.tables, state.updates
    item_ids = tables.ids.at(found.rows.tolist(), updates.ids)
    sids = map(tuple, gather(tables.codes, updates.codes, found.rows).tolist())
    columns = zip(item_ids, sids, found.scores.tolist(), found.beams.tolist())
    return [
        Hit(item_id, sid, score, None if level_scores is None else tuple(level_scores[beam]))
        for item_id, sid, score, beam in columns
    ]


_INDEXES: weakref.WeakSet[SidIndex] = weakref.WeakSet()
"""All indexes of this process, whose locks a forked child makes anew."""


def _new_locks() -> None:
    """Give every index a free lock in a child process: the thread that held the old one does not exist there."""
    for index in _INDEXES:
        index._lock = threading.Lock()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_new_locks)


__all__ = ["SID_INDEX_NAME", "SID_UPDATES_NAME", "SidIndex"]
