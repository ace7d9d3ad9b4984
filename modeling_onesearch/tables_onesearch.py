"""Flat tables on disk: safetensors files that appear whole, are mapped when read, and hold strings as bytes.

A list of 10⁷ item ids with a dict of them takes gigabytes of memory; here they take some 30 bytes each, and are found by hash.
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

CHUNK = 1 << 18
"""Strings hashed at once."""


class ItemIds:
    """Item ids by row, and rows by item id.

    Args:
        data: UTF-8 bytes of all ids, one after the other, uint8.
        ends: (items,) where each one ends, int64.
        hashes: (items,) 64-bit hashes in ascending order, int64; rows: (items,) the item of each, int32.
    """

    def __init__(self, data: np.ndarray, ends: np.ndarray, hashes: np.ndarray, rows: np.ndarray):
        self.data, self.ends, self.hashes, self.rows = data, ends, hashes, rows
        self._known: dict[str, int] = {}  # ids asked for before: histories ask for the same ones again and again

    @classmethod
    def of(cls, item_ids: Sequence[str]) -> ItemIds:
        """Pack `item_ids`; ValueError names an id that comes twice, TypeError one that is no text."""
        data, ends = _packed(item_ids)
        hashes = _hashes(data, ends)
        order = np.argsort(hashes, kind="stable")
        ids = cls(data, ends, hashes[order], order.astype(np.int32))
        same = np.append(ids.hashes[1:] == ids.hashes[:-1], False)
        for first in np.flatnonzero(same & ~np.append(False, same[:-1])).tolist():
            seen: set[str] = set()
            for item_id in (ids[row] for row in ids._same_hash(first)):
                if item_id in seen:
                    raise ValueError(f"item id {item_id!r} comes twice; every item needs an id of its own")
                seen.add(item_id)
        return ids

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, row: int) -> str:
        start = self.ends[row - 1] if row else 0
        return self.data[start : self.ends[row]].tobytes().decode("utf-8")

    def find(self, item_ids: Sequence[str]) -> np.ndarray:
        """(n,) row of each id, -1 for one that is not there."""
        unknown = [item_id for item_id in dict.fromkeys(item_ids) if item_id not in self._known]
        if unknown:
            hashes = _hashes(*_packed(unknown))
            places = np.searchsorted(self.hashes, hashes)
            inside = np.minimum(places, len(self.hashes) - 1)
            for known in np.flatnonzero(self.hashes[inside] == hashes).tolist():
                matches = [row for row in self._same_hash(places[known]) if self[row] == unknown[known]]
                self._known.update((unknown[known], row) for row in matches)
        return np.array([self._known.get(item_id, -1) for item_id in item_ids], dtype=np.int64)

    def _same_hash(self, place: int) -> list[int]:
        """Rows of all ids with the hash at `place`, which is the first of its run."""
        stop = place
        while stop < len(self.hashes) and self.hashes[stop] == self.hashes[place]:
            stop += 1
        return self.rows[place:stop].tolist()


class CategoryPaths:
    """The distinct category paths of a catalogue, coarse → fine; items refer to them by place.

    Args:
        paths: in order of their places.
    """

    def __init__(self, paths: Sequence[tuple[str, ...]]):
        self._paths = list(paths)

    def __getitem__(self, place: int) -> tuple[str, ...]:
        return self._paths[place] if place >= 0 else ()

    @property
    def names(self) -> list[str]:
        """Names at any depth, in alphabetical order."""
        return sorted({name for path in self._paths for name in path})

    def extended(self, categories: Sequence[Sequence[str]] | None, count: int) -> tuple[CategoryPaths, np.ndarray]:
        """These paths and the new ones among `categories`, and the place of each item's: (count,), -1 for an item without."""
        if categories is None:
            return self, np.full(count, -1, dtype=np.int32)
        place = {path: row for row, path in enumerate(self._paths)}
        rows = [place.setdefault(tuple(path), len(place)) if len(path) else -1 for path in categories]
        return CategoryPaths(list(place)), np.array(rows, dtype=np.int32).reshape(count)

    def with_any(self, names: Sequence[str]) -> list[int]:
        """Places of the paths that one of `names` is on; ValueError for a name that is on none, with similar ones."""
        if isinstance(names, str):
            raise TypeError(f"categories must be a list of names, got the text {names!r}")
        known = self.names
        for name in names:
            if name not in known:
                close = get_close_matches(name, known, n=3) or known[:5]
                raise ValueError(
                    f"category {name!r} is on no item's path; the index has {len(known):,} categories, such as {close}"
                )
        return [place for place, path in enumerate(self._paths) if set(path) & set(names)]

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """For a file; `of_arrays` reads them back."""
        return packed_strings(name, [json.dumps(path) for path in self._paths])

    @classmethod
    def of_arrays(cls, name: str, arrays: Mapping[str, np.ndarray]) -> CategoryPaths:
        """The paths that `arrays` packed."""
        return cls([tuple(json.loads(text)) for text in unpacked_strings(name, arrays)])


