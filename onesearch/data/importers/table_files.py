"""The files of one's own tables: which file holds which table, and its rows, whatever the format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..bad_rows import COLUMN, VALUE, BadRows
from ..fields import BadRow
from ..market import MARKET_FOLDER
from ..schema import ATTRIBUTE_TYPES, REQUIRED_COLUMNS, STATISTICS, TABLES
from .csv_files import read_csv
from .importing import read_jsonl

SUFFIXES = {"jsonl": (".jsonl", ".jsonl.gz"), "parquet": (".parquet",), "csv": (".csv",)}
"""File name endings of each format. A CSV cell holds no list except in ``categories``, so sessions cannot be CSV."""

SEPARATOR = "|"
"""Separates the categories in a CSV cell."""

ATTRIBUTE = "attributes."
"""Begins the name of a CSV column that holds one value of an attribute type."""


def find_files(folder: Path, format: str | None, bad: BadRows) -> dict[str, Path]:
    """Find the file of each table that `folder` has.

    Args:
        folder: holds the files. Hidden files and ``market.json`` are no tables; every other entry is named.
        format: key of `SUFFIXES`; None reads every format.
        bad: receives the files that are no table, for example because of a misspelt name.

    Raises:
        FileNotFoundError: there is no folder, or it holds no items.
        ValueError: the format is unknown, a table has two files, or sessions are CSV.
    """
    if format is not None and format not in SUFFIXES:
        raise ValueError(f"format={format!r} is unknown; allowed are {', '.join(SUFFIXES)}")
    every = tuple(ending for endings in SUFFIXES.values() for ending in endings)
    wanted = SUFFIXES[format] if format else every
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; it must hold items ({', '.join(f'items{end}' for end in wanted)})")
    found = {table: _find(folder, table, wanted) for table in TABLES}
    known = {f"{table}{ending}" for table in TABLES for ending in every} | MARKET_FOLDER.parts
    for entry in sorted(folder.iterdir()):
        if entry.name in known and entry.is_file():
            continue
        if not entry.name.startswith((".", "_")):
            names = f"{', '.join(TABLES)} with {', '.join(every)}"
            bad.add(entry.name, None, f"not the file of a table; rename it to one of {names}, or move it away")
    files = {table: path for table, path in found.items() if path is not None}
    if "items" not in files:
        bad.close()
        raise FileNotFoundError(f"{folder} holds no items ({', '.join(f'items{ending}' for ending in wanted)})")
    return files


def _find(folder: Path, table: str, endings: tuple[str, ...]) -> Path | None:
    """The file of one table; None if there is none."""
    found = [path for path in (folder / f"{table}{ending}" for ending in endings) if path.is_file()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise ValueError(f"{folder} holds {names}; keep one of them, or choose one with --format (format=)")
    if found and table == "sessions" and found[0].suffix == ".csv":
        raise ValueError(
            f"{found[0]}: sessions hold lists of items and cannot be CSV; write sessions.jsonl or sessions.parquet"
        )
    return found[0] if found else None


def read_rows(path: Path, table: str, bad: BadRows) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line of each row (for parquet: its number, from 1) and its values by column.

    Args:
        path: file of the table.
        table: name of the table.
        bad: receives the rows that cannot be read and, once per file, each unknown column.

    Raises:
        ValueError: the file is no table of its format, lacks a required column, or has a column twice.
    """
    if path.suffix == ".parquet":
        rows = _parquet_rows(path, table)
    elif path.suffix == ".csv":
        rows = _csv_rows(path, table, bad)
    else:
        rows = read_jsonl(path, bad)
    seen: set[str] = set()
    for line, row in rows:
        for column in row:
            if column not in TABLES[table] and column not in seen:
                seen.add(column)
                allowed = f"unknown column {column!r}; allowed are {', '.join(TABLES[table])}"
                bad.add(path.name, line, allowed, repr(row[column]), COLUMN)
        yield line, row


def _parquet_rows(path: Path, table: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of each row, counted from 1, and the row."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is not a parquet file ({error})") from error
    with file:
        names = file.schema_arrow.names
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"{path} has the columns {doubled} twice, so that one would be lost; rename or remove one")
        missing = [column for column in REQUIRED_COLUMNS[table] if column not in names]
        if missing:
            raise ValueError(f"{path}: missing columns {missing}; {table} needs {list(REQUIRED_COLUMNS[table])}")
        try:
            batches = file.iter_batches(batch_size=10_000)
            yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path} is damaged ({error}); write it again") from error


def _csv_rows(path: Path, table: str, bad: BadRows) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line of each row, and its cells as JSON would hold them; empty cells are left out."""
    for line, cells in read_csv(path, bad, REQUIRED_COLUMNS[table]):
        try:
            yield line, _from_cells(path, line, cells, bad)
        except BadRow as error:
            bad.add_error(path.name, line, error)


def _from_cells(path: Path, line: int, cells: Mapping[str, str], bad: BadRows) -> dict[str, Any]:
    """The cells of a CSV row as JSON would hold them: lists, numbers and a mapping of attributes."""
    row: dict[str, Any] = {}
    for column, cell in cells.items():
        kind = column.removeprefix(ATTRIBUTE)
        if column.startswith(ATTRIBUTE) and kind in ATTRIBUTE_TYPES:
            if cell.strip():
                row.setdefault("attributes", {})[kind] = cell
        elif column not in ALLOWED_CELLS:
            row[column] = cell
        elif not cell.strip():
            continue
        elif column in ("categories", "tags"):
            row[column] = [part.strip() for part in cell.split(SEPARATOR)]
        elif column == "price":
            try:
                row[column] = float(cell)
            except ValueError:
                bad.add(path.name, line, "price must be a number", repr(cell), VALUE)
        elif column in ("grade", "time", *STATISTICS):
            row[column] = _whole_number(cell, column)
        else:
            row[column] = cell
    return row


ALLOWED_CELLS = frozenset(column for features in TABLES.values() for column in features) - {"attributes", "features"}
"""Columns that a CSV file may have, besides those of attribute types."""


def _whole_number(cell: str, column: str) -> int:
    try:
        return int(cell)
    except ValueError as error:
        raise BadRow(f"{column} must be a number", repr(cell)) from error


__all__ = ["SUFFIXES", "find_files", "read_rows"]
