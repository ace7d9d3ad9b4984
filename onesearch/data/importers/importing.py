"""What the importers share: reading JSON lines, judging rows one by one, and building large tables in chunks.

A bad row is never skipped in silence: it raises (with file and line), or it is dropped on request and counted in
``market.info["dropped"]``.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..market import TABLES, Market, as_dataset, table_from_rows

BAD_ROWS = ("raise", "drop")


class BadRow(ValueError):
    """A row that cannot be imported.

    Args:
        reason: what is wrong and what is allowed, without values: rows are counted by it.
        detail: the value that is wrong.
    """

    def __init__(self, reason: str, detail: Any = ""):
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


class BadRows:
    """Counts bad rows per file and reason, and keeps the first few as examples.

    Args:
        mode: ``raise``: `close` raises when there was any; ``drop``: `close` returns the counts.
        examples: how many rows per reason the error names.
    """

    def __init__(self, mode: str = "raise", examples: int = 3):
        if mode not in BAD_ROWS:
            raise ValueError(f"bad_rows={mode!r} is unknown; allowed are {', '.join(BAD_ROWS)}")
        self.mode = mode
        self.examples = examples
        self.counts: Counter[str] = Counter()
        self._first: dict[str, list[str]] = {}

    def add(self, path: Path, line: int, reason: str, detail: Any = "") -> None:
        """Record one bad row: line `line` of `path` (counted from 1)."""
        key = f"{path.name}: {reason}"
        self.counts[key] += 1
        first = self._first.setdefault(key, [])
        if len(first) < self.examples:
            first.append(f"{path.name}:{line}" + (f" ({_shorten(detail)})" if detail != "" else ""))

    def close(self) -> dict[str, int]:
        """Counts per file and reason.

        Raises:
            ValueError: there were bad rows and the mode is ``raise``; lists every reason with its count and its first rows.
        """
        if self.counts and self.mode == "raise":
            lines = [f"  {count} × {key}; first: {', '.join(self._first[key])}" for key, count in self.counts.most_common()]
            total = sum(self.counts.values())
            raise ValueError(f"{total} bad rows; correct them, or pass bad_rows='drop' to leave them out:\n" + "\n".join(lines))
        return dict(self.counts)


def required_files(folder: str | Path, names: Sequence[str]) -> list[Path]:
    """Paths of the named files in `folder`; FileNotFoundError names the first that is missing and all that are needed."""
    paths = [Path(folder) / name for name in names]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; the folder must hold {', '.join(names)}")
    return paths


def read_jsonl(path: Path, bad: BadRows) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number from 1, object) of a ``.jsonl`` or ``.jsonl.gz`` file; malformed lines go to `bad`."""
    opened = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
    with opened as file:
        try:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                except ValueError as error:
                    bad.add(path, number, "not valid JSON in UTF-8", error)
                    continue
                if isinstance(row, dict):
                    yield number, row
                else:
                    bad.add(path, number, "not a JSON object", row)
        except (EOFError, gzip.BadGzipFile) as error:
            raise ValueError(f"{path} is a damaged gzip file ({error}); download or compress it again") from error


