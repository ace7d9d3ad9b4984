"""Additions to a catalogue and removals from it, and the file that holds them: a small second layer over tables that stay as they are.

Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from .catalogue_checks_onesearch import check_updates
from .catalogue_tables_onesearch import CatalogueTables
from .category_paths_onesearch import CategoryPaths
from .columns_onesearch import strings_from_arrays, strings_to_arrays
from .tensor_files_onesearch import (
    check_fingerprint,
    content_fingerprint,
    damaged,
    read_metadata,
    read_tensors,
    write_tensors,
)

UPDATES_FORMAT = "onesearch-sid-index-updates/2"


class OtherIndexError(ValueError):
    """Updates belong to another index than the one beside them."""


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


def write_updates(path: Path, updates: Updates, build: str) -> str:
    """Write updates to a file, which appears whole or not at all.

    Args:
        path: the file; see `updates_path`.
        updates: the updates.
        build: the fingerprint of the tables that they belong to.

    Returns:
        the fingerprint of the updates.
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
    revision = str(updates.revision)
    content = content_fingerprint(tensors, (build, revision))
    write_tensors(path, tensors, {"format": UPDATES_FORMAT, "base": build, "revision": revision, "content": content})
    return content


class UpdatesFile(NamedTuple):
    """A file of updates.

    Args:
        updates: the updates.
        content: the fingerprint of the updates.
    """

    updates: Updates
    content: str


def read_updates(
    path: Path, tables: CatalogueTables, build: str, replaced: Sequence[str], verify: bool | None = None
) -> UpdatesFile | None:
    """Read the updates that belong to tables.

    Args:
        path: the file, which need not exist.
        tables: the tables of the index file beside it.
        build: their fingerprint.
        replaced: the builds that the index file replaced; see `IndexFile`.
        verify: whether to compare the content with the fingerprint that the file carries; see `read_tables`.

    Returns:
        the updates; None if there are none, or if the index file contains them already: a process merged them and died before it could
        delete them.

    Raises:
        OtherIndexError: the updates belong to another index.
        ValueError: the file is damaged.
    """
    try:
        file = read_tensors(path, UPDATES_FORMAT)
    except FileNotFoundError:
        return None
    tensors, metadata = file
    try:
        base, content, revision = metadata["base"], metadata["content"], int(metadata["revision"])
        check_updates(tensors, tables.codebook_sizes, len(tables))
        arrays = {name: table.numpy() for name, table in tensors.items()}
        ids, paths = tuple(strings_from_arrays("ids", arrays)), CategoryPaths.from_arrays("paths", arrays)
    except KeyError as error:
        raise damaged(path, f"its header has no {error}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged(path, error) from error
    check_fingerprint(path, content, file, (base, metadata["revision"]), verify)
    if base in replaced and base != build:
        return None
    if base != build:
        raise OtherIndexError(
            f"{path} belongs to another item index than the one beside it; copy both files again from one place. Do not delete it: "
            "items that it removed would come back"
        )
    removed: np.ndarray | None = None
    if len(arrays["removed"]):
        removed = np.zeros(len(tables), dtype=bool)
        removed[arrays["removed"]] = True
    updates = Updates(
        ids=ids,
        present=arrays["living"].astype(bool),
        codes=arrays["codes"],
        popularity=arrays["popularity"],
        category=arrays["category"],
        paths=paths,
        removed=removed,
        revision=revision,
    )
    return UpdatesFile(updates, content)


def content_on_disk(path: Path, build: str) -> str:
    """Return the fingerprint of the updates in a file, empty if there are none for the tables with the fingerprint `build`."""
    metadata = read_metadata(path) if path.is_file() else {}
    return metadata.get("content", "") if metadata.get("base") == build else ""


__all__ = [
    "OtherIndexError",
    "Updates",
    "UpdatesFile",
    "content_on_disk",
    "read_updates",
    "updates_path",
    "write_updates",
]
