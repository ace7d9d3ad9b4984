"""Checks of the tables of an index file and of its updates, made at every load.

Compiled code reads the tables without asking whether an offset lies inside them. So a damaged or crafted file has to be refused before it
is used: a few passes over each table, without a loop in Python.
Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from .trie_building_onesearch import code_dtype

TORCH_TYPES: dict[str, torch.dtype] = {
    "leaf_of_row": torch.int32,
    "popularity": torch.float32,
    "bucket_rows": torch.int32,
    "bucket_starts": torch.int32,
    "category": torch.int32,
    "ids.data": torch.uint8,
    "ids.ends": torch.int64,
    "ids.hashes": torch.int64,
    "ids.rows": torch.int32,
    "paths.data": torch.uint8,
    "paths.ends": torch.int64,
}
"""Types of the one-dimensional tensors of an index file; those of the codes follow from the codebook sizes."""

UPDATE_TYPES: dict[str, torch.dtype] = {
    **{name: TORCH_TYPES[name] for name in ("ids.data", "ids.ends", "paths.data", "paths.ends", "popularity", "category")},
    "living": torch.uint8,
    "removed": torch.int32,
}
"""The same for a file of updates."""

BLOCK = 2048
"""Number of rows of codes whose largest are found side by side, which the compiler turns into vector instructions."""


def check_index(tensors: Mapping[str, torch.Tensor], codebook_sizes: Sequence[int]) -> None:
    """Check the tables of an index file.

    Args:
        tensors: the tensors of the file.
        codebook_sizes: number of codes of each level.

    Raises:
        ValueError: a tensor is missing, has another type or shape, or refers to a place outside the table that it refers to.
    """
    types = dict(TORCH_TYPES)
    for level, size in enumerate(codebook_sizes):
        types |= {f"trie.inner_starts.{level}": torch.int32, f"trie.leaf_starts.{level}": torch.int32}
        types[f"trie.codes.{level}"] = _code_type(size)
    arrays = _arrays(tensors, types, _code_type(max(codebook_sizes)))
    items = len(arrays["codes"])
    require(items > 0, "it holds no item")
    check_codes(arrays["codes"], codebook_sizes)
    sids = _check_trie(arrays, codebook_sizes)
    for name in ("leaf_of_row", "popularity", "bucket_rows", "category", "ids.ends", "ids.hashes", "ids.rows"):
        require(len(arrays[name]) == items, f"{name} has {len(arrays[name])} entries for {items} items")
    check_range("leaf_of_row", arrays["leaf_of_row"], 0, sids)
    check_range("category", arrays["category"], -1, len(arrays["paths.ends"]))
    require(bool(np.isfinite(arrays["popularity"]).all()), "popularity holds a value that is no finite number")
    require(len(arrays["bucket_starts"]) == sids + 1, f"bucket_starts does not have {sids + 1} entries")
    check_starts("bucket_starts", arrays["bucket_starts"], 0, items)
    for name in ("bucket_rows", "ids.rows"):
        _check_permutation(name, arrays[name])
    require(_ascends(arrays["ids.hashes"]), "ids.hashes does not ascend")
    for name in ("ids", "paths"):
        check_ends(name, arrays[f"{name}.ends"], arrays[f"{name}.data"])


def check_updates(tensors: Mapping[str, torch.Tensor], codebook_sizes: Sequence[int], items: int) -> None:
    """Check the tables of a file of updates.

    Args:
        tensors: the tensors of the file.
        codebook_sizes: number of codes of each level of the index that they belong to.
        items: number of items of that index.

    Raises:
        ValueError: as `check_index`.
    """
    arrays = _arrays(tensors, UPDATE_TYPES, _code_type(max(codebook_sizes)))
    added = len(arrays["ids.ends"])
    for name in ("living", "codes", "popularity", "category"):
        require(len(arrays[name]) == added, f"{name} has {len(arrays[name])} entries for {added} added items")
    check_codes(arrays["codes"], codebook_sizes)
    check_range("category", arrays["category"], -1, len(arrays["paths.ends"]))
    check_range("removed", arrays["removed"], 0, items)
    check_range("living", arrays["living"], 0, 2)
    require(bool(np.isfinite(arrays["popularity"]).all()), "popularity holds a value that is no finite number")
    for name in ("ids", "paths"):
        check_ends(name, arrays[f"{name}.ends"], arrays[f"{name}.data"])


def require(holds: bool, otherwise: str) -> None:
    """Raise a ValueError with the text `otherwise` unless the condition holds."""
    if not holds:
        raise ValueError(otherwise)


def check_range(name: str, values: np.ndarray, low: int, stop: int) -> None:
    """Refuse values outside low … stop - 1 with a ValueError."""
    if len(values):
        least, most = int(values.min()), int(values.max())
        require(least >= low and most < stop, f"{name} holds {least if least < low else most}, outside {low}..{stop - 1}")


def check_starts(name: str, starts: np.ndarray, first: int, stop: int) -> None:
    """Refuse starts of runs that do not ascend from `first` to `stop`, the end of the last run."""
    require(
        len(starts) > 0 and int(starts[0]) == first and int(starts[-1]) == stop, f"{name} does not lead from {first} to {stop}"
    )
    require(_ascends(starts), f"{name} does not ascend")


def check_ends(name: str, ends: np.ndarray, data: np.ndarray) -> None:
    """Refuse ends of strings that do not ascend to the end of their bytes."""
    if not len(ends):
        require(not len(data), f"{name}.data holds bytes of no string")
        return
    require(int(ends[0]) >= 0 and int(ends[-1]) == len(data), f"{name}.ends does not lead to the end of {name}.data")
    require(_ascends(ends), f"{name}.ends does not ascend")


def check_codes(codes: np.ndarray, codebook_sizes: Sequence[int]) -> None:
    """Refuse codes (items, levels) that are negative or outside their level's codebook."""
    levels = len(codebook_sizes)
    require(codes.ndim == 2 and codes.shape[1] == levels, f"codes have shape {codes.shape}, expected (items, {levels})")
    if not len(codes):
        return
    whole = len(codes) // BLOCK * BLOCK
    largest = codes[whole:].max(axis=0, initial=-1)
    if whole:
        wide = codes[:whole].reshape(-1, BLOCK * levels).max(axis=0)
        largest = np.maximum(largest, wide.reshape(BLOCK, levels).max(axis=0))
    require(int(codes.min()) >= 0, "codes holds a negative code")
    for level, size in enumerate(codebook_sizes):
        require(int(largest[level]) < size, f"codes holds {largest[level]} at level {level}, outside 0..{size - 1}")


