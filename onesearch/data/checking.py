"""Check a market folder: every problem is named with its table and row. Columns are checked whole, with Arrow and NumPy.

Users are optional: a session's user must be in the users table only if that table has rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from onesearch.files import read_json

from .market import ATTRIBUTE_TYPES, REQUIRED_COLUMNS, SPLIT_METHODS, TABLES, arrow_schema

Columns = Mapping[str, pa.ChunkedArray]
"""Columns of one table that are there and hold the declared type."""

LISTS = {"items": ("categories", "features"), "sessions": ("impressed", "clicked", "purchased")}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a market.

    Args:
        table: ``items``, ``users``, ``sessions``, ``relevance`` or ``market.json``.
        row: row of the parquet file, from 0; None if the problem is not one of a row.
        kind: short name, the same for all problems of a kind.
        message: what is wrong, with the value, and what is allowed.
    """

    table: str
    row: int | None
    kind: str
    message: str


def check_market(folder: str | Path) -> list[Problem]:
    """Problems of a market folder; an empty list means that it can be used.

    Kinds: ``missing_file``, ``unreadable_file``, ``missing_column``, ``unknown_column``, ``column_type``, ``empty_id``,
    ``duplicate_id``, ``dangling_user``, ``dangling_item``, ``empty_title``, ``empty_query`` (of a judgement), ``null_query``,
    ``null_list``, ``null_time``, ``unsorted``, ``not_impressed``, ``grade``, ``split``.
    What needs a column that is missing or ill-typed is not checked until that is put right. A session without impressions is
    not judged by them; an empty query of a session is behaviour without a search, and allowed.

    Args:
        folder: holds ``items.parquet``, ``users.parquet``, ``sessions.parquet``, ``relevance.parquet`` and ``market.json``.

    Raises:
        NotADirectoryError: `folder` is not a folder.

    Example:
        >>> print(report(check_market("runs/demo/market")))  # doctest: +SKIP
        no problems
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder; a market is a folder of parquet files, made by Market.save")
    problems: list[Problem] = []
    tables: dict[str, Columns] = {}
    for name in TABLES:
        tables[name], found = _read_table(folder, name)
        problems += found
    for check in (_check_split, _check_items, _check_users, _check_sessions, _check_relevance):
        problems += check(folder, tables)
    return problems


def report(problems: list[Problem], limit: int = 20) -> str:
    """Text for people: per table and kind a count and the first `limit` problems."""
    if not problems:
        return "no problems"
    lines = [f"{len(problems)} problems"]
    for (table, kind), group in groupby(sorted(problems, key=lambda p: (p.table, p.kind)), key=lambda p: (p.table, p.kind)):
        members = list(group)
        lines.append(f"{table}: {kind}: {len(members)}")
        lines += [f"  {'' if p.row is None else f'row {p.row}: '}{p.message}" for p in members[:limit]]
        if len(members) > limit:
            lines.append(f"  … and {len(members) - limit} more")
    return "\n".join(lines)


def _read_table(folder: Path, name: str) -> tuple[dict[str, pa.ChunkedArray], list[Problem]]:
    """The sound columns of one table, and what is wrong with the others."""
    path = folder / f"{name}.parquet"
    if not path.is_file():
        return {}, [Problem(name, None, "missing_file", f"{path.name} does not exist; a table without rows is a file, too")]
    try:
        table = pq.read_table(path, memory_map=True)
    except (pa.ArrowInvalid, OSError) as error:
        return {}, [Problem(name, None, "unreadable_file", f"{path.name} is not a readable parquet file ({error})")]
    schema = arrow_schema(name)
    problems = [
        Problem(name, None, "missing_column", f"column {column!r} is missing; {name} needs {list(REQUIRED_COLUMNS[name])}")
        for column in REQUIRED_COLUMNS[name]
        if column not in table.column_names
    ]
    columns = {}
    for column in table.column_names:
        if column not in schema.names:
            message = f"column {column!r} is unknown; allowed are {schema.names}"
            problems.append(Problem(name, None, "unknown_column", message))
            continue
        try:
            columns[column] = table.column(column).cast(schema.field(column).type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            message = f"column {column!r} is {table.column(column).type}, expected {schema.field(column).type} ({error})"
            problems.append(Problem(name, None, "column_type", message))
    return columns, problems


def _check_split(folder: Path, _tables: Mapping[str, Columns]) -> Iterator[Problem]:
    table = "market.json"
    if not (folder / table).is_file():
        yield Problem(table, None, "missing_file", f"{table} does not exist; it holds name, source and split")
        return
    try:
        info = read_json(folder / table)
    except ValueError as error:
        yield Problem(table, None, "unreadable_file", str(error))
        return
    split = info.get("split", {"method": "none"}) if isinstance(info, dict) else None
    if not isinstance(split, dict):
        yield Problem(table, None, "split", f'split is {split!r}; expected an object such as {{"method": "time"}}')
    elif split.get("method") not in SPLIT_METHODS:
        allowed = ", ".join(SPLIT_METHODS)
        yield Problem(table, None, "split", f"split method {split.get('method')!r} is unknown; allowed are {allowed}")
    elif split["method"] == "time":
        shares = [split.get("test", 0.1), split.get("validation", 0.05)]
        numbers = all(type(share) in (int, float) for share in shares)
        if not numbers or shares[0] <= 0 or shares[1] < 0 or sum(shares) >= 1:
            message = f"shares test={shares[0]!r}, validation={shares[1]!r}; both must be positive and below 1 in sum"
            yield Problem(table, None, "split", message)


def _check_items(_folder: Path, tables: Mapping[str, Columns]) -> Iterator[Problem]:
    items = tables["items"]
    yield from _check_ids("items", items, "item_id", unique=True)
    yield from _check_lists("items", items)
    if "title" in items:
        for row in _rows(_blank(items["title"])):
            yield Problem(
                "items", row, "empty_title", f"title is {items['title'][row].as_py()!r}; every item needs one to be found by"
            )
    if "attributes" in items:
        null = np.asarray(items["attributes"].is_null())
        for kind in ATTRIBUTE_TYPES:
            null = null | np.asarray(pc.struct_field(items["attributes"], kind).is_null())
        for row in np.flatnonzero(null).tolist():
            yield Problem(
                "items", row, "null_list", "attributes, or one of their lists, is null; write [] where there is no value"
            )


def _check_users(_folder: Path, tables: Mapping[str, Columns]) -> Iterator[Problem]:
    yield from _check_ids("users", tables["users"], "user_id", unique=True)


def _check_sessions(_folder: Path, tables: Mapping[str, Columns]) -> Iterator[Problem]:
    sessions, users = tables["sessions"], tables["users"]
    yield from _check_ids("sessions", sessions, "session_id", unique=True)
    yield from _check_ids("sessions", sessions, "user_id", unique=False)
    yield from _check_lists("sessions", sessions)
    if "query" in sessions:
        for row in _rows(sessions["query"].is_null()):
            yield Problem("sessions", row, "null_query", "query is null; write '' for behaviour without a search")
    if "time" in sessions:
        yield from _check_times(sessions["time"])
    if "user_id" in sessions and len(users.get("user_id", ())):
        yield from _check_known("sessions", sessions["user_id"], users["user_id"], "dangling_user", "user_id", "users")
    if "item_id" in tables["items"]:
        yield from _check_session_items(sessions, tables["items"]["item_id"])


def _check_relevance(_folder: Path, tables: Mapping[str, Columns]) -> Iterator[Problem]:
    relevance, items = tables["relevance"], tables["items"]
    yield from _check_ids("relevance", relevance, "item_id", unique=False)
    if "query" in relevance:
        for row in _rows(relevance["query"].is_null()):
            yield Problem("relevance", row, "null_query", "query is null; a judgement needs one")
        for row in _rows(pc.and_not(_blank(relevance["query"]), relevance["query"].is_null())):
            yield Problem("relevance", row, "empty_query", "query is blank; a judgement needs one")
    if "grade" in relevance:
        grades = relevance["grade"]
        bad = pc.fill_null(pc.or_(pc.less(grades, 0), pc.greater(grades, 3)), True)
        for row in _rows(bad):
            yield Problem("relevance", row, "grade", f"grade is {grades[row].as_py()}; allowed are 0, 1, 2 and 3")
    if "item_id" in relevance and "item_id" in items:
        yield from _check_known("relevance", relevance["item_id"], items["item_id"], "dangling_item", "item_id", "items")


def _check_ids(table: str, columns: Columns, key: str, unique: bool) -> Iterator[Problem]:
    """Empty ids and, if `unique`, all but the first occurrence of repeated ones."""
    if key not in columns:
        return
    ids = columns[key]
    blank = _blank(ids)
    for row in _rows(blank):
        yield Problem(table, row, "empty_id", f"{key} is {ids[row].as_py()!r}; every row needs one")
    if not unique:
        return
    codes = np.asarray(pc.index_in(ids, value_set=pc.unique(ids)))
    first = np.full(len(codes), -1, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    repeated = (first[codes] != np.arange(len(codes))) & ~np.asarray(blank)
    for row in np.flatnonzero(repeated).tolist():
        message = f"{key} {ids[row].as_py()!r} is that of row {first[codes[row]]} already; ids must be unique"
        yield Problem(table, row, "duplicate_id", message)


def _check_lists(table: str, columns: Columns) -> Iterator[Problem]:
    for key in LISTS[table]:
        for row in _rows(columns[key].is_null()) if key in columns else ():
            yield Problem(table, row, "null_list", f"{key} is null; write [] where there is nothing")


def _check_times(times: pa.ChunkedArray) -> Iterator[Problem]:
    null = np.asarray(times.is_null())
    for row in np.flatnonzero(null).tolist():
        yield Problem("sessions", row, "null_time", "time is null; every session needs an integer that sorts")
    rows = np.flatnonzero(~null)
    values = np.asarray(times.drop_null())
    for position in np.flatnonzero(values[1:] < values[:-1]).tolist():
        before, row = int(rows[position]), int(rows[position + 1])
        message = f"time {values[position + 1]} is less than {values[position]} of row {before}; sort sessions by time"
        yield Problem("sessions", row, "unsorted", message)


def _check_known(
    table: str, values: pa.ChunkedArray, allowed: pa.ChunkedArray, kind: str, key: str, other: str
) -> Iterator[Problem]:
    """Ids that are not among `allowed`; empty ones are named elsewhere."""
    unknown = pc.invert(pc.or_(pc.is_in(values, value_set=allowed), _blank(values)))
    for row in _rows(unknown):
        yield Problem(table, row, kind, f"{key} {values[row].as_py()!r} is not in {other}")


def _check_session_items(sessions: Columns, item_ids: pa.ChunkedArray) -> Iterator[Problem]:
    """Items that do not exist, and items clicked or purchased that were not among the impressed."""
    known = pc.unique(item_ids.drop_null())
    entries = {key: _Entries(sessions[key], known) for key in LISTS["sessions"] if key in sessions}
    for key, found in entries.items():
        yield from found.problems(key, found.codes < 0, "dangling_item", "is not in items")
    if "impressed" not in entries:
        return
    impressed = entries["impressed"]
    shown = np.bincount(impressed.rows, minlength=len(sessions["impressed"])) > 0
    for key in ("clicked", "purchased"):
        if key in entries:
            missing = (entries[key].codes >= 0) & shown[entries[key].rows] & ~entries[key].among(impressed)
            yield from entries[key].problems(key, missing, "not_impressed", "is not among the impressed items of its session")


class _Entries:
    """The entries of a column of lists, flat: for each its row in the table and its position in `known` (-1 if absent)."""

    def __init__(self, lists: pa.ChunkedArray, known: pa.Array):
        lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0))
        self.rows = np.repeat(np.arange(len(lists), dtype=np.int64), lengths)
        self.values = pc.list_flatten(lists)
        self.codes = np.asarray(pc.fill_null(pc.index_in(self.values, value_set=known), -1)).astype(np.int64)

    def among(self, others: _Entries) -> np.ndarray:
        """Whether each entry is also one of `others` in the same row."""
        width = 1 + max(self.codes.max(initial=0), others.codes.max(initial=0))
        own, their = (pa.array(np.where(part.codes < 0, -1, part.rows * width + part.codes)) for part in (self, others))
        # `others` is the longer side by far: only those of its keys that matter are hashed.
        shared = their.filter(pc.is_in(their, value_set=own))
        return np.asarray(pc.is_in(own, value_set=shared))

    def problems(self, key: str, bad: np.ndarray, kind: str, message: str) -> Iterator[Problem]:
        """One problem per row that has a bad entry; it names the first."""
        positions = np.flatnonzero(bad)
        rows, first, counts = np.unique(self.rows[positions], return_index=True, return_counts=True)
        names = self.values.take(pa.array(positions[first])).to_pylist()
        for row, name, count in zip(rows.tolist(), names, counts.tolist()):
            more = f" (and {count - 1} more)" if count > 1 else ""
            yield Problem("sessions", row, kind, f"{key} item {name!r}{more} {message}")


def _blank(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """True where a text is null, empty or white space."""
    return pc.fill_null(pc.equal(pc.utf8_trim_whitespace(texts), ""), True)


def _rows(mask: pa.ChunkedArray) -> list[int]:
    return np.flatnonzero(np.asarray(mask)).tolist()
