"""The columns of a catalogue as flat arrays that can be mapped from a file: item ids, found by row and by id, and numbers.

A list of 10⁷ item ids with a dictionary from id to row takes gigabytes of memory. The arrays here take about 30 bytes per item; an id is
found by a binary search over hashes.
Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

CHUNK = 1 << 18
"""Number of strings that are hashed at once."""


class PackedStrings(NamedTuple):
    """Strings as one run of bytes.

    Args:
        data: (bytes,) uint8, the UTF-8 bytes of all strings, one string after the other.
        ends: (strings,) int64, the place in `data` where each string ends.
    """

    data: np.ndarray
    ends: np.ndarray


class ItemIds:
    """Item ids by row, and rows by item id.

    Args:
        data: (bytes,) uint8, the UTF-8 bytes of all ids, one after the other.
        ends: (items,) int64, the place in `data` where each id ends.
        hashes: (items,) int64, the 64-bit hashes of all ids in ascending order.
        rows: (items,) int32, the row of the id that each hash belongs to.
    """

    def __init__(self, data: np.ndarray, ends: np.ndarray, hashes: np.ndarray, rows: np.ndarray) -> None:
        self.data, self.ends, self.hashes, self.rows = data, ends, hashes, rows
        self._known: dict[str, int] = {}  # ids that were looked up before: histories ask for the same ones again and again

    @classmethod
    def of(cls, item_ids: Sequence[str]) -> ItemIds:
        """Pack a list of item ids.

        Raises:
            ValueError: an id comes twice.
            TypeError: an id is not a string.
        """
        data, ends = pack_strings(item_ids)
        hashes = hash_strings(data, ends)
        order = np.argsort(hashes, kind="stable")
        ids = cls(data, ends, hashes[order], order.astype(np.int32))
        ids._refuse_duplicates()
        return ids

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.ends)

    def __getitem__(self, row: int) -> str:
        """Return the item id of a row."""
        return self.at([row])[0]

    def at(self, rows: Iterable[int], added: Sequence[str] = ()) -> list[str]:
        """Return the item ids of some rows.

        Args:
            rows: the rows. Those from `len(self)` on are places in `added`.
            added: ids of items that were added to the catalogue later.
        """
        places = np.fromiter(rows, dtype=np.int64)
        count, data = len(self.ends), self.data.data
        own = np.minimum(places, count - 1)
        ends, starts = self.ends.take(own).tolist(), np.where(own > 0, self.ends.take(np.maximum(own - 1, 0)), 0).tolist()
        item_ids = [str(data[start:end], "utf-8") for start, end in zip(starts, ends)]
        for place in np.flatnonzero(places >= count).tolist():
            item_ids[place] = added[int(places[place]) - count]
        return item_ids

    def find(self, item_ids: Sequence[str]) -> np.ndarray:
        """Look up item ids.

        Returns:
            (n,) int64, the row of each id, -1 for an id that is not here.
        """
        unknown = [item_id for item_id in dict.fromkeys(item_ids) if item_id not in self._known]
        if unknown:
            hashes = hash_strings(*pack_strings(unknown))
            places = np.searchsorted(self.hashes, hashes)
            inside = np.minimum(places, len(self.hashes) - 1)
            for known in np.flatnonzero(self.hashes[inside] == hashes).tolist():
                matches = [row for row in self._same_hash(places[known]) if self[row] == unknown[known]]
                self._known.update((unknown[known], row) for row in matches)
        return np.array([self._known.get(item_id, -1) for item_id in item_ids], dtype=np.int64)

    def _refuse_duplicates(self) -> None:
        """Compare the ids that share a hash; equal ids have equal hashes, so no other pair can be equal."""
        same_as_next = np.append(self.hashes[1:] == self.hashes[:-1], False)
        starts_run = same_as_next & ~np.append(False, same_as_next[:-1])
        for first in np.flatnonzero(starts_run).tolist():
            seen: set[str] = set()
            for row in self._same_hash(first):
                item_id = self[row]
                if item_id in seen:
                    raise ValueError(f"item id {item_id!r} comes twice; give every item an id of its own")
                seen.add(item_id)

    def _same_hash(self, place: int) -> list[int]:
        """Return the rows of all ids with the hash at `place`, which must be the first place of that hash."""
        stop = place
        while stop < len(self.hashes) and self.hashes[stop] == self.hashes[place]:
            stop += 1
        return self.rows[place:stop].tolist()


def pack_strings(strings: Sequence[str]) -> PackedStrings:
    """Join strings into one run of bytes; raises TypeError for an entry that is not a string."""
    try:
        encoded = [string.encode("utf-8") for string in strings]
    except AttributeError:
        wrong = next(string for string in strings if not isinstance(string, str))
        raise TypeError(f"item ids must be text, got {type(wrong).__name__}: {wrong!r}") from None
    ends = np.cumsum(np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded)))
    data = np.frombuffer(bytearray(b"".join(encoded)), dtype=np.uint8)  # a bytearray, because torch wants writable memory
    return PackedStrings(data, ends)


def hash_strings(data: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Hash packed strings, all of them with a few numpy operations.

    1. The bytes of a string, each increased by 1, are the digits of a number in base 0x9E3779B97F4A7C15, modulo 2⁶⁴. `np.add.reduceat`
       adds up the digits of all strings of a chunk at once.
    2. Two rounds of shifting, xor and multiplying mix the bits, so that similar strings get unrelated hashes.

    The hash of a string does not depend on the strings beside it.

    Args:
        data: (bytes,) uint8; see [`PackedStrings`].
        ends: (strings,) int64.

    Returns:
        (strings,) int64.
    """
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    longest = int((ends - starts).max(initial=0))
    with np.errstate(over="ignore"):
        powers = np.cumprod(np.full(longest, 0x9E3779B97F4A7C15, dtype=np.uint64))
        sums = np.zeros(len(ends), dtype=np.uint64)
        for first in range(0, len(ends), CHUNK):
            part = slice(first, min(first + CHUNK, len(ends)))
            lengths = ends[part] - starts[part]
            filled = np.flatnonzero(lengths)  # reduceat cannot add up an empty run
            if not len(filled):
                continue
            offsets = (starts[part] - starts[first])[filled]
            digits = data[starts[first] : ends[part.stop - 1]].astype(np.uint64) + np.uint64(1)
            place = np.arange(len(digits)) - np.repeat(offsets, lengths[filled])
            sums[first + filled] = np.add.reduceat(digits * powers[place], offsets)
        sums ^= sums >> np.uint64(32)
        sums *= np.uint64(0xBF58476D1CE4E5B9)
        sums ^= sums >> np.uint64(29)
    return sums.view(np.int64)


def gather(own: np.ndarray, added: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the entries of a column of numbers at some rows.

    Args:
        own: (items, …) the column as the catalogue was built.
        added: (added items, …) the entries of the items that were added later.
        rows: (n,) rows; those from `len(own)` on are places in `added`.

    Returns:
        (n, …) with the type of `own`.
    """
    if not len(added):
        return own[rows]
    is_own = rows < len(own)
    values = own[np.where(is_own, rows, 0)]
    values[~is_own] = added[rows[~is_own] - len(own)]
    return values


def strings_to_arrays(name: str, strings: Sequence[str]) -> dict[str, np.ndarray]:
    """Pack strings as two arrays for a file, `name.data` and `name.ends`."""
    data, ends = pack_strings(strings)
    return {f"{name}.data": data, f"{name}.ends": ends}


def strings_from_arrays(name: str, arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Return the strings that `strings_to_arrays` packed under `name`."""
    data, ends = arrays[f"{name}.data"].tobytes(), arrays[f"{name}.ends"].tolist()
    return [data[start:end].decode("utf-8") for start, end in zip([0, *ends], ends)]


__all__ = ["ItemIds", "PackedStrings", "gather", "hash_strings", "pack_strings", "strings_from_arrays", "strings_to_arrays"]