def _check_trie(arrays: Mapping[str, np.ndarray], codebook_sizes: Sequence[int]) -> int:
    """Check the tables of the trie from the first level to the last; return the number of SIDs.

    Invariant: before each level, `parents` is the number of inner nodes of the level above (1 for the root) and `leaves` the number of
    leaves that begin above.
    """
    parents, leaves = 1, 0
    for level, size in enumerate(codebook_sizes):
        codes = arrays[f"trie.codes.{level}"]
        inner_starts, leaf_starts = arrays[f"trie.inner_starts.{level}"], arrays[f"trie.leaf_starts.{level}"]
        entries = max(parents, 1) + 1  # the table of no parent has two entries
        require(
            len(inner_starts) == len(leaf_starts) == entries,
            f"the trie's starts of level {level} do not have {entries} entries",
        )
        above, leaves = leaves, int(leaf_starts[-1])
        inner = len(codes) - leaves
        require(above <= leaves and inner >= 0, f"the trie has {len(codes)} codes for {leaves} leaves at level {level}")
        check_starts(f"trie.inner_starts.{level}", inner_starts, 0, inner)
        check_starts(f"trie.leaf_starts.{level}", leaf_starts, above, leaves)
        check_range(f"trie.codes.{level}", codes, 0, size)
        widths = np.diff(inner_starts) + np.diff(leaf_starts)
        most, least = int(widths.max()), int(widths.min())
        require(most <= size, f"a node of the trie has {most} children at level {level}, which has {size} codes")
        require(least > 0 or parents == 0, f"a node of the trie has no child at level {level}")
        _check_runs(level, codes[:inner], inner_starts)
        _check_runs(level, codes[inner + above :], leaf_starts - above)
        parents = inner
    require(parents == 0, "the trie goes on below its last level")
    return leaves


def _check_runs(level: int, codes: np.ndarray, starts: np.ndarray) -> None:
    """Refuse a run of children whose codes do not ascend, so that bisecting it could miss one."""
    begins = np.zeros(len(codes) + 1, dtype=bool)
    begins[starts] = True
    ascends = (codes[1:] > codes[:-1]) | begins[1:-1]
    require(bool(ascends.all()), f"the codes of the children of a node of the trie do not ascend at level {level}")


def _check_permutation(name: str, rows: np.ndarray) -> None:
    """Refuse rows outside 0 … len - 1, or whose sum is not that of all these numbers."""
    check_range(name, rows, 0, len(rows))
    require(int(rows.sum(dtype=np.int64)) == len(rows) * (len(rows) - 1) // 2, f"{name} does not name each row once")


def _ascends(values: np.ndarray) -> bool:
    """Return whether no value is below the one before it."""
    return bool((values[1:] >= values[:-1]).all())


def _code_type(codebook_size: int) -> torch.dtype:
    """Return the type of the codes of a codebook."""
    return torch.int16 if code_dtype(codebook_size) is np.int16 else torch.int32


def _arrays(
    tensors: Mapping[str, torch.Tensor], types: Mapping[str, torch.dtype], code_type: torch.dtype
) -> dict[str, np.ndarray]:
    """Return the tensors as arrays; ValueError unless they are those of `types`, one-dimensional, and `codes`, two-dimensional."""
    expected = {**{name: (1, dtype) for name, dtype in types.items()}, "codes": (2, code_type)}
    if tensors.keys() != expected.keys():
        raise ValueError(f"its tensors are not the expected ones: {sorted(tensors.keys() ^ expected.keys())[:5]}")
    for name, (dimensions, dtype) in expected.items():
        found = tensors[name]
        if found.ndim != dimensions or found.dtype != dtype:
            raise ValueError(
                f"{name} is {found.dtype} of shape {tuple(found.shape)}, expected {dtype} of {dimensions} dimensions"
            )
    return {name: tensor.numpy() for name, tensor in tensors.items()}


__all__ = ["check_index", "check_updates"]
