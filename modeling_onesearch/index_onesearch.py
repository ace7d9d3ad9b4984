"""Which item has which Semantic ID: the bridge from what a model emits back to the catalogue, with filters and updates.

The tables are flat arrays in one safetensors file and stay memory-mapped; item ids are decoded when asked for. A loaded index is never
changed: additions and removals make a small second layer, written beside the file.
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

import copy
import json
import os
import threading
from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from .hits_onesearch import MAX_ITEMS_PER_SID, RANKINGS, Hit, log_shares
from .tables_onesearch import (
    CategoryPaths,
    ItemIds,
    content_fingerprint,
    packed_strings,
    read_metadata,
    read_tensors,
    replaced_builds,
    unpacked_strings,
    write_tensors,
)
from .trie_onesearch import FEW_SHARE, NONE, Alive, SidTrie, TrieView, checked_codes, restrict

SID_INDEX_NAME = "sid_index.safetensors"
"""File of the item index, beside the weights of a checkpoint."""

SID_UPDATES_NAME = "sid_index_updates.safetensors"
"""File of what was added and removed since, beside the index; see `updates_path`."""

INDEX_FORMAT = "onesearch-sid-index/2"
UPDATES_FORMAT = "onesearch-sid-index-updates/1"

TABLES = ("leaf_of_row", "codes", "popularity", "bucket_rows", "bucket_starts", "category")
"""Arrays of the index, by the name of their attribute and of their tensor on disk."""


@dataclass(frozen=True)
class ItemFilter:
    """The items that a request may get; made by `SidIndex.filter`, good until the index is updated.

    Args:
        mask: (rows,) whether each item passes.
        trie: the SIDs of those items.
        layer: the state of the index that it was made for.
    """

    mask: np.ndarray
    trie: SidTrie | TrieView
    layer: _Layer


@dataclass(frozen=True)
class _Layer:
    """What changed since the index was built. Replaced as a whole, so a search sees either the old or the new catalogue.

    Args:
        ids: of the added items, whose rows follow the base's; None in place of one that was removed again.
        codes, popularity, category: of the added items.
        leaves: (added,) their SIDs: base leaves, then those of the view's added trie.
        removed: (base rows,) True where an item was taken out; None if none was.
        trie: base and added SIDs.
        rows: row of each added item that is still there.
        extra: (2, items) SIDs, ascending, and rows of the added items that are still there.
        revision: number of updates so far.
    """

    ids: tuple[str | None, ...]
    codes: np.ndarray
    popularity: np.ndarray
    category: np.ndarray
    leaves: np.ndarray
    removed: np.ndarray | None
    trie: SidTrie | TrieView
    rows: Mapping[str, int]
    extra: np.ndarray
    revision: int = 0


class SidIndex:
    """The catalogue: item ids, their SIDs, and the order of items that share one.

    Args:
        item_ids: one string per item, no two alike.
        codes: (items, levels) codes.
        popularity: (items,) order inside a SID shared by several items, larger first; equal values keep catalogue order.
        codebook sizes: number of codes of each level.
        fingerprint: fingerprint of the codebooks.
        categories: per item its category path, coarse → fine; what `filter(categories=…)` knows.

    Raises:
        ValueError: counts that do not agree, an item id twice, a code outside its level.
    """

    def __init__(
        self,
        item_ids: Sequence[str],
        codes: np.ndarray,
        popularity: np.ndarray,
        codebook_sizes: Sequence[int],
        fingerprint: str,
        categories: Sequence[Sequence[str]] | None = None,
    ):
        codes = np.asarray(codes)
        popularity = np.asarray(popularity, dtype=np.float32)
        _check_counts(item_ids, codes, popularity, categories)
        self.codebook_sizes = tuple(int(width) for width in codebook_sizes)
        self.fingerprint = fingerprint
        self._ids = ItemIds.of(item_ids)
        trie, self._leaf_of_row = SidTrie.build(codes, self.codebook_sizes)
        self._base = trie
        self._codes = codes.astype(np.int16 if max(self.codebook_sizes) <= 1 << 15 else np.int32)
        self._popularity = popularity
        self._bucket_rows = np.lexsort((-popularity, self._leaf_of_row)).astype(np.int32)
        self._bucket_starts = np.searchsorted(self._leaf_of_row[self._bucket_rows], np.arange(len(trie) + 1)).astype(np.int32)
        self._paths, self._category = CategoryPaths([]).extended(categories, len(codes))
        self._finish()

    def _finish(self) -> None:
        """What building and loading have in common: no updates yet."""
        codes, empty = np.zeros((0, len(self.codebook_sizes)), dtype=self._codes.dtype), np.zeros(0, dtype=np.int32)
        extra = np.zeros((2, 0), dtype=np.int64)
        self._layer = _Layer((), codes, empty.astype(np.float32), empty, empty, None, self._base, {}, extra)
        self._lock = threading.Lock()
        self._build: str | None = None  # names the tables as they lie on disk
        self._revision_on_disk = 0

    # Reading

    def __len__(self) -> int:
        """Number of items, removed ones left out."""
        removed = 0 if self._layer.removed is None else int(self._layer.removed.sum())
        return len(self._codes) - removed + len(self._layer.rows)

    @property
    def trie(self) -> SidTrie | TrieView:
        """Trie of the whole catalogue as it is now."""
        return self._layer.trie

    @property
    def item_ids(self) -> list[str]:
        """All item ids, in catalogue order."""
        now = self.snapshot()
        return [now._id_of(row) for row in now._living_rows().tolist()]

    @property
    def codes(self) -> np.ndarray:
        """(items, levels) codes, in catalogue order."""
        now = self.snapshot()
        return now._codes_at(now._living_rows())

    @property
    def popularity(self) -> np.ndarray:
        """(items,) order inside a SID, in catalogue order."""
        now = self.snapshot()
        return np.concatenate([now._popularity, now._layer.popularity])[now._living_rows()]

    @property
    def categories(self) -> list[str]:
        """Names that `filter(categories=…)` knows."""
        return self._paths.names

    def snapshot(self) -> SidIndex:
        """The catalogue as it is now, for a search that must not see half of an update. Shares all tables."""
        return copy.copy(self)

    def __deepcopy__(self, memo: dict) -> SidIndex:
        """Tables are never changed, so copies of a model share them."""
        other = self.snapshot()
        other._lock = threading.Lock()
        return other

    def sid_of(self, item_id: str) -> tuple[int, ...]:
        """Codes of one item; KeyError names an item that is not in the catalogue."""
        return tuple(self.codes_of([item_id])[0].tolist())

    def codes_of(self, item_ids: Sequence[str]) -> np.ndarray:
        """(items, levels) codes of `item_ids`; KeyError names an item that is not in the catalogue."""
        return self._codes_at(self.rows_of(item_ids))

    def rows_of(self, item_ids: Sequence[str]) -> np.ndarray:
        """(items,) rows of `item_ids`, as masks count them; KeyError names an item that is not in the catalogue."""
        rows = self._find(item_ids)
        if len(rows) and rows.min() < 0:
            missing = item_ids[int(np.argmin(rows))]
            raise KeyError(f"item {missing!r} is not in the catalogue of {len(self):,} items")
        return rows

    def contains(self, item_ids: Sequence[str]) -> np.ndarray:
        """(items,) whether each item is in the catalogue."""
        return self._find(item_ids) >= 0

    def items_of(
        self, leaves: Iterable[int], limit: int = MAX_ITEMS_PER_SID, mask: np.ndarray | None = None
    ) -> list[list[str]]:
        """Items of each SID, most popular first, at most `limit`.

        Args:
            leaves: SIDs as `SidTrie.leaf_of` names them.
            mask: (rows,) items that count; None for all.
        """
        return [[self._id_of(row) for row in self._rows_in(leaf, limit, mask)] for leaf in leaves]

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
        """Expand beams to items, at most `items_per_sid` of each SID, its most popular.

        Args:
            leaves: (queries, beams) SIDs as `SidTrie.leaf_of` names them; scores: (queries, beams), best first; places with leaf -1 or
                score -inf are dropped.
            keep: only items that pass.
            level_scores: (queries, beams, levels), to be shown in the hits.
            rank_by: `sid` keeps the order of the beams, then that of popularity inside a SID; `item` ranks by the probability of each
                item, that of its SID times its share of the SID's popularity, so that the tail of a crowded SID does not stand before the
                next SID.

        Returns:
            Per query at most `top_k` hits, best first, no item twice.
        """
        if rank_by not in RANKINGS:
            raise ValueError(f"rank_by={rank_by!r}: allowed are {', '.join(map(repr, RANKINGS))}")
        alive = ((leaves >= 0) & (scores > -torch.inf)).cpu().numpy()
        leaves, scores = leaves.cpu().numpy(), scores.cpu().tolist()
        mask = None if item_filter is None else self.checked(item_filter).mask
        results = []
        for query in range(len(leaves)):
            found: list[Hit] = []
            for beam in np.flatnonzero(alive[query]).tolist():
                score = scores[query][beam]
                if len(found) >= top_k and found[top_k - 1].score >= score:
                    break
                parts = None if level_scores is None else tuple(level_scores[query, beam].tolist())
                rows = self._rows_in(int(leaves[query, beam]), None if rank_by == "item" else items_per_sid, mask)
                sid = tuple(self._codes_at(np.array(rows[:1], dtype=np.int64)).ravel().tolist())  # that of all of them
                shares = [0.0] * len(rows)
                if rank_by == "item" and len(rows) > 1:
                    shares = log_shares([self._popularity_of(row) for row in rows]).tolist()
                for row, share in zip(rows[:items_per_sid], shares):
                    insort(found, Hit(self._id_of(row), sid, score + share, parts), key=lambda hit: -hit.score)
            results.append(found[:top_k])
        return results

    # Filters

    def filter(
        self,
        items: Sequence[str] | np.ndarray | None = None,
        exclude: Sequence[str] | None = None,
        categories: Sequence[str] | None = None,
    ) -> ItemFilter:
        """The items that pass all of the given conditions, ready for `search(..., item_filter=…)`.

        Args:
            items: allowed items (in stock, of one shop, …): ids, or a boolean mask over `rows_of`.
            exclude: items that must not be found (already bought, …); ids that the catalogue does not have exclude nothing.
            categories: names of categories at any depth; an item passes if one of them is on its path.

        Raises:
            KeyError: an allowed item is not in the catalogue.
            ValueError: an unknown category, a mask of another length, or nothing passes.
        """
        layer = self._layer
        rows = len(self._codes) + len(layer.ids)
        mask = np.zeros(rows, dtype=bool)
        if items is None:
            mask[:] = True
        elif isinstance(items, np.ndarray) and items.dtype == bool:
            if items.shape != (rows,):
                raise ValueError(f"the mask has shape {items.shape}, the catalogue {rows:,} rows")
            mask[:] = items
        else:
            mask[self.rows_of(items)] = True
        if categories is not None:
            mask &= np.isin(np.concatenate([self._category, layer.category]), self._paths.with_any(categories))
        if exclude:
            known = self._find(exclude)
            mask[known[known >= 0]] = False
        if layer.removed is not None:
            mask[: len(self._codes)] &= ~layer.removed
        mask[[len(self._codes) + place for place, item_id in enumerate(layer.ids) if item_id is None]] = False
        kept = torch.from_numpy(self._leaves_with(mask))
        return ItemFilter(mask, restrict(layer.trie, kept.to(layer.trie.device)), layer)

    def _leaves_with(self, mask: np.ndarray) -> np.ndarray:
        """(SIDs,) whether an item of each passes `mask` (rows,)."""
        base, layer = len(self._codes), self._layer
        out = np.flatnonzero(~mask)
        if len(out) > FEW_SHARE * len(mask):
            kept = np.zeros(len(layer.trie), dtype=bool)
            kept[self._leaf_of_row[mask[:base]]] = True
            kept[layer.leaves[mask[base:]]] = True
            return kept
        kept = np.ones(len(layer.trie), dtype=bool)
        leaves = np.concatenate([self._leaf_of_row[out[out < base]], layer.leaves[out[out >= base] - base]])
        leaves, gone = np.unique(leaves[leaves >= 0], return_counts=True)
        kept[leaves[gone == self._bucket_sizes(leaves)]] = False
        return kept

    def _bucket_sizes(self, leaves: np.ndarray) -> np.ndarray:
        """Items of each SID, removed ones of the base and all added ones included."""
        base = len(self._base)
        inside = np.where(leaves < base, leaves, 0)
        sizes = np.where(leaves < base, self._bucket_starts[inside + 1] - self._bucket_starts[inside], 0)
        added = np.sort(self._layer.leaves)
        return sizes + np.searchsorted(added, leaves, side="right") - np.searchsorted(added, leaves, side="left")

    def checked(self, item_filter: ItemFilter) -> ItemFilter:
        """`item_filter` itself, or ValueError if the catalogue has been updated since it was made."""
        if item_filter.layer is not self._layer:
            raise ValueError("the filter was made before the catalogue was updated; make it again with SidIndex.filter")
        return item_filter

    # Updates

    def add_items(
        self,
        item_ids: Sequence[str],
        codes: np.ndarray,
        popularity: np.ndarray | None = None,
        categories: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """Add items, encoded with the same codebooks; the next search finds them. SIDs of other items stay what they are.

        Nothing is written: `save_updates` does that.

        Raises:
            ValueError: an item is in the catalogue already, or the arguments do not fit; nothing is added then.
        """
        item_ids = list(item_ids)
        codes = checked_codes(codes, self.codebook_sizes).astype(self._codes.dtype)
        popularity = np.zeros(len(codes), np.float32) if popularity is None else np.asarray(popularity, dtype=np.float32)
        _check_counts(item_ids, codes, popularity, categories)
        with self._lock:
            twice = [item_id for item_id, row in zip(item_ids, self._find(item_ids)) if row >= 0]
            if twice or len(set(item_ids)) < len(item_ids):
                known = twice[0] if twice else next(one for one in item_ids if item_ids.count(one) > 1)
                raise ValueError(f"item {known!r} is in the catalogue already or given twice; an item keeps its SID")
            layer = self._layer
            self._paths, category = self._paths.extended(categories, len(codes))
            self._set_layer(
                ids=(*layer.ids, *item_ids),
                codes=np.concatenate([layer.codes, codes]),
                popularity=np.concatenate([layer.popularity, popularity]),
                category=np.concatenate([layer.category, category]),
                removed=layer.removed,
                revision=layer.revision + 1,
            )

    def remove_items(self, item_ids: Sequence[str]) -> None:
        """Take items out; the next search does not find them. A SID that no item has any more is not searched.

        Raises:
            KeyError: an item is not in the catalogue; nothing is removed then.
            ValueError: no item would be left.
        """
        with self._lock:
            rows = np.unique(self.rows_of(list(item_ids)))
            if len(rows) == len(self):
                raise ValueError("removing these items would leave an empty catalogue")
            layer, base = self._layer, len(self._codes)
            removed = np.zeros(base, dtype=bool) if layer.removed is None else layer.removed.copy()
            removed[rows[rows < base]] = True
            gone = set((rows[rows >= base] - base).tolist())
            ids = tuple(None if place in gone else item_id for place, item_id in enumerate(layer.ids))
            self._set_layer(ids=ids, removed=removed if removed.any() else None, revision=layer.revision + 1)

    def _set_layer(self, **changes) -> None:  # noqa: ANN003 - fields of _Layer
        """Replace the layer with all that follows from it."""
        layer = replace(self._layer, **changes)
        living = np.array([place for place, item_id in enumerate(layer.ids) if item_id is not None], dtype=np.int64)
        before = self._layer.leaves
        fresh = torch.from_numpy(layer.codes[len(before) :].astype(np.int64)).to(self._base.device)
        leaves = np.where(before < len(self._base), before, NONE)
        leaves = np.concatenate([leaves, self._base.leaf_of(self._base.walk(fresh)).cpu().numpy()])
        new = living[leaves[living] < 0]
        added = None
        if len(new):
            added, own = SidTrie.build(layer.codes[new], self.codebook_sizes)
            added.to(self._base.device)
            leaves[new] = len(self._base) + own
        alive = self._alive(layer, leaves[living])
        trie = self._base if added is None and alive is None else TrieView(self._base, alive, added)
        rows = dict(zip(layer.ids, range(len(self._codes), len(self._codes) + len(layer.ids))))
        rows.pop(None, None)
        extra = np.stack([leaves[living], len(self._codes) + living])[:, leaves[living].argsort(kind="stable")]
        self._layer = replace(layer, leaves=leaves, trie=trie, rows=rows, extra=extra)

    def _alive(self, layer: _Layer, added: np.ndarray) -> Alive | None:
        """Marks of the base's SIDs that an item still has; None while no item was removed. `added`: SIDs of the added items."""
        if layer.removed is None:
            return None
        leaves, gone = np.unique(self._leaf_of_row[np.flatnonzero(layer.removed)], return_counts=True)
        emptied = leaves[gone == self._bucket_starts[leaves + 1] - self._bucket_starts[leaves]]
        dead = torch.from_numpy(np.setdiff1d(emptied, added).astype(np.int64)).to(self._base.device)
        everything = Alive.everything(self._base)
        if len(dead) < FEW_SHARE * len(self._base):
            return everything.without(self._base, dead)
        everything.leaves[dead] = False
        return Alive.of(self._base, everything.leaves)

    # Files

    def save(self, path: str | os.PathLike) -> None:
        """Write the index; the file appears whole or not at all. Updates are merged first, which numbers the rows anew."""
        path = Path(path)
        with self._lock:
            if self._layer.revision:
                self._merge()
            tensors = self._tensors()
            build = content_fingerprint(tensors)
            metadata = {
                "format": INDEX_FORMAT,
                "codebook_sizes": json.dumps(self.codebook_sizes),
                "fingerprint": self.fingerprint,
                "build": build,
            }
            metadata["replaces"] = json.dumps(replaced_builds(path))
            write_tensors(path, tensors, metadata)
            updates_path(path).unlink(missing_ok=True)
            self._build, self._revision_on_disk = build, 0

    def save_updates(self, path: str | os.PathLike) -> None:
        """Write what was added and removed since the index at `path` was written, beside it: milliseconds, whatever the catalogue's
        size. A process that dies leaves the updates before or these.

        Raises:
            ValueError: the index at `path` is another one, or another process has updated it meanwhile.
        """
        path = Path(path)
        with self._lock:
            if not path.is_file() or self._build is None or read_metadata(path).get("build") != self._build:
                raise ValueError(f"{path} is not the index that these updates belong to; write it whole with SidIndex.save")
            updates = updates_path(path)
            on_disk = read_metadata(updates) if updates.is_file() else {}
            revision = int(on_disk.get("revision", 0)) if on_disk.get("base") == self._build else 0
            if revision != self._revision_on_disk:
                raise ValueError(
                    f"{updates} was written by another process meanwhile; load the index again and repeat the update"
                )
            layer = self._layer
            tensors = {
                **packed_strings("ids", ["" if item_id is None else item_id for item_id in layer.ids]),
                **self._paths.arrays("paths"),
                "living": np.array([item_id is not None for item_id in layer.ids], dtype=np.uint8),
                "codes": layer.codes,
                "popularity": layer.popularity,
                "category": layer.category,
                "removed": np.zeros(0, np.int32) if layer.removed is None else np.flatnonzero(layer.removed).astype(np.int32),
            }
            metadata = {"format": UPDATES_FORMAT, "base": self._build, "revision": str(layer.revision)}
            write_tensors(
                updates, {name: torch.from_numpy(np.ascontiguousarray(table)) for name, table in tensors.items()}, metadata
            )
            self._revision_on_disk = layer.revision

    @classmethod
    def load(cls, path: str | os.PathLike) -> SidIndex:
        """Map an index into memory, with the updates beside it.

        Raises:
            FileNotFoundError, ValueError: a file is missing, damaged or of another format; the message holds its path.
        """
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{path} does not exist; build it with `onesearch sids build`")
        tensors, metadata = read_tensors(path, INDEX_FORMAT)
        index = cls.__new__(cls)
        index.codebook_sizes, index.fingerprint = tuple(json.loads(metadata["codebook_sizes"])), metadata["fingerprint"]
        trie = {name.removeprefix("trie."): table for name, table in tensors.items() if name.startswith("trie.")}
        index._base = SidTrie.from_tensors(trie, index.codebook_sizes)
        arrays = {name: table.numpy() for name, table in tensors.items() if not name.startswith("trie.")}
        for name in TABLES:
            setattr(index, f"_{name}", arrays[name])
        index._ids = ItemIds(*(arrays[name] for name in ("ids.data", "ids.ends", "ids.hashes", "ids.rows")))
        index._paths = CategoryPaths.of_arrays("paths", arrays)
        index._finish()
        index._build = metadata["build"]
        index._load_updates(updates_path(Path(path)), json.loads(metadata["replaces"]))
        return index

    def _load_updates(self, path: Path, replaced: Sequence[str]) -> None:
        if not path.is_file():
            return
        tensors, metadata = read_tensors(path, UPDATES_FORMAT)
        if metadata["base"] != self._build:
            if metadata["base"] in replaced:  # merged, and the process died before it could delete them
                return
            raise ValueError(
                f"{path} belongs to another item index than the one beside it; copy both from one place, or delete it"
            )
        arrays = {name: table.numpy() for name, table in tensors.items()}
        removed = None
        if len(arrays["removed"]):
            removed = np.zeros(len(self._codes), dtype=bool)
            removed[arrays["removed"]] = True
        self._paths = CategoryPaths.of_arrays("paths", arrays)
        ids = [item_id if living else None for item_id, living in zip(unpacked_strings("ids", arrays), arrays["living"])]
        self._revision_on_disk = int(metadata["revision"])
        own = {name: arrays[name] for name in ("codes", "popularity", "category")}
        self._set_layer(ids=tuple(ids), removed=removed, revision=self._revision_on_disk, **own)

    def _tensors(self) -> dict[str, torch.Tensor]:
        tables = {name: getattr(self, f"_{name}") for name in TABLES}
        tables |= {f"ids.{name}": getattr(self._ids, name) for name in ("data", "ends", "hashes", "rows")}
        tables |= self._paths.arrays("paths")
        tensors = {name: torch.from_numpy(np.ascontiguousarray(table)) for name, table in tables.items()}
        return tensors | {f"trie.{name}": table.cpu() for name, table in self._base.tensors().items()}

    def _merge(self) -> None:
        """Build the tables anew from the living items."""
        rows = self._living_rows()
        category = np.concatenate([self._category, self._layer.category])[rows]
        paths = [self._paths[place] for place in category.tolist()]
        merged = SidIndex(self.item_ids, self.codes, self.popularity, self.codebook_sizes, self.fingerprint, paths)
        merged._base.to(self._base.device)
        merged._lock = self._lock
        self.__dict__.update(merged.__dict__)

    # Rows: the base's items, then the added ones

    def _living_rows(self) -> np.ndarray:
        layer = self._layer
        base = np.arange(len(self._codes)) if layer.removed is None else np.flatnonzero(~layer.removed)
        return np.concatenate([base, np.array(list(self._layer.rows.values()), dtype=np.int64)])

    def _find(self, item_ids: Sequence[str]) -> np.ndarray:
        """(n,) rows, -1 for an item that is not in the catalogue."""
        rows = self._ids.find(item_ids)
        removed, added = self._layer.removed, self._layer.rows
        if removed is not None:
            rows = np.where((rows >= 0) & ~removed[rows], rows, -1)
        if added:
            rows = np.array([added.get(item_id, row) for item_id, row in zip(item_ids, rows.tolist())], dtype=np.int64)
        return rows

    def _id_of(self, row: int) -> str:
        base = len(self._codes)
        return self._ids[row] if row < base else self._layer.ids[row - base]

    def _codes_at(self, rows: np.ndarray) -> np.ndarray:
        base = len(self._codes)
        if not len(self._layer.ids):
            return self._codes[rows].astype(np.int64)
        own = self._codes[np.where(rows < base, rows, 0)]
        more = self._layer.codes[np.where(rows < base, 0, rows - base)]
        return np.where((rows < base)[:, None], own, more).astype(np.int64)

    def _rows_in(self, leaf: int, limit: int | None, mask: np.ndarray | None) -> list[int]:
        """Rows of the items of one SID, most popular first."""
        layer, base = self._layer, len(self._base)
        rows = self._bucket_rows[self._bucket_starts[leaf] : self._bucket_starts[leaf + 1]] if leaf < base else np.zeros(0, int)
        if layer.removed is not None:
            rows = rows[~layer.removed[rows]]
        first, stop = np.searchsorted(layer.extra[0], (leaf, leaf + 1))
        if first < stop:
            rows = np.concatenate([rows, layer.extra[1, first:stop]])
            popularity = [self._popularity_of(row) for row in rows.tolist()]
            rows = rows[np.lexsort((rows, np.negative(popularity)))]
        if mask is not None:
            rows = rows[mask[rows]]
        return rows[:limit].tolist()

    def _popularity_of(self, row: int) -> float:
        base = len(self._codes)
        return float(self._popularity[row] if row < base else self._layer.popularity[row - base])


def updates_path(index: Path) -> Path:
    """Where the updates of the index at that path lie."""
    return index.with_name(f"{index.stem}_updates{index.suffix}")


def _check_counts(item_ids: Sequence[str], codes: np.ndarray, popularity: np.ndarray, categories: Sequence | None) -> None:
    if not len(item_ids) == len(codes) == len(popularity):
        raise ValueError(f"{len(item_ids)} item ids, {len(codes)} SIDs and {len(popularity)} popularities: counts must agree")
    if categories is not None and len(categories) != len(codes):
        raise ValueError(f"{len(categories)} category paths for {len(codes)} items: counts must agree")


__all__ = ["MAX_ITEMS_PER_SID", "SID_INDEX_NAME", "SID_UPDATES_NAME", "Hit", "ItemFilter", "SidIndex"]
