"""The event log: clicks and purchases of users, appended to a file of the run, from which the reward model's memory is updated."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onesearch.data.arrow_tables import table_from_rows
from onesearch.files import locked

if TYPE_CHECKING:
    import pyarrow as pa

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
        with self._locked("writing to"):
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
                yield self._parsed(line, f"line {number}")

    def since(self, begin: int) -> tuple[pa.Table, int]:
        """Give the sessions that were appended after a place of the log.

        Args:
            begin: size of the part that is left out, in bytes; 0 or the end that an earlier call returned.

        Returns:
            The sessions in the columns of the sessions table, sorted by time, and the end of the last of them in the log, in bytes.

        Raises:
            ValueError: the log is not the one that `begin` was returned for, or a line is damaged.
            TimeoutError: another process has held the lock of the log for ten minutes.
        """
        data, before = b"", b"\n"
        size = self.path.stat().st_size if self.path.is_file() else 0
        if size > begin:
            with self._locked("reading"), open(self.path, "rb") as file:  # `append` takes lines back if it fails
                file.seek(max(begin - 1, 0))
                before = file.read(1) if begin else before
                data = file.read()
        if size < begin or (data and before != b"\n"):
            raise ValueError(
                f"{self.path} was changed: {begin:,} bytes of it were counted, and it has {size:,} now or another line ends there; put the "
                "old log back, or train the reward model again with `onesearch reward`, which counts the log from its begin"
            )
        data = data[: data.rfind(b"\n") + 1]
        sessions = [self._parsed(line, f"after byte {begin:,}, line {n}") for n, line in enumerate(data.splitlines(), start=1)]
        return table_from_rows("sessions", sessions).sort_by("time"), begin + len(data)

    def _locked(self, doing: str) -> AbstractContextManager[None]:
        return locked(self.path.with_name(f".{EVENTS_NAME}.lock"), f"{doing} {self.path}")

    def _parsed(self, line: bytes, place: str) -> dict[str, Any]:
        try:
            session: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{self.path}, {place} is damaged ({error}); remove the line") from error
        return session

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
