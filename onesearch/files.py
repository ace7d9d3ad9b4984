"""The folder of a run, and writing files atomically: a file or folder appears whole or not at all."""

from __future__ import annotations

import ctypes
import fnmatch
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOCK_TIMEOUT = 600.0
"""Seconds that `locked` waits by default; our choice."""

LEFTOVER_AGE = 24 * 3600.0
"""Seconds after which temporary files of another machine's writers are deleted; our choice."""

LEFTOVER = re.compile(r"\..+\.(\w+-\d+-\w+(\.\w+)?|\d+)")
"""Names of temporary files of this package's writers, those of the item index included."""

_EXCHANGE = 2
"""RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS."""

_HERE = -100
"""AT_FDCWD: paths are not relative to an open folder."""


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path. When the block ends, the file there replaces `path`; when the block raises, it is deleted.

    File and folder are flushed to the disk, so that a power cut leaves the old file or the new one. Temporary files of writers that were
    killed are deleted first.

    Args:
        path: file to write; missing parent folders are created.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    handle, name = tempfile.mkstemp(prefix=_prefix(path.stem), suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        _flush(temporary)
        os.replace(temporary, path)
        _flush(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path, *, replaces: Collection[str], parts: Collection[str] | None = None) -> Iterator[Path]:
    """Yield a temporary folder. When the block ends, it replaces the folder `path`; when the block raises, it is deleted.

    Files and folders are flushed to the disk, so that a power cut leaves the old folder or the new one. Temporary folders of writers that
    were killed are deleted first.

    Args:
        path: folder to write; missing parent folders are created.
        replaces: names of files, at least one of which every older folder of this kind holds. A folder without any of them belongs to
            somebody else and is not replaced.
        parts: patterns (as in `fnmatch`) of the names that folders of this kind hold. Whatever else an older folder holds is somebody
            else's and is copied into the new one. None: the older folder goes as a whole.

    Raises:
        FileExistsError: `path` is a file, or a folder that is not empty and holds none of `replaces`; it is left as it is.
    """
    path = Path(path)
    _refuse_foreign(path, replaces)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    temporary = Path(tempfile.mkdtemp(prefix=_prefix(path.name), dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        if parts is not None:
            _copy_others(path, temporary, parts)
        flush_folder(temporary)
        _refuse_foreign(path, replaces)  # again: the block may take hours
        _replace_folder(temporary, path)
        _flush(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def atomic_files(folder: str | Path, *, last: str) -> Iterator[Path]:
    """Yield a temporary folder. When the block ends, its files take their names in `folder`; when the block raises, none does.

    All files are on the disk before the first takes its name, so that a full disk leaves those that were there. Other files in `folder`
    stay. Temporary folders of writers that were killed are deleted first.

    Args:
        folder: folder of the files; it is made if it does not exist.
        last: the file that takes its name last, so that whoever finds the new one finds all others.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder / "files")
    temporary = Path(tempfile.mkdtemp(prefix=_prefix("files"), dir=folder))
    try:
        yield temporary
        flush_folder(temporary)
        for path in sorted(temporary.iterdir(), key=lambda path: (path.name == last, path.name)):
            os.replace(path, folder / path.name)
        _flush(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def flush_folder(folder: Path) -> None:
    """Wait until a folder and everything in it is on the disk."""
    for part in folder.rglob("*"):
        _flush(part)
    _flush(folder)


def exchange(first: Path, second: Path) -> bool:
    """Exchange two files or folders in one step, by the system's own call; return False where the system has none."""
    library = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    names = os.fsencode(first), os.fsencode(second)
    try:
        if library is not None and sys.platform == "linux":
            return library.renameat2(_HERE, names[0], _HERE, names[1], _EXCHANGE) == 0
        if library is not None and sys.platform == "darwin":
            return library.renamex_np(*names, _EXCHANGE) == 0
    except AttributeError:  # an older C library
        return False
    return False


def check_writable(folder: str | Path) -> None:
    """Write and delete a small file in a folder, or in the closest parent that exists, before work whose result would be lost otherwise.

    Raises:
        OSError: the folder cannot be written to, or its disk is full.
    """
    folder = Path(folder)
    while not folder.exists():
        folder = folder.parent
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(1 << 16))
        file.flush()
        os.fsync(file.fileno())


def remove_leftovers(path: str | Path) -> None:
    """Delete the temporary files and folders of writers of `path` that were killed.

    Those of running processes stay. Whether the process of another machine runs is unknown here; its files go after `LEFTOVER_AGE`.
    """
    path = Path(path)
    pattern = re.compile(
        rf"\.{re.escape(path.stem)}(?:{re.escape(path.suffix)})?\.(\w+)-(\d+)-\w+(?:{re.escape(path.suffix)})?(\.old)?"
    )
    for left in path.parent.iterdir():
        found = pattern.fullmatch(left.name)
        if found is None or _may_run(found[1], int(found[2]), left):
            continue
        if found[3] and not path.exists():  # stopped between the two steps of `_replace_folder`
            os.replace(left, path)
        elif left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def _may_run(host: str, process: int, left: Path) -> bool:
    """Whether the writer of a temporary file may still be at work."""
    if host == _host():
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        except OSError:  # another user's
            return True
        return True
    try:
        return time.time() - left.stat().st_mtime < LEFTOVER_AGE
    except FileNotFoundError:
        return True


def _prefix(name: str) -> str:
    """First characters of a temporary name, which tell the machine and the process of the writer."""
    return f".{name}.{_host()}-{os.getpid()}-"


def _host() -> str:
    return re.sub(r"\W", "_", platform.node()) or "host"


def _copy_others(old: Path, new: Path, parts: Collection[str]) -> None:
    """Copy everything from an older folder that fits none of the patterns, is not in the new one, and was not left by a killed writer."""
    for path in old.iterdir() if old.is_dir() else ():
        known = any(fnmatch.fnmatchcase(path.name, pattern) for pattern in parts)
        if known or LEFTOVER.fullmatch(path.name) or os.path.lexists(new / path.name):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, new / path.name, symlinks=True)
        else:
            shutil.copy2(path, new / path.name, follow_symlinks=False)


def _refuse_foreign(path: Path, markers: Collection[str]) -> None:
    """Raise unless `path` is free, an empty folder, or a folder with one of the markers."""
    if not path.exists():
        return
    held = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else [path.name]
    if held and not set(held) & set(markers):
        kind = "a folder" if path.is_dir() else "a file"
        raise FileExistsError(
            f"{path} is {kind} that holds something else (no {' or '.join(markers)}, but {', '.join(held[:3])}); it was left as it is: "
            "move it away, or write elsewhere"
        )


def _replace_folder(new: Path, path: Path) -> None:
    """Let `new` take the place of `path`; an old folder lies in `new` afterwards, or is deleted."""
    if not path.exists():
        os.replace(new, path)
    elif not exchange(new, path):
        old = new.with_name(f"{new.name}.old")
        os.replace(path, old)
        os.replace(new, path)
        shutil.rmtree(old)


def _flush(path: Path) -> None:
    """Wait until a file or folder is on the disk. Windows cannot open folders, and flushes their entries itself."""
    if path.is_symlink() or (path.is_dir() and os.name == "nt"):
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that a command writes, and that it may therefore replace.

    Args:
        name: name for error messages, for example ``market folder``.
        marker: file or folder that every folder of this kind holds.
        parts: names of everything that a folder of this kind may hold; any other entry belongs to somebody else.
    """

    name: str
    marker: str
    parts: frozenset[str]


def check_target(target: str | Path, kind: FolderKind, *, source: str | Path | None = None, overwrite: bool = False) -> None:
    """Refuse a target folder if writing it would delete anything else than an older folder of the same kind.

    A target that does not exist, or is an empty folder, is free. Call this before any work, so that nothing is computed in vain, and
    `atomic_folder` afterwards.

    Args:
        target: folder that is about to be written.
        kind: kind of folder that is about to be written.
        source: file or folder that is read meanwhile; None if there is none.
        overwrite: replace an older folder of this kind.

    Raises:
        FileExistsError: the target is a file, holds anything that is not part of `kind`, or holds a folder of this kind and
            `overwrite` is False.
        ValueError: the target is, holds or lies inside the source or the current folder.
    """
    target = Path(target)
    place = target.resolve()
    if source is not None:
        read = Path(source).resolve()
        if place.is_relative_to(read) or (read.exists() and read.is_relative_to(place)):
            raise ValueError(f"{target} is, holds or lies inside the source {source}; write the {kind.name} to another folder")
    if Path.cwd().is_relative_to(place):
        raise ValueError(f"{target} is or holds the current folder; write the {kind.name} to another folder")
    if not target.exists():
        return
    if not target.is_dir():
        raise FileExistsError(f"{target} exists and is a file; write the {kind.name} to another path")
    entries = sorted(path.name for path in target.iterdir())
    foreign = [name for name in entries if name not in kind.parts]
    if foreign or (entries and kind.marker not in entries):
        held = ", ".join((foreign or entries)[:3])
        raise FileExistsError(
            f"{target} exists and is not only a {kind.name} (it holds {held}); nothing was deleted, write to another folder"
        )
    if entries and not overwrite:
        raise FileExistsError(
            f"{target} holds a {kind.name} already; replace it with --overwrite (overwrite=True), or write to another folder"
        )


@contextmanager
def locked(path: str | Path, doing: str, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Let one process or thread at a time into the block; others wait.

    The lock of a process that dies is released. One thread may nest blocks with the same path.

    Args:
        path: lock file, which is always empty.
        doing: description of the work inside the block, for the error message.
        timeout: seconds to wait.

    Raises:
        TimeoutError: another process or thread held the lock for the whole time.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    lock = FileLock(path.resolve(), is_singleton=True)
    try:
        lock.acquire(timeout=timeout)
    except Timeout as error:
        raise TimeoutError(
            f"{doing}: another process has held the lock {path} for {timeout:.0f} seconds; try again when it has ended"
        ) from error
    try:
        yield
    finally:
        lock.release()


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not valid JSON; the message names it.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); write it again with the command that made it") from error


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run. Every stage reads the parts of earlier stages and adds its own.

    Args:
        root: path of the folder.
    """

    root: Path

    def __init__(self, root: str | Path) -> None:
        object.__setattr__(self, "root", Path(root))

    @property
    def market(self) -> Path:
        """Tables of items, users, sessions and relevance."""
        return self.root / "market"

    @property
    def encoder(self) -> Path:
        """The text encoder that made the embeddings (a sentence-transformers folder)."""
        return self.root / "embeddings" / "encoder"

    @property
    def embeddings(self) -> Path:
        """Embeddings of items and of distinct queries."""
        return self.root / "embeddings"

    @property
    def sids(self) -> Path:
        """Codebooks, item index and diagnostics of the Semantic IDs."""
        return self.root / "sids"

    @property
    def checkpoint(self) -> Path:
        """The trained model; loads with `from_pretrained`."""
        return self.root / "checkpoint"

    @property
    def training(self) -> Path:
        """State of the trainer, from which a stopped run resumes."""
        return self.root / "training"

    @property
    def evaluation(self) -> Path:
        """Metrics and TREC run files."""
        return self.root / "evaluation"

    @property
    def append_lock(self) -> Path:
        """Lock file (see `locked`) for appending items."""
        return self.root / ".append.lock"

    def require(self, part: str, made_by: str) -> Path:
        """Return the path of a part that must exist.

        Args:
            part: name of a property, for example ``checkpoint``.
            made_by: command that makes the part, for the error message.

        Raises:
            FileNotFoundError: the part does not exist; the message names the command.
        """
        path: Path = getattr(self, part)
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; make it with `{made_by}`")
        return path
