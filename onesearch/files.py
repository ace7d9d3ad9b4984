"""Where a run keeps its files, and how they are written: whole or not at all."""

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
"""Seconds that `locked` waits; ours."""


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it replaces `path` when the block ends, and vanishes when the block raises."""
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
    """Yield a temporary folder beside `path`; it takes the place of `path` when the block ends, and vanishes when the block raises."""
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
    """Let one process (or thread) at a time into the block; others wait. A process that dies leaves no lock behind.

    Blocks of one thread with the same path may lie in each other.

    Args:
        path: of the lock file, which is empty and means nothing by itself.
        doing: what is done inside, for the message.
        timeout: seconds to wait.

    Raises:
        TimeoutError: somebody else was inside all the time.
    """
    from filelock import FileLock, Timeout

    path = Path(path)
    lock = FileLock(path.resolve(), is_singleton=True)
    try:
        lock.acquire(timeout=timeout)
    except Timeout as error:
        raise TimeoutError(
            f"{doing}: another process has been at it for {timeout:.0f} seconds ({path} is locked); try again when it is done"
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
    """Read a JSON file; a missing or damaged one raises with its path in the message."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); write it again with the command that made it") from error


def index_lock(index: str | Path) -> Path:
    """Locked (see `locked`) while the item index at this path is changed; beside the folder that holds it, which may be published."""
    index = Path(index).resolve()
    return index.parent.with_name(f".{index.parent.name}.{index.stem}.lock")


@dataclass(frozen=True)
class RunFolder:
    """The one folder of a run. Every stage reads what earlier stages left here and adds its own part."""

    root: Path

    def __init__(self, root: str | Path):
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
        """Codebooks, the item index and diagnostics."""
        return self.root / "sids"

    @property
    def checkpoint(self) -> Path:
        """The trained model; loads with `from_pretrained`."""
        return self.root / "checkpoint"

    @property
    def training(self) -> Path:
        """The trainer's own state, from which a stopped run resumes."""
        return self.root / "training"

    @property
    def evaluation(self) -> Path:
        """Metrics and TREC run files."""
        return self.root / "evaluation"

    @property
    def append_lock(self) -> Path:
        """Locked (see `locked`) while items are appended."""
        return self.root / ".append.lock"

    def require(self, part: str, made_by: str) -> Path:
        """Path of `part` (a property's name), or FileNotFoundError that says which command makes it."""
        path: Path = getattr(self, part)
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist; make it with `{made_by}`")
        return path
