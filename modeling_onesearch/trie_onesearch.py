"""The trie of all Semantic IDs: compressed rows over level-local codes, cut off where a single SID is left.

A prefix that at least two SIDs share is an inner node; a prefix that one SID has alone is that SID's leaf, and the rest of it is read from
a table instead of being searched. In real catalogues most SIDs are alone after two or three codes.
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

NONE = -1
"""State of a prefix that no SID has."""

ROOT = 0
"""State of the empty prefix."""

SUBSET_SHARE = 0.03
"""A filter that keeps a smaller share of the SIDs gets a trie of its own, a larger one marks what it keeps (measured; ours)."""


class SidTrie:
    """Prefix tree of a set of SIDs.

    The children of an inner node are two contiguous runs of one table, first those that branch on, then leaves, each in the order of
    their codes; a child is known by its place in the run and needs no pointer. A prefix is named by its *state*: `node ≥ 0` for an
    inner node of its level, `-1` for a prefix of no SID, `-2 - leaf` for a prefix that only the SID `leaf` has.

    Args:
        codes: (SIDs, levels) integers, in any order, duplicates allowed. About 30 bytes per SID are needed while building.
        codebook sizes: number of codes of each level.
        leaf_ids: (SIDs,) what `leaf_of` and `sids_of` call the SID of each row; without it leaves are numbered 0, 1, … in an order of
            their own. Of several rows with the same codes the first one names the leaf.

    Raises:
        ValueError: no SID at all, or a code outside its level.
    """

    def __init__(self, codes: np.ndarray, codebook_sizes: Sequence[int], leaf_ids: np.ndarray | None = None):
        self.codebook_sizes = tuple(int(width) for width in codebook_sizes)
        sids = _SortedSids(checked_codes(codes, self.codebook_sizes), self.codebook_sizes, keep_order=leaf_ids is not None)
        rows = self._set_tables(sids)
        if leaf_ids is not None:
            self.leaf_ids = torch.from_numpy(np.asarray(leaf_ids, dtype=np.int64)[sids.origin[rows]])

    @classmethod
    def build(cls, codes: np.ndarray, codebook_sizes: Sequence[int]) -> tuple[SidTrie, np.ndarray]:
        """A trie and the leaf of every row of `codes`: (rows,) int32."""
        trie = cls.__new__(cls)
        trie.codebook_sizes = tuple(int(width) for width in codebook_sizes)
        sids = _SortedSids(checked_codes(codes, trie.codebook_sizes), trie.codebook_sizes, keep_order=True)
        rows = trie._set_tables(sids)
        leaf_of_sid = np.empty(len(rows), dtype=np.int32)
        leaf_of_sid[rows] = np.arange(len(rows), dtype=np.int32)
        return trie, sids.spread(leaf_of_sid)

    def _set_tables(self, sids: _SortedSids) -> np.ndarray:
        """Fill the tables; returns the sorted row of every leaf."""
        self.codes, self.inner_starts, self.leaf_starts, rows = _build_tables(sids, self.codebook_sizes)
        self._finish()
        return rows

    def _finish(self) -> None:
        self.leaf_ids: torch.Tensor | None = None
        self._root: torch.Tensor | None = None
        self._settled = [int(starts[-1]) for starts in self.leaf_starts]  # leaves settled at each level or before

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor], codebook_sizes: Sequence[int]) -> SidTrie:
        """The trie that `tensors()` was taken from; memory-mapped tensors stay so."""
        trie = cls.__new__(cls)
        trie.codebook_sizes = tuple(int(width) for width in codebook_sizes)
        levels = range(len(trie.codebook_sizes))
        trie.codes = [tensors[f"codes.{level}"] for level in levels]
        trie.inner_starts = [tensors[f"inner_starts.{level}"] for level in levels]
        trie.leaf_starts = [tensors[f"leaf_starts.{level}"] for level in levels]
        trie._finish()
        return trie

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tables by name, for a file."""
        named = {"codes": self.codes, "inner_starts": self.inner_starts, "leaf_starts": self.leaf_starts}
        return {f"{name}.{level}": table for name, tables in named.items() for level, table in enumerate(tables)}

    @property
    def levels(self) -> int:
        """Codes in one SID."""
        return len(self.codebook_sizes)

    def __len__(self) -> int:
        """Number of distinct SIDs."""
        return self._leaves_until(self.levels - 1)

    @property
    def nbytes(self) -> int:
        """Bytes of the tables, without the dense row of the first level (8 bytes per code)."""
        return sum(table.nbytes for table in self.tensors().values())

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return self.codes[0].device

    def to(self, device: torch.device | str) -> SidTrie:
        """Move the tables to `device`, in place."""
        device = torch.device(device)
        if device.type == self.device.type and device.index in (None, self.device.index):
            return self
        for tables in (self.codes, self.inner_starts, self.leaf_starts):
            tables[:] = [table.to(device) for table in tables]
        self.leaf_ids = None if self.leaf_ids is None else self.leaf_ids.to(device)
        self._root = None
        return self

    def layers(self) -> tuple[SidTrie, Alive | None, SidTrie | None]:
        """What a search walks: this trie, whole, and nothing added. See `TrieView.layers`."""
        return self, None, None

    def level_tables(self, level: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Starts of inner children and of leaves, codes, and the number of inner nodes, as `kernels_onesearch.advance` takes them."""
        tables = (self.inner_starts[level], self.leaf_starts[level], self.codes[level])
        return *(table.numpy() for table in tables), self._inner_count(level)

    def is_open(self, states: torch.Tensor) -> torch.Tensor:
        """Where at least two SIDs have the prefix, so that something is left to decide."""
        return states >= 0

    def expand(self, level: int, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """All children of `states` in one ragged gather.

        Args:
            level: level of the children, 0 for those of the root.
            states: (rows,) states of prefixes of `level` codes.

        Returns:
            For every child the row of its parent (ascending), its code and its state, each (children,) int64.
        """
        inner = self._inner_count(level)
        node = states.clamp(min=0)
        alive = (states >= 0).long()
        settled = states <= -2
        start = torch.stack([self.inner_starts[level][node], self.leaf_starts[level][node]], 1).long()
        stop = torch.stack([self.inner_starts[level][node + 1], self.leaf_starts[level][node + 1]], 1).long()
        degree = (stop - start) * alive[:, None]
        start[:, 1] += inner
        if bool(settled.any()):  # the next code of a SID that is alone
            start[:, 1] = torch.where(settled, inner - 2 - states, start[:, 1])
            degree[:, 1] += settled
        start, degree = start.view(-1), degree.view(-1)
        total = int(degree.sum())
        run = torch.repeat_interleave(degree, output_size=total)  # number of the run that each child is in
        shift = start - (degree.cumsum(0) - degree)
        place = torch.arange(total, device=states.device) + shift.index_select(0, run)
        state = torch.where(place < inner, place, inner - 2 - place)
        return run >> 1, self.codes[level].index_select(0, place).long(), state

    def walk(self, codes: torch.Tensor) -> torch.Tensor:
        """State of each prefix.

        Args:
            codes: (rows, depth) level-local codes, depth from 0 to `levels`.
        """
        states = self.start(len(codes))
        for level in range(codes.shape[1]):
            states = self.child(level, states, codes[:, level])
        return states

    def start(self, rows: int) -> torch.Tensor:
        """State of the empty prefix, `rows` times."""
        return torch.full((rows,), ROOT, dtype=torch.long, device=self.device)

    def child(self, level: int, states: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """State of `states`, each extended by its code of `level`; (rows,)."""
        if level == 0:
            known = (codes >= 0) & (codes < self.codebook_sizes[0]) & (states != NONE)
            return torch.where(known, self._first_level()[codes.clamp(0, self.codebook_sizes[0] - 1)], NONE)
        inner = self._inner_count(level)
        node = states.clamp(min=0)
        alive = states >= 0
        starts = torch.cat([self.inner_starts[level][node], self.leaf_starts[level][node] + inner]).long()
        stops = torch.cat([self.inner_starts[level][node + 1], self.leaf_starts[level][node + 1] + inner]).long()
        branch, leaf = _bisect(self.codes[level], starts, stops, codes.repeat(2)).chunk(2)
        found = torch.where(branch >= 0, branch, torch.where(leaf >= 0, inner - 2 - leaf, NONE))
        tail = (inner - 2 - states).clamp(0, len(self.codes[level]) - 1)
        same = (states <= -2) & (self.codes[level][tail] == codes)
        return torch.where(alive, found, torch.where(same, states, NONE))

    def leaf_of(self, states: torch.Tensor) -> torch.Tensor:
        """The SID of each state, -1 where a prefix has none or several; same shape."""
        leaf = torch.where(states <= -2, -2 - states, NONE)
        if self.leaf_ids is None:
            return leaf
        return torch.where(leaf >= 0, self.leaf_ids[leaf.clamp(min=0)], NONE)

    def sids_of(self, leaves: torch.Tensor) -> torch.Tensor:
        """Codes of SIDs: (n,) leaves, numbered 0 … len - 1 → (n, levels). A negative leaf gives -1 throughout."""
        last = self.levels - 1
        codes = torch.full((len(leaves), self.levels), NONE, dtype=torch.long, device=leaves.device)
        node = torch.full_like(leaves, NONE)  # inner node that the SID passes at the level below, once it has left its tail
        for level in range(last, -1, -1):
            inner = self._inner_count(level)
            settled = (leaves >= 0) & (leaves < self._leaves_until(level))
            place = torch.where(settled, inner + leaves, node).clamp(min=0)
            codes[:, level] = torch.where(leaves >= 0, self.codes[level][place].long(), NONE)
            born = settled & (leaves >= self._leaves_until(level - 1))  # its run is at this level, its parent the level before
            node = torch.where(born, _parent(self.leaf_starts[level], leaves), _parent(self.inner_starts[level], node))
        return codes

    def subset(self, leaves: torch.Tensor) -> SidTrie:
        """A trie of some SIDs, which keep their names; ValueError if there are none."""
        return SidTrie(self.sids_of(leaves).cpu().numpy(), self.codebook_sizes, leaves.cpu().numpy()).to(self.device)

    def parents(self, level: int, places: torch.Tensor, leaves: bool) -> torch.Tensor:
        """Inner nodes of `level - 1` above inner nodes of `level`, or above leaves settled at `level`."""
        return _parent((self.leaf_starts if leaves else self.inner_starts)[level], places)

    def _inner_count(self, level: int) -> int:
        """Inner nodes of a level; they come first in its table of codes."""
        return len(self.codes[level]) - self._settled[level]

    def _leaves_until(self, level: int) -> int:
        """Leaves settled at this level or before: they have a code at this level."""
        return self._settled[level] if level >= 0 else 0

    def _first_level(self) -> torch.Tensor:
        """(width,) state of every code of level 0: the dense row that spares a bisection over thousands of children."""
        if self._root is None:
            _, codes, states = self.expand(0, torch.tensor([ROOT], device=self.device))
            row = torch.full((self.codebook_sizes[0],), NONE, dtype=torch.long, device=self.device)
            row[codes] = states
            self._root = row
        return self._root


FEW_SHARE = 0.01
"""Up to this share of the SIDs is taken out path by path, more by marking the whole trie anew (ours)."""


@dataclass(frozen=True)
class Alive:
    """Which part of a trie counts.

    Args:
        inner: per level, (inner nodes,) whether a living SID is below.
        leaves: (SIDs,) whether the SID lives.
    """

    inner: list[torch.Tensor]
    leaves: torch.Tensor

    @classmethod
    def of(cls, trie: SidTrie, leaves: torch.Tensor) -> Alive:
        """Mark the paths to the living `leaves` (SIDs,), from the last level upwards."""
        inner: list[torch.Tensor] = [leaves.new_zeros(0)] * trie.levels
        counted = _running_count(leaves)
        for level in range(trie.levels - 1, 0, -1):
            below = _run_counts(counted, trie.leaf_starts[level]) + _run_counts(
                _running_count(inner[level]), trie.inner_starts[level]
            )
            inner[level - 1] = below > 0
        return cls(inner, leaves)

    @classmethod
    def everything(cls, trie: SidTrie) -> Alive:
        """Marks of a trie of which all counts."""
        counts = [trie._inner_count(level) for level in range(trie.levels)]
        marks = [torch.ones(count, dtype=torch.bool, device=trie.device) for count in (*counts, len(trie))]
        return cls(marks[:-1], marks[-1])

    def without(self, trie: SidTrie, dead: torch.Tensor) -> Alive:
        """Take `dead` SIDs (n,) out; only the nodes above them are looked at."""
        leaves = self.leaves.clone()
        leaves[dead] = False
        inner = [marks.clone() for marks in self.inner]
        changed = Alive(inner, leaves)
        above = dead.new_zeros(0)
        for level in range(trie.levels - 1, 0, -1):
            settled = dead[(dead >= trie._leaves_until(level - 1)) & (dead < trie._leaves_until(level))]
            above = torch.cat([trie.parents(level, settled, True), trie.parents(level, above, False)]).unique()
            row, _, state = trie.expand(level, above)
            living = torch.zeros(len(above), dtype=torch.bool, device=dead.device)
            living[row[changed.keeps(level, state)]] = True
            above = above[~living]
            inner[level - 1][above] = False
        return changed

    def keeps(self, level: int, states: torch.Tensor) -> torch.Tensor:
        """Whether each state of `level` counts."""
        leaf = self.leaves[(-2 - states).clamp(min=0)]
        if not len(self.inner[level]):
            return leaf & (states <= -2)
        return torch.where(states >= 0, self.inner[level][states.clamp(min=0)], leaf & (states <= -2))

    def to(self, device: torch.device | str) -> Alive:
        """A copy on `device`."""
        return Alive([marks.to(device) for marks in self.inner], self.leaves.to(device))


class TrieView:
    """A large trie without the SIDs that do not count, with those that were added since it was built. Reads like a [`SidTrie`].

    The SIDs of `added` follow those of `base` in number. While both have a prefix its state holds the states of both, `base` in the
    upper 32 bits.

    Args:
        base: the large trie; it is never changed.
        alive: what counts of it; None for all.
        added: further SIDs, none of which is in `base`; None for no such.
    """

    def __init__(self, base: SidTrie, alive: Alive | None = None, added: SidTrie | None = None):
        self.base = base
        self.alive = alive
        self.added = added
        self.codebook_sizes = base.codebook_sizes

    levels = SidTrie.levels

    def __len__(self) -> int:
        """Number of SIDs, those that do not count included."""
        return len(self.base) + (len(self.added) if self.added is not None else 0)

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return self.base.device

    def to(self, device: torch.device | str) -> TrieView:
        """Move the tables to `device`, in place."""
        self.base.to(device)
        self.alive = None if self.alive is None else self.alive.to(device)
        self.added = None if self.added is None else self.added.to(device)
        return self

    def layers(self) -> tuple[SidTrie, Alive | None, SidTrie | None]:
        """The parts, for a search that reads their tables itself."""
        return self.base, self.alive, self.added

    def is_open(self, states: torch.Tensor) -> torch.Tensor:
        """See `SidTrie.is_open`. A prefix whose other SIDs do not count stays open: that costs time, not correctness."""
        if self.added is None:
            return states >= 0
        base, added = unpack(states)
        return (base >= 0) | (added >= 0) | ((base <= -2) & (added <= -2))

    def expand(self, level: int, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See `SidTrie.expand`."""
        if self.added is None:
            return self._expand_base(level, states)
        base, added = unpack(states)
        row, code, state = self._expand_base(level, base)
        added_row, added_code, added_state = self.added.expand(level, added)
        if not len(added_row):
            return row, code, pack(state, torch.full_like(state, NONE))
        touched = torch.zeros(len(states), dtype=torch.bool, device=states.device)
        touched[added_row] = True
        mine = touched[row]  # children of a prefix that both have: merge them by code
        rows, codes = torch.cat([row[mine], added_row]), torch.cat([code[mine], added_code])
        width = self.codebook_sizes[level]
        keys, place = torch.unique(rows * width + codes, return_inverse=True)
        merged = torch.full((2, len(keys)), NONE, dtype=torch.long, device=states.device)
        count = int(mine.sum())
        merged[0, place[:count]], merged[1, place[count:]] = state[mine], added_state
        row = torch.cat([row[~mine], keys // width])
        order = row.argsort(stable=True)
        code = torch.cat([code[~mine], keys % width])
        state = torch.cat([pack(state[~mine], torch.full_like(state[~mine], NONE)), pack(merged[0], merged[1])])
        return row[order], code[order], state[order]

    def _expand_base(self, level: int, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        row, code, state = self.base.expand(level, states)
        if self.alive is None:
            return row, code, state
        kept = self.alive.keeps(level, state)
        return row[kept], code[kept], state[kept]

    walk = SidTrie.walk

    def start(self, rows: int) -> torch.Tensor:
        """See `SidTrie.start`."""
        base = self.base.start(rows)
        return base if self.added is None else pack(base, self.added.start(rows))

    def child(self, level: int, states: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """See `SidTrie.child`."""
        base, added = (states, None) if self.added is None else unpack(states)
        base = self.base.child(level, base, codes)
        if self.alive is not None:
            base = torch.where((base != NONE) & self.alive.keeps(level, base), base, NONE)
        return base if added is None else pack(base, self.added.child(level, added, codes))

    def leaf_of(self, states: torch.Tensor) -> torch.Tensor:
        """See `SidTrie.leaf_of`."""
        if self.added is None:
            return self.base.leaf_of(states)
        base, added = (part.leaf_of(own) for part, own in zip((self.base, self.added), unpack(states)))
        leaf = torch.where(base >= 0, base, torch.where(added >= 0, len(self.base) + added, NONE))
        return leaf.masked_fill(self.is_open(states), NONE)  # a leaf in each of the two tries

    subset = SidTrie.subset

    def sids_of(self, leaves: torch.Tensor) -> torch.Tensor:
        """See `SidTrie.sids_of`."""
        if self.added is None:
            return self.base.sids_of(leaves)
        is_base = leaves < len(self.base)
        base = self.base.sids_of(torch.where(is_base, leaves, NONE))
        added = self.added.sids_of(torch.where(is_base, NONE, leaves - len(self.base)))
        return torch.where(is_base[:, None], base, added)


def restrict(trie: SidTrie | TrieView, kept: torch.Tensor) -> SidTrie | TrieView:
    """The SIDs of `trie` that pass a filter. Their names stay, so `leaf_of` speaks of the unfiltered trie.

    Args:
        kept: (SIDs,) whether each SID stays.

    Raises:
        ValueError: none does.
    """
    base, alive, added = trie.layers()
    base_kept = kept[: len(base)] if alive is None else kept[: len(base)] & alive.leaves
    added_kept = kept[len(base) :].nonzero()[:, 0]
    count = int(base_kept.sum()) + len(added_kept)
    if not count:
        raise ValueError("the filter keeps no item of the catalogue; allow more")
    if count < SUBSET_SHARE * len(kept):
        return trie.subset(torch.cat([base_kept.nonzero()[:, 0], len(base) + added_kept]))
    marks = alive or Alive.everything(base)
    dead = marks.leaves & ~base_kept
    few = int(dead.sum()) < FEW_SHARE * len(base)
    marks = marks.without(base, dead.nonzero()[:, 0]) if few else Alive.of(base, base_kept)
    return TrieView(base, marks, added.subset(added_kept) if len(added_kept) else None)


def pack(base: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    """Two states in one int64."""
    return (base << 32) | (added & 0xFFFFFFFF)


def unpack(states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The two states that `pack` put together."""
    return states >> 32, ((states & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000


class _SortedSids:
    """The distinct rows of a table of codes in lexicographic order, packed into one integer each where they fit.

    Args:
        keep_order: remember where the rows came from (`origin`, `spread`); costs a slower sort.
    """

    def __init__(self, codes: np.ndarray, codebook_sizes: Sequence[int], keep_order: bool):
        bits = [(width - 1).bit_length() for width in codebook_sizes]
        self.levels = len(codebook_sizes)
        self.shifts = [sum(bits[level + 1 :]) for level in range(self.levels)]
        self.masks = [(1 << count) - 1 for count in bits]
        self.packed = sum(bits) < 64
        self.order = None
        if not self.packed:
            self.order = np.lexsort(codes.T[::-1])
            rows = np.ascontiguousarray(codes[self.order])
            self.new = np.append(True, (rows[1:] != rows[:-1]).any(axis=1))
        else:
            rows = np.zeros(len(codes), dtype=np.int64)
            for level, shift in enumerate(self.shifts):
                rows |= codes[:, level].astype(np.int64) << shift
            if keep_order:
                self.order = np.argsort(rows, kind="stable")
                rows = rows[self.order]
            elif not (rows[1:] > rows[:-1]).all():
                rows.sort()
            self.new = np.append(True, rows[1:] != rows[:-1])
        self.rows = rows if self.new.all() else rows[self.new]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def origin(self) -> np.ndarray:
        """(SIDs,) first row of the table that has each SID."""
        return self.order[self.new]

    def spread(self, values: np.ndarray) -> np.ndarray:
        """One value per SID → one per row of the table."""
        spread = np.empty(len(self.order), dtype=values.dtype)
        spread[self.order] = values[np.cumsum(self.new) - 1]
        return spread

    def column(self, level: int, rows: np.ndarray) -> np.ndarray:
        """Codes of one level of the SIDs at `rows`."""
        return (self.rows[rows] >> self.shifts[level]) & self.masks[level] if self.packed else self.rows[rows, level]

    def shared(self) -> np.ndarray:
        """(SIDs - 1,) uint8: number of first levels, short of the last, that each SID has in common with the next one."""
        count = np.zeros(len(self) - 1, dtype=np.uint8)
        if self.packed:
            differs = self.rows[1:] ^ self.rows[:-1]
            for shift in self.shifts[:-1]:
                count += differs < (1 << shift)
            return count
        same = np.ones(len(self) - 1, dtype=bool)
        for level in range(self.levels - 1):
            same &= self.rows[1:, level] == self.rows[:-1, level]
            count += same
        return count


def _build_tables(sids: _SortedSids, codebook_sizes: Sequence[int]):  # noqa: ANN202 - four tables of SidTrie
    """Codes, starts of inner children and of leaves per level, and the row of every leaf. A SID settles at the first level at which it
    differs from both its neighbours; a prefix starts an inner node where the row before differs and the row after does not."""
    shared = sids.shared()
    before, after = np.append(np.uint8(0), shared), np.append(shared, np.uint8(0))
    settled = np.maximum(before, after)
    leaf_rows = [np.flatnonzero(settled == level) for level in range(sids.levels)]
    inner_rows = [np.flatnonzero((before <= level) & (after > level)) for level in range(sids.levels)]
    del shared, before, after, settled
    all_leaves = np.concatenate(leaf_rows)
    codes, inner_starts, leaf_starts = [], [], []
    parents, leaves = np.zeros(1, dtype=np.int64), 0
    for level, width in enumerate(codebook_sizes):
        inner_starts.append(_starts(inner_rows[level], parents, 0))
        leaf_starts.append(_starts(leaf_rows[level], parents, leaves))
        leaves += len(leaf_rows[level])
        own = [sids.column(level, rows).astype(_narrowest(width)) for rows in (inner_rows[level], all_leaves[:leaves])]
        codes.append(torch.from_numpy(np.concatenate(own)))
        parents = inner_rows[level]
    return codes, inner_starts, leaf_starts, all_leaves


def _starts(rows: np.ndarray, parents: np.ndarray, first: int) -> torch.Tensor:
    """(parents + 1,) int32, at least two: where the run of each parent begins among `rows`, which are numbered from `first`."""
    starts = np.append(np.searchsorted(rows, parents), [len(rows)] * (1 if len(parents) else 2))
    return torch.from_numpy((starts + first).astype(np.int32))


def _narrowest(width: int) -> type:
    return (
        np.int16 if width <= 1 << 15 else np.int32
    )  # bytes would do for most levels, but the kernel is compiled once per type


def _bisect(table: torch.Tensor, low: torch.Tensor, stop: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Place of each wanted value in its ascending run [low, stop) of the table, -1 if it is not there; all rows at once."""
    last = len(table) - 1
    high = stop
    widest = int((stop - low).max()) if len(low) else 0
    for _ in range(widest.bit_length()):
        middle = (low + high) >> 1
        less = (table.index_select(0, middle.clamp(max=last)) < wanted) & (low < high)
        low = torch.where(less, middle + 1, low)
        high = torch.where(less, high, torch.minimum(middle, high))
    found = (low < stop) & (table.index_select(0, low.clamp(max=last)) == wanted)
    return torch.where(found, low, NONE)


def _parent(starts: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Run that each place is in. Empty runs share their start with the next one, which is the one meant."""
    return torch.searchsorted(starts, places.to(starts.dtype), right=True) - 1


def _running_count(marks: torch.Tensor) -> torch.Tensor:
    """(n + 1,) how many marks precede each place."""
    count = torch.zeros(len(marks) + 1, dtype=torch.int32, device=marks.device)
    torch.cumsum(marks, 0, dtype=torch.int32, out=count[1:])
    return count


def _run_counts(counted: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """Marks in each run."""
    at = counted[starts.long()]
    return at[1:] - at[:-1]


def checked_codes(codes: np.ndarray, codebook_sizes: Sequence[int]) -> np.ndarray:
    """`codes` as an integer array (items, levels), or ValueError naming the first entry that does not fit."""
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.shape[1] != len(codebook_sizes):
        raise ValueError(
            f"codes have shape {codes.shape}, expected (items, {len(codebook_sizes)}) for codebook sizes {tuple(codebook_sizes)}"
        )
    if not len(codes):
        raise ValueError("the catalogue holds no item: a trie needs at least one SID")
    if codes.dtype.kind not in "iu":
        raise ValueError(f"codes are {codes.dtype}, expected integers")
    for level, width in enumerate(codebook_sizes):
        column = codes[:, level]
        if column.min() < 0 or column.max() >= width:
            row = int(np.argmax((column < 0) | (column >= width)))
            raise ValueError(f"item {row}: code {column[row]} at level {level} is outside 0..{width - 1}")
    return codes


__all__ = ["NONE", "ROOT", "Alive", "SidTrie", "TrieView", "checked_codes", "pack", "restrict", "unpack"]
