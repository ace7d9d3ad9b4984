"""The files of an item index: read as they belong together, written by one process at a time.

An index file holds the tables; a small file of updates beside it refers to them by their fingerprint. Every writer holds the lock of the
index while it compares the files with the ones that it knows, and until its own have taken their names. Readers take no lock: a file that
is replaced meanwhile is read again.
Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .catalogue_state_onesearch import CatalogueState
from .catalogue_tables_onesearch import CatalogueTables, read_tables, write_tables
from .locks_onesearch import index_locked
from .tensor_files_onesearch import READ_TIMEOUT, file_identity, read_metadata, remove_file, remove_leftovers
from .updates_onesearch import OtherIndexError, Updates, content_on_disk, read_updates, updates_path, write_updates


class OnDisk(NamedTuple):
    """The files of an index as a process last read or wrote them.

    Args:
        path: the index file, as an absolute path.
        build: the fingerprint of its tables.
        content: the fingerprint of the updates beside it, empty if there are none.
    """

    path: Path
    build: str
    content: str


class LoadedCatalogue(NamedTuple):
    """What `read_catalogue` returns.

    Args:
        state: the catalogue.
        on_disk: the files that it was read from.
    """

    state: CatalogueState
    on_disk: OnDisk


def read_catalogue(path: Path, verify: bool | None) -> LoadedCatalogue:
    """Read an index and its updates; the arguments and errors are those of `SidIndex.load`.

    1. Read the tables, then the updates.
    2. Begin anew if another file has taken the name of the index meanwhile, since its updates are not those that were read.
    """
    deadline = time.monotonic() + READ_TIMEOUT
    while True:
        before = file_identity(path)
        tables, build, replaced = read_tables(path, verify)
        failure: OtherIndexError | None = None
        try:
            file = read_updates(updates_path(path), tables, build, replaced, verify)
        except OtherIndexError as error:
            failure = error
        if file_identity(path) == before or time.monotonic() > deadline:
            break
    if failure is not None:
        raise failure
    on_disk = OnDisk(path.resolve(), build, "" if file is None else file.content)
    if file is None:
        return LoadedCatalogue(CatalogueState.without_updates(tables), on_disk)
    return LoadedCatalogue(CatalogueState.of(tables, file.updates, np.zeros(0, dtype=np.int64)), on_disk)


@contextmanager
def changing(path: Path) -> Iterator[None]:
    """Hold the lock of an index file while it or its updates are written, and clean up after writers that were killed.

    Raises:
        FileNotFoundError: the folder does not exist.
        TimeoutError: another process has been changing the index for `LOCK_TIMEOUT` seconds.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: the folder {path.parent} does not exist; make it first")
    with index_locked(path):
        remove_leftovers(path)
        remove_leftovers(updates_path(path))
        yield


def is_newer(known: OnDisk) -> bool:
    """Return whether another process has changed the files of an index since they were read or written as `known`.

    Raises:
        FileNotFoundError: the index file does not exist.
    """
    return _on_disk(known.path) != known


def refuse_newer(path: Path, known: OnDisk | None) -> None:
    """Refuse to replace files that another process has changed since they were read. The caller holds the lock.

    Args:
        path: the index file.
        known: the files as the caller last read or wrote them; None, or those at another path, refuse nothing.

    Raises:
        ValueError: the files differ from `known`.
    """
    own = known is not None and known.path == path.resolve()
    if own and path.is_file() and _on_disk(path) != known:
        raise _stale(path)


def write_catalogue(path: Path, tables: CatalogueTables) -> OnDisk:
    """Write the tables of an index, then delete the updates beside it, which belong to the tables before. The caller holds the lock."""
    build = write_tables(path, tables)
    remove_file(updates_path(path))
    return OnDisk(path.resolve(), build, "")


def write_changes(path: Path, updates: Updates, known: OnDisk | None) -> OnDisk:
    """Write the updates of an index. The caller holds the lock.

    Args:
        path: the index file.
        updates: the updates.
        known: the files as the caller last read or wrote them; None if it has not.

    Raises:
        ValueError: the file at `path` is another index, or the files differ from `known`.
    """
    if known is None or not path.is_file():
        raise ValueError(f"{path} is not the index that these updates belong to; write it whole with SidIndex.save")
    found = _on_disk(path)
    if found.build != known.build:
        raise ValueError(
            f"{path} is not the index that these updates belong to: it is another catalogue, or another process has merged its updates "
            "meanwhile. Load it again and repeat the update"
        )
    if found.content != known.content:
        raise _stale(path)
    content = write_updates(updates_path(path), updates, found.build)
    return OnDisk(path.resolve(), found.build, content)


def _on_disk(path: Path) -> OnDisk:
    """Return the files of an index as they are now."""
    build = read_metadata(path).get("build", "")
    return OnDisk(path.resolve(), build, content_on_disk(updates_path(path), build))


def _stale(path: Path) -> ValueError:
    """Return the error for an index that is older than its file."""
    return ValueError(
        f"{path} or the updates beside it were written by another process meanwhile; load the index again with SidIndex.load and repeat "
        "the update there, so that both changes are kept"
    )


__all__ = [
    "LoadedCatalogue",
    "OnDisk",
    "changing",
    "is_newer",
    "read_catalogue",
    "refuse_newer",
    "write_catalogue",
    "write_changes",
]
