"""One writer per run folder: a second command that would write into it is refused at once, and told which command is at work."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from onesearch.files import RunFolder, read_json, write_json
from onesearch.modeling_onesearch.locks_onesearch import FileLock

LOCK_NAME = ".run.lock"
"""Lock file in the folder of a run; it exists while a command writes there."""

NOTE_NAME = ".run.json"
"""File beside the lock: which command holds it, for the error message of others."""

HELD = "ONESEARCH_RUN"
"""Environment variable with the run folder that a command has locked for the processes that it starts."""

POLL = 0.05
"""Seconds between two attempts of a command that waits."""

_LOCKS: dict[Path, FileLock] = {}
_GUARD = threading.Lock()


@contextmanager
def writing(run: RunFolder, command: str, wait: float = 0.0) -> Iterator[None]:
    """Let one command at a time write into a run folder. One thread may nest blocks for the same folder.

    All processes of one torchrun count as one: the first of them holds the lock. So do the processes that a command starts with
    `held_environment`. The system releases the lock of a process that dies.

    Args:
        run: folder of the run, which must exist.
        command: name of the command, for the messages of others, for example ``onesearch train``.
        wait: seconds to wait for another process of the same command; any other command is refused at once.

    Raises:
        BlockingIOError: another command is writing into the folder; the message names it.
        OSError: the folder cannot be written to.
    """
    root = run.root.resolve()
    if os.environ.get("RANK", "0") != "0" or os.environ.get(HELD) == str(root):
        yield
        return
    with _GUARD:
        lock = _LOCKS.setdefault(root, FileLock(root / LOCK_NAME))
    _acquire(lock, run, command, wait)
    outermost = lock.depth == 1
    try:
        if outermost:
            since = datetime.now().astimezone().isoformat(timespec="seconds")
            write_json(root / NOTE_NAME, {"command": command, "pid": os.getpid(), "host": platform.node(), "since": since})
        yield
    finally:
        if outermost:
            (root / NOTE_NAME).unlink(missing_ok=True)
        lock.release()


@contextmanager
def writing_into(target: str | Path, command: str, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of the run folder that a market or a checkpoint belongs to while it is written. Elsewhere there is nothing to lock.

    A folder with the name of `RunFolder.market` belongs to the run around it, which is made for the lock if it does not exist yet. One
    with the name of `RunFolder.checkpoint` does so if its parent holds another part of a run: checkpoints are copied out of runs.

    Args:
        target: the market or the checkpoint.
        command: name of the command, for the messages of others.
        wait: seconds to wait for another process of the same command; any other command is refused at once.

    Raises:
        BlockingIOError: another command is writing into the run folder; the message names it.
        OSError: the run folder cannot be written to.
    """
    run = _run_around(Path(target).resolve())
    if run is None:
        yield
        return
    made = not run.root.exists()
    run.root.mkdir(parents=True, exist_ok=True)
    try:
        with writing(run, command, wait):
            yield
    finally:
        if made:
            with suppress(OSError):  # something is in it now
                run.root.rmdir()


def _run_around(target: Path) -> RunFolder | None:
    """The run that a folder is a part of; None if it is part of no run."""
    run = RunFolder(target.parent)
    if target == run.market:
        return run
    others = run.market, run.sids, run.training
    if target == run.checkpoint and any(part.is_dir() for part in others):
        return run
    return None


def held_environment(run: RunFolder) -> dict[str, str]:
    """Return the environment of a process that works for a command within its `writing` block."""
    return {**os.environ, HELD: str(run.root.resolve())}


def _acquire(lock: FileLock, run: RunFolder, command: str, wait: float) -> None:
    """Get the lock, or raise an error that names its holder."""
    deadline = time.monotonic() + wait
    while not lock.acquire(time.monotonic() + POLL):
        holder = _holder(run)
        if holder.get("command", command) != command or time.monotonic() >= deadline:
            raise BlockingIOError(
                f"{run.root} is being written by {_described(holder)}; wait until it has ended, or stop it, and run `{command}` again"
            )


def _holder(run: RunFolder) -> dict[str, object]:
    """The note of the command that holds the lock; empty while it is being written."""
    with suppress(OSError, ValueError):
        note = read_json(run.root / NOTE_NAME)
        if isinstance(note, dict):
            return note
    return {}


def _described(holder: dict[str, object]) -> str:
    if not holder:
        return "another command"
    return "`{command}` (process {pid} on {host}, since {since})".format(**{"pid": "?", "host": "?", "since": "?", **holder})


__all__ = ["HELD", "LOCK_NAME", "NOTE_NAME", "held_environment", "writing", "writing_into"]