def _packed(item_ids: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    try:
        encoded = [item_id.encode("utf-8") for item_id in item_ids]
    except AttributeError:
        wrong = next(item_id for item_id in item_ids if not isinstance(item_id, str))
        raise TypeError(f"item ids must be text, got {type(wrong).__name__}: {wrong!r}") from None
    ends = np.cumsum(np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded)))
    return np.frombuffer(bytearray(b"".join(encoded)), dtype=np.uint8), ends  # a bytearray: tensors want writable memory


def _hashes(data: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(strings,) int64: each string's bytes as the digits of a number modulo 2⁶⁴, then mixed."""
    starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    longest = int((ends - starts).max(initial=0))
    with np.errstate(over="ignore"):
        powers = np.cumprod(np.full(longest, 0x9E3779B97F4A7C15, dtype=np.uint64))
        sums = np.zeros(len(ends), dtype=np.uint64)
        for first in range(0, len(ends), CHUNK):
            part = slice(first, min(first + CHUNK, len(ends)))
            lengths = ends[part] - starts[part]
            filled = np.flatnonzero(lengths)  # reduceat knows no empty runs
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


def packed_strings(name: str, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Texts as two arrays, `name.data` and `name.ends`."""
    data, ends = _packed(texts)
    return {f"{name}.data": data, f"{name}.ends": ends}


def unpacked_strings(name: str, arrays: Mapping[str, np.ndarray]) -> list[str]:
    """The texts that `packed_strings` packed."""
    data, ends = arrays[f"{name}.data"].tobytes(), arrays[f"{name}.ends"].tolist()
    return [data[start:end].decode("utf-8") for start, end in zip([0, *ends], ends)]


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file under another name, then give it its own: a process that dies leaves no half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(dict(tensors), temporary, metadata=dict(metadata))
        temporary.chmod(0o644)  # safetensors gives the owner alone the right to read
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_tensors(path: str | os.PathLike, expected: str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors, mapped and not copied, and metadata; ValueError with the path for a damaged file or one of another format."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file ({error}); copy it again or rebuild it") from error
    if metadata.get("format") != expected:
        raise ValueError(f"{path} has format {metadata.get('format')!r}, expected {expected!r}; rebuild it")
    return tensors, metadata


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """Metadata of a safetensors file; empty if it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except SafetensorError:
        return {}


def replaced_builds(path: Path, most: int = 16) -> list[str]:
    """Builds that an index written to `path` takes the place of: updates of those are merged or void. The latest first."""
    if not path.is_file():
        return []
    metadata = read_metadata(path)
    return [metadata.get("build", ""), *json.loads(metadata.get("replaces", "[]"))][:most]


def content_fingerprint(tensors: Mapping[str, torch.Tensor]) -> str:
    """BLAKE2 of all tensors, their names and types."""
    state = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        state.update(tensor.numpy())
    return state.hexdigest()


__all__ = [
    "CategoryPaths",
    "ItemIds",
    "content_fingerprint",
    "packed_strings",
    "read_metadata",
    "read_tensors",
    "replaced_builds",
    "unpacked_strings",
    "write_tensors",
]
