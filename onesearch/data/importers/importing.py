"""Parts that all importers share: reading files, collecting bad rows, and building large tables in chunks.

No bad row is skipped silently. It raises an error with file and line, or it is left out on request and counted in
``market.info["dropped"]``.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..market import TABLES, Market, as_dataset, table_from_rows
from .fields import BadRow, Row

BAD_ROWS = ("raise", "drop")

Make = Callable[[Row], dict[str, Any]]
"""Function that turns a row of a source into a row of a market table, or raises `BadRow`."""


class BadRows:
    """Counts of bad rows per file and reason, with the first few as examples.

    Args:
        mode: with ``raise``, `close` raises if there was any bad row; with ``drop``, it returns the counts.
        examples: number of rows per reason that the error names.

    Raises:
        ValueError: the mode is unknown.
    """

    def __init__(self, mode: str = "raise", examples: int = 3) -> None:
        if mode not in BAD_ROWS:
            raise ValueError(f"bad_rows={mode!r} is unknown; allowed are {', '.join(BAD_ROWS)}")
        self.mode = mode
        self.examples = examples
        self.counts: Counter[str] = Counter()
        self._first: dict[str, list[str]] = {}

    def add(self, path: Path, line: int, reason: str, detail: Any = "") -> None:
        """Record one bad row.

        Args:
            path: file of the row.
            line: line of the row, counted from 1.
            reason: the problem, without the value.
            detail: the wrong value.
        """
        key = f"{path.name}: {reason}"
        self.counts[key] += 1
        first = self._first.setdefault(key, [])
        if len(first) < self.examples:
            first.append(f"{path.name}:{line}" + (f" ({_shorten(detail)})" if detail != "" else ""))

    def close(self) -> dict[str, int]:
        """Return the counts by file and reason.

        Raises:
            ValueError: there were bad rows and the mode is ``raise``; lists every reason with its count and its first rows.
        """
        if self.counts and self.mode == "raise":
            lines = [f"  {count} × {key}; first: {', '.join(self._first[key])}" for key, count in self.counts.most_common()]
            total = sum(self.counts.values())
            raise ValueError(f"{total} bad rows; correct them, or pass bad_rows='drop' to leave them out:\n" + "\n".join(lines))
        return dict(self.counts)


def required_files(folder: str | Path, names: Sequence[str]) -> list[Path]:
    """Return the paths of the named files in `folder`.

    Raises:
        FileNotFoundError: a file is missing; the message names it and all files that are needed.
    """
    paths = [Path(folder) / name for name in names]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; the folder must hold {', '.join(names)}")
    return paths


def read_jsonl(path: Path, bad: BadRows) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line number (from 1) and the object of each line of a ``.jsonl`` or ``.jsonl.gz`` file.

    Args:
        path: file to read; blank lines are skipped.
        bad: receives the lines that are no JSON object.

    Raises:
        ValueError: the gzip file is damaged.
    """
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


def read_csv(path: Path, bad: BadRows, required: Collection[str] = ()) -> Iterator[tuple[int, dict[str, str | None]]]:
    """Yield the line number and the cells by column of each row of a CSV file in UTF-8 with a header.

    Args:
        path: file to read. Cells that a short row lacks are None.
        bad: receives the rows that have more cells than the header has columns.
        required: columns that the header must name.

    Raises:
        ValueError: a column is missing, or the file is no CSV file in UTF-8.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            missing = [column for column in required if column not in (reader.fieldnames or ())]
            if missing:
                raise ValueError(f"{path}: missing columns {missing}; the first line must name {list(required)}")
            for cells in reader:
                surplus = cells.pop(reader.restkey, None)
                if surplus is None:
                    yield reader.line_num, cells
                else:
                    bad.add(path, reader.line_num, "more cells than the header has columns", surplus)
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{path}:{reader.line_num + 1} cannot be read as CSV in UTF-8 ({error})") from error


def convert(path: Path, rows: Iterable[tuple[int, Row]], make: Make, bad: BadRows) -> Iterator[dict[str, Any]]:
    """Yield ``make(row)`` for every row of a file.

    Args:
        path: file of the rows, for messages.
        rows: line number and row.
        make: turns a row into a row of a market table.
        bad: receives the rows for which `make` raises `BadRow`.
    """
    for line, row in rows:
        try:
            yield make(row)
        except BadRow as error:
            bad.add(path, line, error.reason, error.detail)


def convert_jsonl(path: Path, make: Make, bad: BadRows) -> Iterator[dict[str, Any]]:
    """Yield ``make(row)`` for every row of a ``.jsonl`` or ``.jsonl.gz`` file; bad rows go to `bad`."""
    return convert(path, read_jsonl(path, bad), make, bad)


class TableBuilder:
    """Rows of one market table, collected in chunks, so that millions of rows never exist as Python objects at once.

    Args:
        name: name of the table, a key of `onesearch.data.market.TABLES`.
        chunk: number of rows per chunk; raising it takes more memory and does not change the table.
    """

    def __init__(self, name: str, chunk: int = 50_000) -> None:
        self.name = name
        self._chunk = chunk
        self._rows: list[Row] = []
        self._tables: list[pa.Table] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, row: Row) -> None:
        """Append one row; columns as in `onesearch.data.market.TABLES`."""
        self._rows.append(row)
        self._count += 1
        if len(self._rows) >= self._chunk:
            self._flush()

    def extend(self, rows: Iterable[Row]) -> TableBuilder:
        """Append many rows and return the builder."""
        for row in rows:
            self.add(row)
        return self

    def table(self) -> pa.Table:
        """Return all rows added so far as one Arrow table."""
        if self._rows or not self._tables:
            self._flush()
        return pa.concat_tables(self._tables)

    def _flush(self) -> None:
        self._tables.append(table_from_rows(self.name, self._rows))
        self._rows = []


def build_table(name: str, rows: Iterable[Row]) -> pa.Table:
    """Build a market table from rows, chunk by chunk; `name` is a key of `onesearch.data.market.TABLES`."""
    return TableBuilder(name).extend(rows).table()


def assemble(tables: Mapping[str, pa.Table], info: Mapping[str, Any]) -> Market:
    """Build a market from tables.

    Args:
        tables: tables by name; absent ones are empty. The sessions are sorted by time; the sort is stable.
        info: contents of ``market.json``.
    """
    complete = {name: tables[name] if name in tables else table_from_rows(name, []) for name in TABLES}
    complete["sessions"] = _sorted_by_time(complete["sessions"])
    return Market(**{name: as_dataset(table) for name, table in complete.items()}, info=dict(info))


def _sorted_by_time(sessions: pa.Table) -> pa.Table:
    """The sessions table in order of time; sessions at the same time keep their order."""
    times = sessions.column("time").to_numpy()
    if np.all(times[1:] >= times[:-1]):
        return sessions
    return sessions.take(pa.array(np.argsort(times, kind="stable")))


def _shorten(detail: Any, length: int = 80) -> str:
    words = str(detail)
    return words if len(words) <= length else words[: length - 1] + "…"
