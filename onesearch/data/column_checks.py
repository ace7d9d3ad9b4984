"""Checks of single columns, with Arrow and NumPy on whole columns. `checking.py` says which columns get which checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .ids import ID_RULE, bad_ids

Columns = Mapping[str, pa.ChunkedArray]
"""Columns of one table that exist and hold the declared type."""


@dataclass(frozen=True)
class Problem:
    """One problem of a market.

    Args:
        table: ``items``, ``users``, ``sessions``, ``relevance`` or ``market.json``.
        row: row of the parquet file, counted from 0; None if the problem concerns the whole table.
        kind: short name, the same for all problems of a kind.
        message: the wrong value and what is allowed.
    """

    table: str
    row: int | None
    kind: str
    message: str


def check_ids(table: str, columns: Columns, key: str, unique: bool) -> Iterator[Problem]:
    """Find ids that are empty, ids that break the rule of `onesearch.data.ids` and, if `unique`, ids that occur in an earlier row.

    Args:
        table: name of the table.
        columns: columns of the table; nothing is checked if `key` is not among them.
        key: name of the id column.
        unique: whether each id may occur once only.
    """
    if key not in columns:
        return
    ids = columns[key]
    blank = is_blank(ids)
    for row in true_rows(blank):
        yield Problem(table, row, "empty_id", f"{key} is {ids[row].as_py()!r}; every row needs an id")
    for row in true_rows(pc.and_not(bad_ids(ids), blank)):
        yield Problem(table, row, "malformed_id", f"{key} is {ids[row].as_py()!r}; {ID_RULE}")
    if not unique:
        return
    codes = np.asarray(pc.index_in(ids, value_set=pc.unique(ids)))
    first = np.full(len(codes), -1, dtype=np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    repeated = (first[codes] != np.arange(len(codes))) & ~np.asarray(blank)
    for row in np.flatnonzero(repeated).tolist():
        message = f"{key} {ids[row].as_py()!r} is already the id of row {first[codes[row]]}; ids must be unique"
        yield Problem(table, row, "duplicate_id", message)


def check_no_null(table: str, values: pa.ChunkedArray, kind: str, message: str) -> Iterator[Problem]:
    """Find null values."""
    for row in true_rows(values.is_null()):
        yield Problem(table, row, kind, message)


def check_numbers(table: str, key: str, values: pa.ChunkedArray) -> Iterator[Problem]:
    """Find numbers, or lists of numbers, that are not finite; null is allowed for a number and not within a list."""
    if pa.types.is_list(values.type):
        lists = values.combine_chunks()
        rows = np.asarray(pc.list_parent_indices(lists))
        bad = ~np.asarray(pc.fill_null(pc.is_finite(pc.list_flatten(lists)), False), dtype=bool)
        wrong = np.unique(rows[bad]).tolist()
    else:
        wrong = true_rows(pc.invert(pc.fill_null(pc.is_finite(values), True)))
    for row in wrong:
        yield Problem(table, row, "number", f"{key} is {values[row].as_py()!r}; numbers must be finite")


def check_times(times: pa.ChunkedArray) -> Iterator[Problem]:
    """Find sessions without a time, and sessions that are earlier than the session before them."""
    yield from check_no_null("sessions", times, "null_time", "time is null; every session needs an integer that sorts")
    rows = np.flatnonzero(~np.asarray(times.is_null()))
    values = np.asarray(times.drop_null())
    for position in np.flatnonzero(values[1:] < values[:-1]).tolist():
        before, row = int(rows[position]), int(rows[position + 1])
        message = f"time {values[position + 1]} is less than {values[position]} of row {before}; sort sessions by time"
        yield Problem("sessions", row, "unsorted", message)


def check_known(table: str, columns: Columns, key: str, other: str, others: Columns) -> Iterator[Problem]:
    """Find ids that another table lacks; `check_ids` reports the empty ones.

    Args:
        table: name of the table that refers to the other one.
        columns: columns of the table.
        key: name of the id column, in both tables.
        other: name of the other table.
        others: columns of the other table; nothing is checked if either side lacks `key`.
    """
    if key not in columns or key not in others:
        return
    values = columns[key]
    unknown = pc.invert(pc.or_(pc.is_in(values, value_set=others[key]), is_blank(values)))
    for row in true_rows(unknown):
        kind = f"dangling_{key.removesuffix('_id')}"
        yield Problem(table, row, kind, f"{key} {values[row].as_py()!r} is not in {other}")


def check_session_items(sessions: Columns, item_ids: pa.ChunkedArray) -> Iterator[Problem]:
    """Find items of sessions that the catalogue lacks, and clicks and purchases of items that were not impressed.

    Args:
        sessions: columns of the sessions table.
        item_ids: ids of the catalogue.
    """
    known = pc.unique(item_ids.drop_null())
    entries = {
        key: _Entries(sessions[key], known) for key in ("impressed", "clicked", "carted", "purchased") if key in sessions
    }
    for key, found in entries.items():
        yield from found.problems(key, found.codes < 0, "dangling_item", "is not in items")
    if "impressed" not in entries:
        return
    impressed = entries.pop("impressed")
    shown = np.bincount(impressed.rows, minlength=len(sessions["impressed"])) > 0
    for key, found in entries.items():
        missing = (found.codes >= 0) & shown[found.rows] & ~found.among(impressed)
        yield from found.problems(key, missing, "not_impressed", "is not among the impressed items of its session")


class _Entries:
    """The entries of a list column as flat arrays, each ``(entries,)``.

    Args:
        lists: column of lists of ids.
        known: distinct ids of the catalogue.

    Attributes:
        rows: row of the table that holds the entry.
        values: the entry itself.
        codes: position of the entry in `known`, -1 if absent.
    """

    def __init__(self, lists: pa.ChunkedArray, known: pa.Array) -> None:
        lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0))
        self.rows = np.repeat(np.arange(len(lists), dtype=np.int64), lengths)
        self.values = pc.list_flatten(lists)
        self.codes = np.asarray(pc.fill_null(pc.index_in(self.values, value_set=known), -1)).astype(np.int64)

    def among(self, others: _Entries) -> np.ndarray:
        """Whether `others` has the same entry in the same row, ``(entries,)``."""
        base = 1 + max(self.codes.max(initial=0), others.codes.max(initial=0))
        own, their = (pa.array(np.where(part.codes < 0, -1, part.rows * base + part.codes)) for part in (self, others))
        # `others` is much longer, so only those of its keys that occur here are hashed.
        shared = their.filter(pc.is_in(their, value_set=own))
        return np.asarray(pc.is_in(own, value_set=shared))

    def problems(self, key: str, bad: np.ndarray, kind: str, message: str) -> Iterator[Problem]:
        """One problem per row that has a bad entry; it names the first and counts the others."""
        positions = np.flatnonzero(bad)
        rows, first, counts = np.unique(self.rows[positions], return_index=True, return_counts=True)
        names = self.values.take(pa.array(positions[first])).to_pylist()
        for row, name, count in zip(rows.tolist(), names, counts.tolist()):
            more = f" (and {count - 1} more)" if count > 1 else ""
            yield Problem("sessions", row, kind, f"{key} item {name!r}{more} {message}")


def is_blank(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a mask that is true where a text is null, empty or white space."""
    return pc.fill_null(pc.equal(pc.utf8_trim_whitespace(texts), ""), True)


def true_rows(mask: pa.ChunkedArray) -> list[int]:
    """Return the rows at which a mask is true."""
    return np.flatnonzero(np.asarray(mask)).tolist()


__all__ = [
    "Columns",
    "Problem",
    "check_ids",
    "check_known",
    "check_no_null",
    "check_numbers",
    "check_session_items",
    "check_times",
    "is_blank",
    "true_rows",
]
