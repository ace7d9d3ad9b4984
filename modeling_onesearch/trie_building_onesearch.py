"""Builds the tables of a trie from codes: one sort of packed integers, then a few passes over neighbouring rows.

Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

LARGEST_CODEBOOK = (1 << 31) - 1
"""Largest codebook size, since tables hold codes of at most 32 bits."""


class TrieLevel(NamedTuple):
    """The tables of one level of a trie.

    An *inner node* is a prefix that at least two SIDs share. A *leaf* is a SID from the level on at which no other SID has its prefix.
    Inner nodes are numbered per level; leaves are numbered through all levels, in the order of the levels at which they begin.

    Args:
        inner_starts: (parents + 1,) int32, where the run of inner children of each inner node of the level above begins.
        leaf_starts: (parents + 1,) int32, where the run of leaves of each inner node of the level above begins.
        codes: (inner + leaves,) the code of each inner node of this level, then that of every leaf that begins at this level or above.
        inner: number of inner nodes of this level.
        leaves: number of leaves that begin at this level or above.
    """

    inner_starts: torch.Tensor
    leaf_starts: torch.Tensor
    codes: torch.Tensor
    inner: int
    leaves: int

    @classmethod
    def of(cls, inner_starts: torch.Tensor, leaf_starts: torch.Tensor, codes: torch.Tensor) -> TrieLevel:
        """Count the inner nodes and leaves of the given tables."""
        leaves = int(leaf_starts[-1])
        return cls(inner_starts, leaf_starts, codes, len(codes) - leaves, leaves)

    def to(self, device: torch.device) -> TrieLevel:
        """Return a copy of the tables on `device`."""
        return self._replace(
            inner_starts=self.inner_starts.to(device), leaf_starts=self.leaf_starts.to(device), codes=self.codes.to(device)
        )


class BuiltLevels(NamedTuple):
    """The tables of a trie.

    Args:
        levels: one entry per level.
        leaf_sids: (SIDs,) int64, the place among the sorted SIDs that each leaf has.
    """

    levels: list[TrieLevel]
    leaf_sids: np.ndarray


class SortedSids:
    """The distinct rows of a table of codes in lexicographic order. Where they fit, they are packed into one integer each.

    Args:
        codes: (rows, levels) codes.
        codebook_sizes: number of codes of each level.
        keep_order: remember which row each SID comes from, for `origin` and `spread`; this needs a slower sort.
    """

    def __init__(self, codes: np.ndarray, codebook_sizes: Sequence[int], keep_order: bool) -> None:
        bits = [(size - 1).bit_length() for size in codebook_sizes]
        self.levels = len(codebook_sizes)
        self.shifts = [sum(bits[level + 1 :]) for level in range(self.levels)]
        self.masks = [(1 << count) - 1 for count in bits]
        self.packed = sum(bits) < 64
        self._order: np.ndarray | None = None
        rows = self._sorted_packed(codes, keep_order) if self.packed else self._sorted_unpacked(codes)
        differs = rows[1:] != rows[:-1]
        self._is_first = np.append(True, differs if self.packed else differs.any(axis=1))
        self.rows = rows if self._is_first.all() else rows[self._is_first]

    def _sorted_packed(self, codes: np.ndarray, keep_order: bool) -> np.ndarray:
        rows = np.zeros(len(codes), dtype=np.int64)
        for level, shift in enumerate(self.shifts):
            rows |= codes[:, level].astype(np.int64) << shift
        if keep_order:
            self._order = np.argsort(rows, kind="stable")
            return rows[self._order]
        if not (rows[1:] > rows[:-1]).all():
            rows.sort()
        return rows

    def _sorted_unpacked(self, codes: np.ndarray) -> np.ndarray:
        self._order = np.lexsort(codes.T[::-1])
        return np.ascontiguousarray(codes[self._order])

    def __len__(self) -> int:
        """Return the number of distinct SIDs."""
        return len(self.rows)

    @property
    def order(self) -> np.ndarray:
        """(rows,) the rows of the table in the order of their SIDs; ValueError if it was not kept."""
        if self._order is None:
            raise ValueError("the order of the rows was not kept; pass keep_order=True")
        return self._order

    @property
    def origin(self) -> np.ndarray:
        """(SIDs,) the first row of the table that has each SID."""
        return self.order[self._is_first]

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Turn one value per SID into one value per row of the table: (SIDs,) → (rows,)."""
        spread = np.empty(len(self.order), dtype=values.dtype)
        spread[self.order] = values[np.cumsum(self._is_first) - 1]
        return spread

    def column(self, level: int, sids: np.ndarray) -> np.ndarray:
        """Return the codes of one level of the SIDs at the places `sids` (n,)."""
        if self.packed:
            return (self.rows[sids] >> self.shifts[level]) & self.masks[level]
        return self.rows[sids, level]

    def shared_levels(self) -> np.ndarray:
        """Return how many first levels, not counting the last, each SID shares with the next one: (SIDs - 1,) uint8."""
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


