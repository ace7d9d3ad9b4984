"""The folder of a run, and writing files atomically: a file or folder appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOCK_TIMEOUT = 600.0
"""Seconds that `locked` waits by default; our choice."""


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path. When the block ends, the file there replaces `path`; when the block raises, it is deleted.

    Args:
        path: file to write; missing parent folders are created.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder. When the block ends, it replaces the folder `path`; when the block raises, it is deleted.

    Args:
        path: folder to write; missing parent folders are created.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            old = temporary.with_name(temporary.name + ".old")
            os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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


def index_lock(index: str | Path) -> Path:
    """Return the lock file (see `locked`) for changes of an item index.

    It lies beside the folder of the index and not in it, because that folder may be published.

    Args:
        index: path of the item index.
    """
    index = Path(index).resolve()
    return index.parent.with_name(f".{index.parent.name}.{index.stem}.lock")


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
