"""A lock on an item index that processes share: one of them at a time checks what is on disk and writes.

The lock file is locked as the `filelock` package does it (`flock`, on Windows `msvcrt.locking`), so both exclude each other. The system
releases the lock of a process that dies.
Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows
    pass
try:
    import msvcrt
except ImportError:  # elsewhere
    pass

LOCK_TIMEOUT = 600.0
"""Seconds that `index_locked` waits by default; our choice."""

POLL = 0.005
"""Seconds between two attempts to get a lock."""


class FileLock:
    """A lock file, as one process sees it.

    Args:
        path: the lock file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.of_threads = threading.RLock()
        self.depth = 0
        self.descriptor: int | None = None

    def acquire(self, deadline: float) -> bool:
        """Wait for the other threads of this process, then for other processes; return whether the lock was got in time."""
        if not self.of_threads.acquire(timeout=max(deadline - time.monotonic(), 0)):
            return False
        try:
            while self.depth == 0 and not self._try():
                if time.monotonic() > deadline:
                    self.of_threads.release()
                    return False
                time.sleep(POLL)
        except BaseException:
            self.of_threads.release()
            raise
        self.depth += 1
        return True

    def release(self) -> None:
        """Leave the innermost block."""
        self.depth -= 1
        if self.depth == 0 and self.descriptor is not None:
            if sys.platform != "win32":
                self.path.unlink(missing_ok=True)  # whoever has opened it meanwhile sees that it has no name any more
            os.close(self.descriptor)
            self.descriptor = None
        self.of_threads.release()

    def forget(self) -> None:
        """Close the file in a child process, to which the lock does not belong."""
        if self.descriptor is not None:
            os.close(self.descriptor)
        self.descriptor = None

    def _try(self) -> bool:
        """Try to lock the file once."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if sys.platform == "win32":
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(descriptor).st_nlink == 0:  # its last owner has deleted it
                    raise BlockingIOError
        except (BlockingIOError, PermissionError):  # msvcrt raises the latter
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self.descriptor = descriptor
        return True


_LOCKS: dict[Path, FileLock] = {}
_GUARD = threading.Lock()


@contextmanager
def index_locked(index: str | os.PathLike, timeout: float = LOCK_TIMEOUT) -> Iterator[None]:
    """Let one process and one thread at a time change an item index; others wait. One thread may nest blocks.

    Args:
        index: path of the item index.
        timeout: seconds to wait.

    Raises:
        TimeoutError: another process or thread held the lock for the whole time.
        OSError: the lock file cannot be made.
    """
    path = index_lock(index)
    with _GUARD:
        lock = _LOCKS.setdefault(path, FileLock(path))
    if not lock.acquire(time.monotonic() + timeout):
        raise TimeoutError(
            f"changing {index}: another process has held the lock {path} for {timeout:.0f} seconds; try again when it has ended"
        )
    try:
        yield
    finally:
        lock.release()


def index_lock(index: str | os.PathLike) -> Path:
    """Return the lock file for changes of an item index.

    It lies beside the folder of the index, because that folder may be published; in it, if nothing can be written beside it.

    Args:
        index: path of the item index.
    """
    index = Path(index).resolve()
    folder = index.parent
    if folder.name and os.access(folder.parent, os.W_OK):
        return folder.with_name(f".{folder.name}.{index.stem}.lock")
    return folder / f".{index.stem}.lock"


def _forget_locks() -> None:
    """Make all locks free in a child process that was forked while other threads held them."""
    global _GUARD
    _GUARD = threading.Lock()
    for lock in _LOCKS.values():
        lock.forget()
    _LOCKS.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_locks)


__all__ = ["LOCK_TIMEOUT", "FileLock", "index_lock", "index_locked"]