def build_levels(sids: SortedSids, codebook_sizes: Sequence[int]) -> BuiltLevels:
    """Build the tables of a trie.

    The SIDs are sorted, so all SIDs with one prefix are neighbours. From the number of levels that a SID shares with the row before
    (`before`) and with the row after (`after`) it follows that

    1. a SID is a leaf from level max(before, after) on, the first level at which it differs from both neighbours;
    2. a SID is the first one of an inner node of `level` where before ≤ level < after;
    3. an inner node's children are the nodes and leaves of the next level whose first SID lies between its own first SID and that of the
       next inner node, so a binary search gives where its two runs begin.

    Invariant: after each level `leaves` is the number of leaves that begin there or above, and `parents` holds the first SID of each inner
    node of that level, in ascending order.
    """
    shared = sids.shared_levels()
    before, after = np.append(np.uint8(0), shared), np.append(shared, np.uint8(0))
    leaf_level = np.maximum(before, after)
    leaf_rows = [np.flatnonzero(leaf_level == level) for level in range(sids.levels)]
    inner_rows = [np.flatnonzero((before <= level) & (after > level)) for level in range(sids.levels)]
    del shared, before, after, leaf_level  # the peak of the memory is below
    all_leaves = np.concatenate(leaf_rows)
    levels: list[TrieLevel] = []
    parents, leaves = np.zeros(1, dtype=np.int64), 0
    for level, size in enumerate(codebook_sizes):
        inner_starts = _run_starts(inner_rows[level], parents, 0)
        leaf_starts = _run_starts(leaf_rows[level], parents, leaves)
        leaves += len(leaf_rows[level])
        dtype = code_dtype(size)
        codes = [sids.column(level, rows).astype(dtype) for rows in (inner_rows[level], all_leaves[:leaves])]
        levels.append(TrieLevel(inner_starts, leaf_starts, torch.from_numpy(np.concatenate(codes)), len(codes[0]), leaves))
        parents = inner_rows[level]
    return BuiltLevels(levels, all_leaves)


def _run_starts(rows: np.ndarray, parents: np.ndarray, first: int) -> torch.Tensor:
    """Return where the run of each parent begins among `rows`, which are numbered from `first`: (parents + 1,) int32, at least two."""
    ends = [len(rows)] if len(parents) else [len(rows)] * 2
    return torch.from_numpy((np.append(np.searchsorted(rows, parents), ends) + first).astype(np.int32))


def code_dtype(codebook_size: int) -> type[np.signedinteger]:
    """Return int16 where it holds every code, else int32. One byte would do for most levels, but kernels are compiled once per type."""
    return np.int16 if codebook_size <= 1 << 15 else np.int32


def checked_codebook_sizes(codebook_sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the codebook sizes as a tuple; ValueError unless each is a whole number from 1 to 2³¹ - 1 (codes have 32 bits)."""
    if isinstance(codebook_sizes, (str, bytes)) or not len(codebook_sizes):
        raise ValueError(f"codebook_sizes={codebook_sizes!r}: give one size per level, at least one")
    for level, size in enumerate(codebook_sizes):
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or not 1 <= size <= LARGEST_CODEBOOK:
            raise ValueError(
                f"the codebook size of level {level} is {size!r}; allowed are whole numbers from 1 to {LARGEST_CODEBOOK}"
            )
    return tuple(int(size) for size in codebook_sizes)


def checked_codes(codes: np.ndarray, codebook_sizes: Sequence[int]) -> np.ndarray:
    """Return `codes` as an integer array (items, levels).

    Raises:
        ValueError: the codes are not integers, have another number of levels, are empty, or one lies outside its level's codebook.
    """
    codebook_sizes = checked_codebook_sizes(codebook_sizes)
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.shape[1] != len(codebook_sizes):
        raise ValueError(
            f"codes have shape {codes.shape}, expected (items, {len(codebook_sizes)}) for codebook sizes {tuple(codebook_sizes)}"
        )
    if not len(codes):
        raise ValueError("the catalogue holds no item: a trie needs at least one SID")
    if codes.dtype.kind not in "iu":
        raise ValueError(f"codes are {codes.dtype}, expected integers")
    for level, size in enumerate(codebook_sizes):
        column = codes[:, level]
        if column.min() < 0 or column.max() >= size:
            row = int(np.argmax((column < 0) | (column >= size)))
            raise ValueError(f"item {row}: code {column[row]} at level {level} is outside 0..{size - 1}")
    return codes


__all__ = ["BuiltLevels", "SortedSids", "TrieLevel", "build_levels", "checked_codebook_sizes", "checked_codes", "code_dtype"]
