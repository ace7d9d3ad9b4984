"""Parts that all importers share: reading JSON lines, making rows, and building large tables in chunks. `csv_files.py` reads CSV."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..arrow_tables import as_dataset, table_from_rows
from ..bad_rows import VALUE, BadRows
from ..fields import BadRow, Note, Row
from ..market import Market
from ..schema import TABLES

Make = Callable[[Row, Note], dict[str, Any]]
"""Function that turns a row of a source into a row of a market table, or raises `BadRow`. It reports optional values that do not fit."""


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
        bad: receives the lines that are no JSON object, or name a key twice.

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
                    row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"), object_pairs_hook=_object)
                except BadRow as error:
                    bad.add_error(path.name, number, error)
                    continue
                except (ValueError, RecursionError) as error:
                    bad.add(path.name, number, "not valid JSON in UTF-8", error)
                    continue
                if isinstance(row, dict):
                    yield number, row
                else:
                    bad.add(path.name, number, "not a JSON object", row)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} is a damaged gzip file ({error}); download or compress it again") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of its pairs; a key that occurs twice would lose a value."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise BadRow("a key occurs twice in a JSON object", next(key for key in keys if keys.count(key) > 1))
    return found


def convert(path: Path, rows: Iterable[tuple[int, Row]], make: Make, bad: BadRows) -> Iterator[dict[str, Any]]:
    """Yield ``make(row, note)`` for every row of a file.

    Args:
        path: file of the rows, for messages.
        rows: line number and row.
        make: turns a row into a row of a market table.
        bad: receives the rows for which `make` raises `BadRow`, and the optional values that it reports to `note`.
    """
    for line, row in rows:

        def note(error: BadRow, line: int = line) -> None:
            bad.add_error(path.name, line, error, VALUE)

        try:
            yield make(row, note)
        except BadRow as error:
            bad.add_error(path.name, line, error)


def convert_jsonl(path: Path, make: Make, bad: BadRows) -> Iterator[dict[str, Any]]:
    """Yield ``make(row, note)`` for every row of a ``.jsonl`` or ``.jsonl.gz`` file; bad rows go to `bad`."""
    return convert(path, read_jsonl(path, bad), make, bad)


class TableBuilder:
    """Rows of one market table, collected in chunks, so that millions of rows never exist as Python objects at once.

    Args:
        name: name of the table, a key of `onesearch.data.schema.TABLES`.
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
        """Append one row; columns as in `onesearch.data.schema.TABLES`."""
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
    """Build a market table from rows, chunk by chunk; `name` is a key of `onesearch.data.schema.TABLES`."""
    return TableBuilder(name).extend(rows).table()


def assemble(tables: Mapping[str, pa.Table], info: Mapping[str, Any]) -> Market:
    """Build a market from tables.

    Args:
        tables: tables by name; absent ones are empty. The sessions are sorted by time; the sort is stable.
        info: contents of ``market.json``.

    Raises:
        ValueError: there is no item, for example because every row was dropped.
    """
    if not len(tables["items"]):
        raise ValueError(f"no item is left; left out were: {info.get('dropped') or 'none, the source holds no item'}")
    complete = {name: tables[name] if name in tables else table_from_rows(name, []) for name in TABLES}
    complete["sessions"] = _sorted_by_time(complete["sessions"])
    return Market(**{name: as_dataset(table) for name, table in complete.items()}, info=dict(info))


def _sorted_by_time(sessions: pa.Table) -> pa.Table:
    """The sessions table in order of time; sessions at the same time keep their order."""
    times = sessions.column("time").to_numpy()
    if np.all(times[1:] >= times[:-1]):
        return sessions
    return sessions.take(pa.array(np.argsort(times, kind="stable")))
