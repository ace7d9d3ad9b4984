"""Import your own tables: items and, optionally, users, sessions and relevance judgements.

The columns are those of `onesearch.data.market.TABLES`. Each table may have a format of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..market import ATTRIBUTE_TYPES, SPLIT_METHODS, TABLES, Market
from . import fields
from .fields import BadRow, Row
from .importing import BadRows, Make, assemble, build_table, convert, read_csv, read_jsonl

SUFFIXES = {"jsonl": (".jsonl", ".jsonl.gz"), "parquet": (".parquet",), "csv": (".csv",)}
"""File name endings of each format. A CSV cell holds no list except in ``categories``, so sessions cannot be CSV."""

SEPARATOR = "|"
"""Separates the categories in a CSV cell."""


def import_tables(
    folder: str | Path,
    *,
    format: str | None = None,
    bad_rows: str = "raise",
    split: str | None = None,
    language: str | None = None,
    name: str | None = None,
) -> Market:
    """Read ``items`` and, where they exist, ``users``, ``sessions`` and ``relevance`` from `folder`.

    Each row is validated, and so are references between tables: an item of a session or a judgement must be in items, and a
    user must be in users if there is a users table. Ids may be integers; they become text. Sessions are sorted by time
    (sessions at the same time stay in file order); ``info["sessions_moved"]`` counts those that were not in order.

    Required columns:

    * items: ``item_id``, ``title``. ``attributes`` maps attribute types (`ATTRIBUTE_TYPES`) to a text or a list of texts.
    * users: ``user_id``.
    * sessions: ``session_id``, ``user_id``, ``time``, ``query``, ``clicked``, ``purchased``. A session with an empty query
      counts in histories and is never a request.
    * relevance: ``query``, ``item_id``, ``grade``.

    Args:
        folder: holds one file per table: ``.jsonl``, ``.jsonl.gz``, ``.parquet`` or, except for sessions, ``.csv`` in UTF-8
            with a header. In CSV, ``categories`` are separated by ``|``, and each column ``attributes.<type>`` holds one value.
        format: ``jsonl``, ``parquet`` or ``csv``: only files of this format are read. Default: every format, with at most one
            file per table.
        bad_rows: ``raise`` an error that names bad rows, or ``drop`` them and count them in ``info["dropped"]``.
        split: ``time``, ``leave_last_out`` or ``none``. Default: ``time`` if there are sessions, else ``none``.
        language: code such as ``en`` or ``zh``, stored in ``info``; BM25 chooses its tokenisation by it.
        name: name of the market. Default: name of the folder.

    Raises:
        FileNotFoundError: there is no items file.
        ValueError: an option is unknown, a table has two files, or there are bad rows; the message counts them per reason and
            names the first lines.

    Example:
        >>> market = import_tables("my_shop", bad_rows="drop")  # doctest: +SKIP
        >>> market.save("runs/my_shop/market")  # doctest: +SKIP
    """
    folder = Path(folder)
    if split is not None and split not in SPLIT_METHODS:
        raise ValueError(f"split={split!r} is unknown; allowed are {', '.join(SPLIT_METHODS)}")
    files = {table: _find(folder, table, format) for table in TABLES}
    if files["items"] is None:
        raise FileNotFoundError(f"{folder} holds no items ({', '.join(f'items{ending}' for ending in _endings(format))})")
    bad = BadRows(bad_rows)
    rows = _Rows()
    makers = rows.makers()
    tables = {table: _read(path, table, makers[table], bad) for table, path in files.items() if path is not None}
    times = tables["sessions"].column("time").to_numpy() if "sessions" in tables else np.empty(0)
    method = split or ("time" if len(times) else "none")
    info = {
        "name": name or folder.resolve().name,
        "source": "own tables: " + ", ".join(path.name for path in files.values() if path is not None),
        "language": language,
        "split": {"method": method, "validation": 0.05, "test": 0.1} if method == "time" else {"method": method},
        "sessions_moved": int(np.sum(np.argsort(times, kind="stable") != np.arange(len(times)))),
        "dropped": bad.close(),
    }
    return assemble(tables, info)


def _endings(format: str | None) -> tuple[str, ...]:
    """File name endings of one format, or of all."""
    if format is not None and format not in SUFFIXES:
        raise ValueError(f"format={format!r} is unknown; allowed are {', '.join(SUFFIXES)}")
    return SUFFIXES[format] if format else tuple(ending for endings in SUFFIXES.values() for ending in endings)


def _find(folder: Path, table: str, format: str | None) -> Path | None:
    """The file of one table; None if there is none."""
    found = [path for path in (folder / f"{table}{ending}" for ending in _endings(format)) if path.is_file()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise ValueError(f"{folder} holds {names}; keep one of them, or choose one with format=")
    if found and table == "sessions" and found[0].suffix == ".csv":
        raise ValueError(
            f"{found[0]}: sessions hold lists of items and cannot be CSV; write sessions.jsonl or sessions.parquet"
        )
    return found[0] if found else None


def _read(path: Path, table: str, make: Make, bad: BadRows) -> pa.Table:
    """One market table from its file."""
    if path.suffix == ".parquet":
        rows = _parquet_rows(path)
    elif path.suffix == ".csv":
        rows = _csv_rows(path, bad)
    else:
        rows = read_jsonl(path, bad)
    return build_table(table, convert(path, rows, make, bad))


def _parquet_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of each row, counted from 1, and the row."""
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a parquet file ({error})") from error
    with file:
        batches = file.iter_batches(batch_size=10_000)
        yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)