def read_csv(path: Path, required: Collection[str] = ()) -> Iterator[tuple[int, dict[str | None, Any]]]:
    """Yield (line number, cells by column) of a CSV file in UTF-8 with a header that names the `required` columns."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            missing = [column for column in required if column not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(f"{path}: missing columns {missing}; the first line must name {list(required)}")
            for cells in reader:
                yield reader.line_num, cells
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}:{reader.line_num + 1} cannot be read as CSV in UTF-8 ({error})") from error


def convert(
    path: Path, rows: Iterable[tuple[int, Mapping[str, Any]]], make: Callable[[Mapping[str, Any]], dict[str, Any]], bad: BadRows
) -> Iterator[dict[str, Any]]:
    """Yield ``make(row)`` for every row; those for which it raises `BadRow` go to `bad`."""
    for line, row in rows:
        try:
            yield make(row)
        except BadRow as error:
            bad.add(path, line, error.reason, error.detail)


class TableBuilder:
    """Collects rows of one market table in chunks, so that millions of rows never live as Python objects at once."""

    def __init__(self, name: str, chunk: int = 50_000):
        self.name = name
        self._chunk = chunk
        self._rows: list[Mapping[str, Any]] = []
        self._tables: list[pa.Table] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, row: Mapping[str, Any]) -> None:
        """Append one row; columns as in `onesearch.data.market.TABLES`."""
        self._rows.append(row)
        self._count += 1
        if len(self._rows) >= self._chunk:
            self._flush()

    def extend(self, rows: Iterable[Mapping[str, Any]]) -> TableBuilder:
        """Append many rows and return the builder."""
        for row in rows:
            self.add(row)
        return self

    def table(self) -> pa.Table:
        """Everything added so far, as one Arrow table."""
        if self._rows or not self._tables:
            self._flush()
        return pa.concat_tables(self._tables)

    def _flush(self) -> None:
        self._tables.append(table_from_rows(self.name, self._rows))
        self._rows = []


def assemble(tables: Mapping[str, pa.Table], info: Mapping[str, Any]) -> Market:
    """Market of the given tables (absent ones are empty), its sessions in time order; equal times stay in the order given."""
    complete = {name: tables[name] if name in tables else table_from_rows(name, []) for name in TABLES}
    complete["sessions"] = sorted_by_time(complete["sessions"])
    return Market(**{name: as_dataset(table) for name, table in complete.items()}, info=dict(info))


def sorted_by_time(sessions: pa.Table) -> pa.Table:
    """The sessions table in order of ``time``; the sort is stable."""
    times = sessions.column("time").to_numpy()
    if np.all(times[1:] >= times[:-1]):
        return sessions
    return sessions.take(pa.array(np.argsort(times, kind="stable")))


def identifier(row: Mapping[str, Any], key: str) -> str:
    """The id under `key`: text that is not blank, or an integer (which becomes text)."""
    return as_identifier(row.get(key), key)


def as_identifier(value: Any, key: str) -> str:
    """`value` as an id; `key` is named in the error."""
    if type(value) is int or (type(value) is str and value.strip()):
        return as_text(str(value), key)
    raise BadRow(f"{key} must be text or an integer, and not empty", repr(value))


def identifiers(row: Mapping[str, Any], key: str) -> list[str]:
    """The list of ids under `key`."""
    value = row.get(key)
    if not isinstance(value, list):
        raise BadRow(f"{key} must be a list of ids", repr(value))
    return [as_identifier(entry, key) for entry in value]


def text(row: Mapping[str, Any], key: str) -> str:
    """The text under `key`; blank text is allowed, null is not."""
    return as_text(row.get(key), key)


def as_text(value: Any, key: str) -> str:
    """`value` as text that UTF-8 can hold; `key` is named in the error."""
    if not isinstance(value, str):
        raise BadRow(f"{key} must be text", repr(value))
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRow(f"{key} holds half a character (a lone surrogate)", repr(value)) from error
    return value


def filled_text(row: Mapping[str, Any], key: str) -> str:
    """The text under `key`, which must not be blank."""
    value = text(row, key)
    if not value.strip():
        raise BadRow(f"{key} must not be blank")
    return value


def optional_text(row: Mapping[str, Any], key: str, unknown: Collection[str] = ()) -> str | None:
    """The text under `key`; None where it is absent, blank or one of `unknown`."""
    if row.get(key) is None:
        return None
    value = text(row, key).strip()
    return None if not value or value in unknown else value


def integer(row: Mapping[str, Any], key: str, low: int = -(2**63), high: int = 2**63 - 1) -> int:
    """The integer under `key`, from `low` to `high` inclusive."""
    value = row.get(key)
    if type(value) is not int or not low <= value <= high:
        raise BadRow(f"{key} must be an integer" + (f" from {low} to {high}" if low > -(2**63) else " of 64 bits"), repr(value))
    return value


def optional_number(row: Mapping[str, Any], key: str) -> float | None:
    """The finite number under `key`, or None where it is absent."""
    value = row.get(key)
    if value is None:
        return None
    if type(value) not in (int, float) or not math.isfinite(value):
        raise BadRow(f"{key} must be a finite number or null", repr(value))
    return float(value)


def unique(value: str, seen: Container[str], key: str) -> str:
    """`value`, unless it is among `seen` already."""
    if value in seen:
        raise BadRow(f"{key} occurs twice; ids must be unique", repr(value))
    return value


def known(values: Iterable[str], allowed: Container[str], key: str, table: str) -> None:
    """Raise `BadRow` with the first of `values` that is not among `allowed` (the ids of `table`)."""
    missing = next((value for value in values if value not in allowed), None)
    if missing is not None:
        raise BadRow(f"{key} is not in {table}", repr(missing))


def within_impressed(session: Mapping[str, Any]) -> None:
    """Raise `BadRow` when something clicked or purchased was not impressed; a session without impressions is not judged."""
    if not session["impressed"]:
        return
    shown = set(session["impressed"])
    for key in ("clicked", "purchased"):
        missing = next((item for item in session[key] if item not in shown), None)
        if missing is not None:
            raise BadRow(f"{key} holds an item that is not among the impressed", repr(missing))


def _shorten(detail: Any, width: int = 80) -> str:
    words = str(detail)
    return words if len(words) <= width else words[: width - 1] + "…"
