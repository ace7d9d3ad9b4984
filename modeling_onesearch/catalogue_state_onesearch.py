"""Holds the catalogue at one moment: the tables as they were built, the changes since then, and everything that follows from both.

Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from .active_sids_onesearch import FEW_SHARE, ActiveSids
from .catalogue_tables_onesearch import CatalogueTables
from .columns_onesearch import gather
from .filters_onesearch import FilterCache
from .trie_onesearch import NONE, SidTrie
from .trie_view_onesearch import TrieView
from .updates_onesearch import Updates


class AddedItems(NamedTuple):
    """The added items that are still in the catalogue, in the order of their SIDs.

    Args:
        leaves: (items,) int64, ascending, the number of each item's SID.
        rows: (items,) int64, the row of each item.
    """

    leaves: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class CatalogueState:
    """The catalogue at one moment. An update makes a new state, so that a search sees the catalogue before or after it, never half of it.

    Args:
        tables: the catalogue as it was built.
        updates: what changed since.
        leaves: (added,) the number of each added item's SID: a SID of the tables' trie, or, behind those, one of the added trie.
        trie: the trie of all SIDs that have an item.
        row_of: row of each added item that is still in the catalogue, by item id.
        added: the same items in the order of their SIDs.
        filters: filters that were made of this state.
    """

    tables: CatalogueTables
    updates: Updates
    leaves: np.ndarray
    trie: SidTrie | TrieView
    row_of: Mapping[str, int]
    added: AddedItems
    filters: FilterCache

    @classmethod
    def without_updates(cls, tables: CatalogueTables) -> CatalogueState:
        """Return the state of tables that have not been updated."""
        nothing = np.zeros(0, dtype=np.int64)
        return cls(
            tables, Updates.empty(tables), nothing, tables.trie, {}, AddedItems(nothing, nothing), FilterCache(len(tables))
        )

    @classmethod
    def of(cls, tables: CatalogueTables, updates: Updates, known_leaves: np.ndarray) -> CatalogueState:
        """Derive everything that follows from updates.

        1. The SIDs of the added items are looked up in the tables' trie. Only items beyond `known_leaves` have to be walked.
        2. SIDs of added items that the tables' trie does not have get a trie of their own, which is built anew; it is small.
        3. A SID of the tables whose items were all removed is no longer active, unless an added item has it.

        Invariant: a SID that the tables have keeps its number, so results of earlier states stay comparable.

        Args:
            tables: the catalogue as it was built.
            updates: what changed since.
            known_leaves: (n ≤ added,) the numbers that an earlier state gave to the SIDs of the first added items.
        """
        base = tables.trie
        present = np.flatnonzero(updates.present)
        fresh = torch.from_numpy(updates.codes[len(known_leaves) :].astype(np.int64)).to(base.device)
        in_base = np.where(known_leaves < len(base), known_leaves, NONE)
        leaves = np.concatenate([in_base, base.leaf_of(base.walk(fresh)).cpu().numpy()])
        new = present[leaves[present] < 0]
        added: SidTrie | None = None
        if len(new):
            added, own = SidTrie.build_with_leaves(updates.codes[new], tables.codebook_sizes)
            added.to(base.device)
            leaves[new] = len(base) + own
        active = _active_sids(tables, updates.removed, leaves[present])
        first = len(tables)
        order = leaves[present].argsort(kind="stable")
        return cls(
            tables=tables,
            updates=updates,
            leaves=leaves,
            trie=base if added is None and active is None else TrieView(base, active, added),
            row_of={updates.ids[place]: first + place for place in present.tolist()},
            added=AddedItems(leaves[present][order], first + present[order]),
            filters=FilterCache(first + len(updates.ids)),
        )

    def with_items(
        self,
        item_ids: Sequence[str],
        codes: np.ndarray,
        popularity: np.ndarray,
        categories: Sequence[Sequence[str]] | None,
    ) -> CatalogueState:
        """Return the state after items were added. The arguments are those of `SidIndex.add_items`, checked."""
        updates = self.updates
        paths, category = updates.paths.extended(categories, len(codes))
        updates = Updates(
            ids=(*updates.ids, *item_ids),
            present=np.append(updates.present, np.ones(len(codes), dtype=bool)),
            codes=np.concatenate([updates.codes, codes]),
            popularity=np.concatenate([updates.popularity, popularity]),
            category=np.concatenate([updates.category, category]),
            paths=paths,
            removed=updates.removed,
            revision=updates.revision + 1,
        )
        return CatalogueState.of(self.tables, updates, self.leaves)

    def without(self, rows: np.ndarray) -> CatalogueState:
        """Return the state after the items at `rows` (n,) were removed."""
        updates, first = self.updates, len(self.tables)
        removed = np.zeros(first, dtype=bool) if updates.removed is None else updates.removed.copy()
        removed[rows[rows < first]] = True
        present = updates.present.copy()
        present[rows[rows >= first] - first] = False
        updates = replace(
            updates,
            ids=tuple(item_id if is_present else "" for item_id, is_present in zip(updates.ids, present.tolist())),
            present=present,
            removed=removed if removed.any() else None,
            revision=updates.revision + 1,
        )
        return CatalogueState.of(self.tables, updates, self.leaves)

    def __len__(self) -> int:
        """Return the number of items in the catalogue."""
        removed = 0 if self.updates.removed is None else int(self.updates.removed.sum())
        return len(self.tables) - removed + len(self.row_of)

    def rows(self) -> np.ndarray:
        """Return the rows of all items that are in the catalogue, in catalogue order: (items,) int64."""
        removed = self.updates.removed
        own = np.arange(len(self.tables)) if removed is None else np.flatnonzero(~removed)
        return np.concatenate([own, np.array(list(self.row_of.values()), dtype=np.int64)])

    def find_rows(self, item_ids: Sequence[str], missing_ok: bool = False) -> np.ndarray:
        """Return the rows of items: (items,) int64.

        Args:
            item_ids: the items.
            missing_ok: give -1 for an item that is not in the catalogue instead of raising a KeyError.
        """
        rows = self.tables.ids.find(item_ids)
        removed, added = self.updates.removed, self.row_of
        if removed is not None:
            rows = np.where((rows >= 0) & ~removed[rows], rows, NONE)
        if added:
            rows = np.array([added.get(item_id, row) for item_id, row in zip(item_ids, rows.tolist())], dtype=np.int64)
        if not missing_ok and len(rows) and rows.min() < 0:
            missing = item_ids[int(np.argmin(rows))]
            raise KeyError(f"item {missing!r} is not in the catalogue of {len(self):,} items")
        return rows

    def rows_in_sid(self, leaf: int, mask: np.ndarray | None) -> np.ndarray:
        """Return the rows of the items of one SID, most popular first: (items,).

        Args:
            leaf: the number of the SID.
            mask: (rows,) bool, the items that count; None for all.
        """
        tables, updates = self.tables, self.updates
        rows = np.zeros(0, dtype=np.int64)
        if leaf < len(tables.bucket_starts) - 1:
            rows = tables.bucket_rows[tables.bucket_starts[leaf] : tables.bucket_starts[leaf + 1]]
        if updates.removed is not None:
            rows = rows[~updates.removed[rows]]
        first, stop = np.searchsorted(self.added.leaves, (leaf, leaf + 1))
        if first < stop:
            rows = np.concatenate([rows, self.added.rows[first:stop]])
            popularity = gather(tables.popularity, updates.popularity, rows)
            rows = rows[np.lexsort((rows, -popularity))]
        return rows if mask is None else rows[mask[rows]]

    def item_ids(self) -> list[str]:
        """Return the ids of all items that are in the catalogue, in catalogue order."""
        return self.tables.ids.at(self.rows().tolist(), self.updates.ids)

    def merged(self) -> CatalogueTables:
        """Build tables of all items that are in the catalogue; rows and SIDs get new numbers."""
        tables, updates, rows = self.tables, self.updates, self.rows()
        category = gather(tables.category, updates.category, rows)
        merged = CatalogueTables.build(
            self.item_ids(),
            gather(tables.codes, updates.codes, rows),
            gather(tables.popularity, updates.popularity, rows),
            tables.codebook_sizes,
            tables.fingerprint,
            [updates.paths[place] for place in category.tolist()],
        )
        merged.trie.to(tables.trie.device)
        return merged


def _active_sids(tables: CatalogueTables, removed: np.ndarray | None, added: np.ndarray) -> ActiveSids | None:
    """Mark the SIDs of the tables that an item still has.

    Args:
        tables: the catalogue as it was built.
        removed: (items,) bool, the removed items; None if there are none.
        added: (n,) the numbers of the SIDs of the added items.

    Returns:
        the marks; None if no item was removed, so that all SIDs are active.
    """
    if removed is None:
        return None
    trie = tables.trie
    leaves, gone = np.unique(tables.leaf_of_row[np.flatnonzero(removed)], return_counts=True)
    emptied = leaves[gone == tables.bucket_starts[leaves + 1] - tables.bucket_starts[leaves]]
    inactive = torch.from_numpy(np.setdiff1d(emptied, added).astype(np.int64)).to(trie.device)
    marks = ActiveSids.all_of(trie)
    if len(inactive) < FEW_SHARE * len(trie):
        return marks.without(trie, inactive)
    marks.leaves[inactive] = False
    return ActiveSids.of(trie, marks.leaves)


__all__ = ["AddedItems", "CatalogueState"]