def _csv_rows(path: Path, bad: BadRows) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line number of each row, and its cells converted to the types of JSON; empty cells are left out."""
    for line, cells in read_csv(path, bad):
        try:
            yield line, _from_cells(cells)
        except BadRow as error:
            bad.add(path, line, error.reason, error.detail)


def _from_cells(cells: Mapping[str, str | None]) -> dict[str, Any]:
    """The cells of a CSV row as JSON would hold them: lists, numbers and a mapping of attributes."""
    row: dict[str, Any] = {}
    for column, cell in cells.items():
        if cell is None or not cell.strip():
            continue
        if column.startswith("attributes."):
            row.setdefault("attributes", {})[column.removeprefix("attributes.")] = cell
        elif column == "categories":
            row[column] = [part.strip() for part in cell.split(SEPARATOR)]
        elif column in ("price", "grade"):
            row[column] = _number(cell, column)
        else:
            row[column] = cell
    return row


def _number(cell: str, column: str) -> float | int:
    try:
        return int(cell) if column == "grade" else float(cell)
    except ValueError as error:
        raise BadRow(f"{column} must be a number", repr(cell)) from error


class _Rows:
    """Validates rows table by table, items and users first, and remembers the ids of accepted rows.

    The user of a session must be in the users table if that table has rows, as for `check_market`.
    """

    def __init__(self) -> None:
        self.item_ids: set[str] = set()
        self.user_ids: set[str] = set()
        self.session_ids: set[str] = set()

    def makers(self) -> dict[str, Make]:
        """Return the function that makes a row of each table."""
        return {"items": self.item, "users": self.user, "sessions": self.session, "relevance": self.judgement}

    def item(self, row: Row) -> dict[str, Any]:
        """Make a row of the items table."""
        _declared(row, TABLES["items"])
        item_id = fields.unique(fields.identifier(row, "item_id"), self.item_ids, "item_id")
        item = {
            "item_id": item_id,
            "title": fields.filled_text(row, "title"),
            "brand": fields.optional_text(row, "brand"),
            "seller": fields.optional_text(row, "seller"),
            "categories": _texts(row.get("categories"), "categories"),
            "price": fields.optional_number(row, "price"),
            "attributes": _attributes(row.get("attributes")),
            "features": _numbers(row.get("features")),
        }
        self.item_ids.add(item_id)
        return item

    def user(self, row: Row) -> dict[str, Any]:
        """Make a row of the users table."""
        _declared(row, TABLES["users"])
        user_id = fields.unique(fields.identifier(row, "user_id"), self.user_ids, "user_id")
        user = {"user_id": user_id, **{key: fields.optional_text(row, key) for key in ("gender", "age_bucket", "region")}}
        self.user_ids.add(user_id)
        return user

    def session(self, row: Row) -> dict[str, Any]:
        """Make a row of the sessions table; its items must be in the items table."""
        _declared(row, TABLES["sessions"])
        session_id = fields.unique(fields.identifier(row, "session_id"), self.session_ids, "session_id")
        user_id, time, query = fields.identifier(row, "user_id"), fields.integer(row, "time"), fields.text(row, "query")
        lists = {
            "impressed": [] if row.get("impressed") is None else fields.identifiers(row, "impressed"),
            "clicked": fields.identifiers(row, "clicked"),
            "purchased": fields.identifiers(row, "purchased"),
        }
        if self.user_ids:
            fields.known([user_id], self.user_ids, "user_id", "users")
        for key, values in lists.items():
            fields.known(values, self.item_ids, key, "items")
        fields.within_impressed(lists)
        self.session_ids.add(session_id)
        return {"session_id": session_id, "user_id": user_id, "time": time, "query": query, **lists}

    def judgement(self, row: Row) -> dict[str, Any]:
        """Make a row of the relevance table; its item must be in the items table."""
        _declared(row, TABLES["relevance"])
        item_id = fields.identifier(row, "item_id")
        fields.known([item_id], self.item_ids, "item_id", "items")
        return {"query": fields.filled_text(row, "query"), "item_id": item_id, "grade": fields.integer(row, "grade", 0, 3)}


def _declared(row: Row, allowed: Collection[str]) -> None:
    """Check that every column of a row is among `allowed`."""
    unknown = [column for column in row if column not in allowed]
    if unknown:
        raise BadRow(f"unknown column {unknown[0]!r}; allowed are {', '.join(allowed)}")


def _texts(value: Any, key: str) -> list[str]:
    """A list of texts without the blank ones; a single text becomes a list of one."""
    values = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(values, list):
        raise BadRow(f"{key} must be a text or a list of texts", repr(value))
    return [entry for entry in values if fields.as_text(entry, key).strip()]


def _attributes(value: Any) -> dict[str, list[str]]:
    """Lists of values by attribute type."""
    try:
        given = {} if value is None else dict(value)  # an Arrow map arrives as a list of pairs
    except (TypeError, ValueError) as error:
        raise BadRow("attributes must map attribute types to texts", repr(value)) from error
    for kind in given:
        if kind not in ATTRIBUTE_TYPES:
            raise BadRow(f"unknown attribute type {kind!r}; allowed are {', '.join(ATTRIBUTE_TYPES)}")
    return {kind: _texts(values, f"attributes.{kind}") for kind, values in given.items()}


def _numbers(value: Any) -> list[float]:
    """A list of finite numbers; None becomes an empty list."""
    values = [] if value is None else value
    if not isinstance(values, list):
        raise BadRow("features must be a list of numbers", repr(value))
    numbers = [fields.optional_number({"features": entry}, "features") for entry in values]
    if None in numbers:
        raise BadRow("features must be a list of numbers", repr(value))
    return [number for number in numbers if number is not None]
