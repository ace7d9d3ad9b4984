"""The trie of all Semantic IDs: compressed rows over the codes of each level, cut off where a single SID is left.

A prefix that at least two SIDs share is an inner node. A prefix that only one SID has is *finished*: it is that SID's leaf, and the rest of
the SID is read from a table instead of being searched. In real catalogues most SIDs are alone after two or three codes.
Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from .trie_building_onesearch import SortedSids, TrieLevel, build_levels, checked_codes

NONE = -1
"""State of a prefix that no SID has."""

ROOT = 0
"""State of the empty prefix."""


class Children(NamedTuple):
    """All children of a list of prefixes.

    Args:
        rows: (children,) int64, ascending, the row of the prefix that each child extends.
        codes: (children,) int64, the code of each child.
        states: (children,) int64, the state of each child.
    """

    rows: torch.Tensor
    codes: torch.Tensor
    states: torch.Tensor


class Trie(ABC):
    """A set of SIDs that is searched level by level. `SidTrie` holds the tables, `TrieView` shows a part of one with additions.

    A prefix is named by its *state*, an integer. `NONE` (-1) is a prefix that no SID has; `start` gives the state of the empty prefix, and
    `child`, `walk` and `expand` give those of longer ones.

    Args:
        codebook_sizes: number of codes of each level.
    """

    def __init__(self, codebook_sizes: Sequence[int]) -> None:
        self.codebook_sizes = tuple(int(size) for size in codebook_sizes)
        self.levels = len(self.codebook_sizes)

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of SIDs."""

    @abstractmethod
    def start(self, rows: int) -> torch.Tensor:
        """Return the state of the empty prefix, `rows` times: (rows,)."""

    @abstractmethod
    def child(self, level: int, states: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """Extend each prefix by one code.

        Args:
            level: level of the codes, 0 for those that follow the empty prefix.
            states: (rows,) states of prefixes of `level` codes.
            codes: (rows,) the code that each prefix is extended by; it may lie outside the codebook.

        Returns:
            (rows,) states of the longer prefixes, `NONE` where no SID has one.
        """

    @abstractmethod
    def expand(self, level: int, states: torch.Tensor) -> Children:
        """Find all children of each prefix.

        Args:
            level: level of the children, 0 for those of the empty prefix.
            states: (rows,) states of prefixes of `level` codes. `NONE` has no child.
        """

    @abstractmethod
    def is_open(self, states: torch.Tensor) -> torch.Tensor:
        """Return where at least two SIDs may have the prefix, so that its next code has to be decided; the shape is that of `states`."""

    @abstractmethod
    def leaf_of(self, states: torch.Tensor) -> torch.Tensor:
        """Return the number of the SID that alone has each prefix, -1 where none or several have it; the shape is that of `states`."""

    @abstractmethod
    def sids_of(self, leaves: torch.Tensor) -> torch.Tensor:
        """Return the codes of SIDs by their number: (n,) → (n, levels). A negative number gives -1 at every level."""

    def walk(self, codes: torch.Tensor) -> torch.Tensor:
        """Return the state of each prefix: (rows, depth) codes of the first `depth` levels → (rows,)."""
        states = self.start(len(codes))
        for level in range(codes.shape[1]):
            states = self.child(level, states, codes[:, level])
        return states

    def subset(self, leaves: torch.Tensor) -> SidTrie:
        """Build a trie of the SIDs `leaves` (n,). It calls them by the same numbers; ValueError if there are none."""
        codes = self.sids_of(leaves).cpu().numpy()
        return SidTrie.build(codes, self.codebook_sizes, leaves.cpu().numpy()).to(leaves.device)


class SidTrie(Trie):
    """Prefix tree of a set of SIDs.

    The children of an inner node are two contiguous runs of one table: first the children that are inner nodes, then the leaves, each run
    in the order of the codes. A child is known by its place in the run and needs no pointer. The state of a prefix is

    * `node ≥ 0` for the inner node with that number on its level,
    * -1 (`NONE`) for a prefix that no SID has,
    * `-2 - leaf` for a prefix that only the SID with the number `leaf` has.

    Build one with `SidTrie.build`.

    Args:
        tables: the tables of each level.
        codebook_sizes: number of codes of each level.
        leaf_ids: (SIDs,) int64, the number by which `leaf_of` calls each leaf; without it leaf 0 has the number 0, leaf 1 the number 1, ….
    """

    def __init__(
        self, tables: Sequence[TrieLevel], codebook_sizes: Sequence[int], leaf_ids: torch.Tensor | None = None
    ) -> None:
        super().__init__(codebook_sizes)
        self.tables = list(tables)
        self.leaf_ids = leaf_ids
        self.device = self.tables[0].codes.device
        self._root: torch.Tensor | None = None

    @classmethod
    def build(cls, codes: np.ndarray, codebook_sizes: Sequence[int], leaf_ids: np.ndarray | None = None) -> SidTrie:
        """Build a trie; about 30 bytes per SID are needed meanwhile.

        Args:
            codes: (rows, levels) integers in any order; a SID may occur more than once.
            codebook_sizes: number of codes of each level.
            leaf_ids: (rows,) the number by which `leaf_of` calls the SID of each row. Of several rows with one SID the first one counts.

        Raises:
            ValueError: there is no SID, or a code lies outside its level's codebook.
        """
        sids = SortedSids(checked_codes(codes, codebook_sizes), codebook_sizes, keep_order=leaf_ids is not None)
        built = build_levels(sids, codebook_sizes)
        ids = None
        if leaf_ids is not None:
            ids = torch.from_numpy(np.asarray(leaf_ids, dtype=np.int64)[sids.origin[built.leaf_sids]])
        return cls(built.levels, codebook_sizes, ids)

    @classmethod
    def build_with_leaves(cls, codes: np.ndarray, codebook_sizes: Sequence[int]) -> TrieWithLeaves:
        """Build a trie and also find the leaf of every row of `codes`; the arguments and errors are those of `build`."""
        sids = SortedSids(checked_codes(codes, codebook_sizes), codebook_sizes, keep_order=True)
        built = build_levels(sids, codebook_sizes)
        leaf_of_sid = np.empty(len(sids), dtype=np.int32)
        leaf_of_sid[built.leaf_sids] = np.arange(len(sids), dtype=np.int32)
        return TrieWithLeaves(cls(built.levels, codebook_sizes), sids.spread(leaf_of_sid))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor], codebook_sizes: Sequence[int]) -> SidTrie:
        """Make the trie that `tensors()` was taken from; memory-mapped tensors stay so."""
        names = ("inner_starts", "leaf_starts", "codes")
        levels = range(len(codebook_sizes))
        return cls([TrieLevel.of(*(tensors[f"{name}.{level}"] for name in names)) for level in levels], codebook_sizes)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the tables by name, for a file."""
        named = {
            "codes": [table.codes for table in self.tables],
            "inner_starts": [table.inner_starts for table in self.tables],
            "leaf_starts": [table.leaf_starts for table in self.tables],
        }
        return {f"{name}.{level}": table for name, tables in named.items() for level, table in enumerate(tables)}

    def __len__(self) -> int:
        """Return the number of distinct SIDs."""
        return self.tables[-1].leaves

    @property
    def nbytes(self) -> int:
        """Bytes of the tables, without the row of the first level that `child` makes (8 bytes per code)."""
        return sum(table.nbytes for table in self.tensors().values())

    def to(self, device: torch.device | str) -> SidTrie:
        """Move the tables to `device`, in place; no change if they are there."""
        device = torch.device(device)
        if device.type == self.device.type and device.index in (None, self.device.index):
            return self
        self.tables[:] = [table.to(device) for table in self.tables]
        self.leaf_ids = None if self.leaf_ids is None else self.leaf_ids.to(device)
        self._root = None
        self.device = self.tables[0].codes.device
        return self

    def is_open(self, states: torch.Tensor) -> torch.Tensor:
        """See `Trie.is_open`."""
        return states >= 0

    def expand(self, level: int, states: torch.Tensor) -> Children:
        """Find all children of each prefix in one ragged gather; see `Trie.expand`.

        1. Each prefix has two runs of places in the level's table of codes: inner children and leaves. A finished prefix has one child, the
           next code of its SID; `NONE` has two empty runs.
        2. The runs are laid out one after the other, (2 · rows,). `repeat_interleave` names the run of each child, and the distance between
           the start of the run in the table and its start in the layout turns the child's number into its place in the table.
        3. Places before the count of inner nodes are states as they are; a place behind it is a leaf.

        Invariant: run number `2 · row` holds the inner children and `2 · row + 1` the leaves of a row, so the rows of the children ascend.
        """
        table = self.tables[level]
        node = states.clamp(min=0)
        is_inner = (states >= 0).long()
        finished = states <= -2
        start = torch.stack([table.inner_starts[node], table.leaf_starts[node]], 1).long()  # (rows, 2)
        stop = torch.stack([table.inner_starts[node + 1], table.leaf_starts[node + 1]], 1).long()
        degree = (stop - start) * is_inner[:, None]
        start[:, 1] += table.inner
        if bool(finished.any()):
            start[:, 1] = torch.where(finished, table.inner - 2 - states, start[:, 1])
            degree[:, 1] += finished
        start, degree = start.view(-1), degree.view(-1)
        total = int(degree.sum())
        run = torch.repeat_interleave(degree, output_size=total)  # (children,)
        shift = start - (degree.cumsum(0) - degree)
        place = torch.arange(total, device=states.device) + shift.index_select(0, run)
        state = torch.where(place < table.inner, place, table.inner - 2 - place)
        return Children(run >> 1, table.codes.index_select(0, place).long(), state)

    def start(self, rows: int) -> torch.Tensor:
        """See `Trie.start`."""
        return torch.full((rows,), ROOT, dtype=torch.long, device=self.device)

    def child(self, level: int, states: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """See `Trie.child`. At level 0 the state is read from a dense row; below it is found by bisecting both runs of the prefix."""
        if level == 0:
            known = (codes >= 0) & (codes < self.codebook_sizes[0]) & (states != NONE)
            return torch.where(known, self._first_level()[codes.clamp(0, self.codebook_sizes[0] - 1)], NONE)
        table = self.tables[level]
        node = states.clamp(min=0)
        starts = torch.cat([table.inner_starts[node], table.leaf_starts[node] + table.inner]).long()  # (2 · rows,)
        stops = torch.cat([table.inner_starts[node + 1], table.leaf_starts[node + 1] + table.inner]).long()
        branch, leaf = _bisect(table.codes, starts, stops, codes.repeat(2)).chunk(2)
        found = torch.where(branch >= 0, branch, torch.where(leaf >= 0, table.inner - 2 - leaf, NONE))
        tail = (table.inner - 2 - states).clamp(0, len(table.codes) - 1)  # place of the next code of a finished prefix
        follows = (states <= -2) & (table.codes[tail] == codes)
        return torch.where(states >= 0, found, torch.where(follows, states, NONE))

    def leaf_of(self, states: torch.Tensor) -> torch.Tensor:
        """See `Trie.leaf_of`."""
        leaf = torch.where(states <= -2, -2 - states, NONE)
        if self.leaf_ids is None:
            return leaf
        return torch.where(leaf >= 0, self.leaf_ids[leaf.clamp(min=0)], NONE)

    def sids_of(self, leaves: torch.Tensor) -> torch.Tensor:
        """See `Trie.sids_of`; SIDs are called by their numbers 0 … len - 1, without regard to `leaf_ids`.

        From the last level upwards: while a leaf has begun, its code stands at its own place in the level's table; above that the SID
        passes an inner node, whose code stands at the node's place.

        Invariant: before `level`, `node` (n,) is the inner node that each SID passes at that level, -1 where the SID is a leaf there.
        """
        codes = torch.full((len(leaves), self.levels), NONE, dtype=torch.long, device=leaves.device)
        node = torch.full_like(leaves, NONE)
        for level in range(self.levels - 1, -1, -1):
            table = self.tables[level]
            above = self.tables[level - 1].leaves if level else 0
            is_leaf = (leaves >= 0) & (leaves < table.leaves)
            place = torch.where(is_leaf, table.inner + leaves, node).clamp(min=0)
            codes[:, level] = torch.where(leaves >= 0, table.codes[place].long(), NONE)
            begins = is_leaf & (leaves >= above)  # the leaf begins here, so its parent is an inner node of the level above
            node = torch.where(begins, run_of(table.leaf_starts, leaves), run_of(table.inner_starts, node))
        return codes

    def _first_level(self) -> torch.Tensor:
        """Return the state of every code of level 0: (codes,). This row spares a bisection over thousands of children."""
        root = self._root
        if root is None:
            _, codes, states = self.expand(0, self.start(1))
            root = torch.full((self.codebook_sizes[0],), NONE, dtype=torch.long, device=self.device)
            root[codes] = states
            self._root = root
        return root


class TrieWithLeaves(NamedTuple):
    """A trie and where the rows that it was built from are in it.

    Args:
        trie: the trie.
        leaf_of_row: (rows,) int32, the number of the SID of each row.
    """

    trie: SidTrie
    leaf_of_row: np.ndarray


def _bisect(table: torch.Tensor, low: torch.Tensor, stop: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Find each wanted value in its own ascending run of a table, all rows at once.

    Args:
        table: (places,) values.
        low: (rows,) first place of each run.
        stop: (rows,) place behind each run.
        wanted: (rows,) values.

    Returns:
        (rows,) the place of each value, -1 where its run does not hold it.
    """
    last = len(table) - 1
    high = stop
    longest = int((stop - low).max()) if len(low) else 0
    for _ in range(longest.bit_length()):
        middle = (low + high) >> 1
        less = (table.index_select(0, middle.clamp(max=last)) < wanted) & (low < high)
        low = torch.where(less, middle + 1, low)
        high = torch.where(less, high, torch.minimum(middle, high))
    found = (low < stop) & (table.index_select(0, low.clamp(max=last)) == wanted)
    return torch.where(found, low, NONE)


def run_of(starts: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return the run that holds each place: (runs + 1,) starts, (n,) places → (n,). An empty run holds no place."""
    return torch.searchsorted(starts, places.to(starts.dtype), right=True) - 1


__all__ = ["NONE", "ROOT", "Children", "SidTrie", "Trie", "TrieLevel", "TrieWithLeaves", "run_of"]
