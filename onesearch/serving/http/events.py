"""The event log: what users did with the hits, appended to a file of the run, from which the reward model's memory is updated."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from onesearch.files import locked

EVENTS_NAME = "events.jsonl"
"""File of the log, in the folder ``events`` of a run."""


class EventLog:
    """An append-only file with one session per line, in the columns of the sessions table of a market.

    A session is on the disk when `append` returns. Several processes may append to one log.

    Args:
        folder: folder of the log, which is made with the first event.
    """

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / EVENTS_NAME

    def append(self, sessions: Sequence[Mapping[str, Any]]) -> None:
        """Write sessions to the end of the log, all of them or, if the process dies, a part that `read` leaves out if it is half a line.

        Raises:
            OSError: the disk is full or cannot be written; the log is as before then.
            TimeoutError: another process has held the lock of the log for ten minutes.
        """
        lines = "".join(json.dumps(session, ensure_ascii=True, separators=(",", ":")) + "\n" for session in sessions)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path.with_name(f".{EVENTS_NAME}.lock"), f"writing to {self.path}"):
            with open(self.path, "ab+") as file:
                end = self._whole_lines(file.tell())
                file.truncate(end)
                try:
                    file.write(lines.encode("ascii"))
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(end)
                    raise

    def read(self) -> Iterator[dict[str, Any]]:
        """Give the sessions of the log, oldest first; none if there is no log.

        Raises:
            ValueError: a line is damaged.
        """
        if not self.path.is_file():
            return
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):  # a writer was killed before it answered, or is at work
                    return
                try:
                    yield json.loads(line)
                except ValueError as error:
                    raise ValueError(f"{self.path}, line {number} is damaged ({error}); remove the line") from error

    def _whole_lines(self, size: int) -> int:
        """Size of the log without a last line that a killed writer left unfinished."""
        with open(self.path, "rb") as file:
            while size:
                begin = max(size - 65536, 0)
                file.seek(begin)
                place = file.read(size - begin).rfind(b"\n")
                if place >= 0:
                    return begin + place + 1
                size = begin
        return 0


__all__ = ["EVENTS_NAME", "EventLog"]
