"""Additions to a catalogue and removals from it, and the file that holds them: a small second layer over tables that stay as they are.

Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .catalogue_tables_onesearch import CatalogueTables
from .category_paths_onesearch import CategoryPaths
from .columns_onesearch import strings_from_arrays, strings_to_arrays
from .tensor_files_onesearch import read_metadata, read_tensors, write_tensors

UPDATES_FORMAT = "onesearch-sid-index-updates/1"


@dataclass(frozen=True)
class Updates:
    """What was added to and removed from the tables since they were built.

    The rows of added items follow those of the tables. An added item that was removed again keeps its row.

    Args:
        ids: the ids of the added items; empty for an item that was removed again.
        present: (added,) bool, whether each added item is still in the catalogue.
        codes: (added, levels) codes of the added items.
        popularity: (added,) float32.
        category: (added,) int32, the place of each added item's path in `paths`.
        paths: the category paths of the tables, then those that only added items have.
        removed: (rows of the tables,) bool, the items of the tables that were removed; None while there are none.
        revision: number of updates so far.
    """

    ids: tuple[str, ...]
    present: np.ndarray
    codes: np.ndarray
    popularity: np.ndarray
    category: np.ndarray
    paths: CategoryPaths
    removed: np.ndarray | None
    revision: int

    @classmethod
    def empty(cls, tables: CatalogueTables) -> Updates:
        """Return the updates of tables that have not been updated."""
        return cls(
            ids=(),
            present=np.zeros(0, dtype=bool),
            codes=np.zeros((0, len(tables.codebook_sizes)), dtype=tables.codes.dtype),
            popularity=np.zeros(0, dtype=np.float32),
            category=np.zeros(0, dtype=np.int32),
            paths=tables.paths,
            removed=None,
            revision=0,
        )


def updates_path(index: Path) -> Path:
    """Return where the updates of the index file `index` lie."""
    return index.with_name(f"{index.stem}_updates{index.suffix}")


def write_updates(path: Path, updates: Updates, build: str) -> None:
    """Write updates to a file, which appears whole or not at all.

    Args:
        path: the file; see `updates_path`.
        updates: the updates.
        build: the fingerprint of the tables that they belong to.
    """
    removed = np.zeros(0, np.int32) if updates.removed is None else np.flatnonzero(updates.removed).astype(np.int32)
    arrays = {
        **strings_to_arrays("ids", updates.ids),
        **updates.paths.to_arrays("paths"),
        "living": updates.present.astype(np.uint8),  # its name in the file format
        "codes": updates.codes,
        "popularity": updates.popularity,
        "category": updates.category,
        "removed": removed,
    }
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
    write_tensors(path, tensors, {"format": UPDATES_FORMAT, "base": build, "revision": str(updates.revision)})


def read_updates(path: Path, tables: CatalogueTables, build: str, replaced: Sequence[str]) -> Updates | None:
    """Read the updates that belong to tables.

    Args:
        path: the file, which need not exist.
        tables: the tables of the index file beside it.
        build: their fingerprint.
        replaced: the builds that the index file replaced; see `IndexFile`.

    Returns:
        the updates; None if there are none, or if the index file contains them already: a process merged them and died before it could
        delete them.

    Raises:
        ValueError: the file is damaged, or belongs to another index.
    """
    if not path.is_file():
        return None
    tensors, metadata = read_tensors(path, UPDATES_FORMAT)
    if metadata["base"] != build:
        if metadata["base"] in replaced:
            return None
        raise ValueError(f"{path} belongs to another item index than the one beside it; copy both from one place, or delete it")
    arrays = {name: table.numpy() for name, table in tensors.items()}
    removed: np.ndarray | None = None
    if len(arrays["removed"]):
        removed = np.zeros(len(tables), dtype=bool)
        removed[arrays["removed"]] = True
    return Updates(
        ids=tuple(strings_from_arrays("ids", arrays)),
        present=arrays["living"].astype(bool),
        codes=arrays["codes"],
        popularity=arrays["popularity"],
        category=arrays["category"],
        paths=CategoryPaths.from_arrays("paths", arrays),
        removed=removed,
        revision=int(metadata["revision"]),
    )


def revision_on_disk(path: Path, build: str) -> int:
    """Return the revision of the updates in a file, 0 if there are none for the tables with the fingerprint `build`."""
    metadata = read_metadata(path) if path.is_file() else {}
    return int(metadata.get("revision", 0)) if metadata.get("base") == build else 0


__all__ = [
    "Updates",
    "read_updates",
    "revision_on_disk",
    "updates_path",
    "write_updates",
]
