"""CSV files, judged row by row: a quote that is never closed costs its own row and not the rest of the file.

The standard reader takes everything up to the next quote as one cell. Here a record ends at the end of its line unless a quote is open,
and one that cannot be closed is a bad row, after which reading goes on with the next line.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from ..bad_rows import BadRows
from ..fields import BadRow

MOST_LINES = 1000
"""Largest number of lines of one record; our choice."""

NOT_CLOSED = 'a quote (") opens a cell and is not closed; write a quoted cell with every inner quote doubled'

AMBIGUOUS = "a quoted cell holds a line that is a row by itself; double its inner quotes, or remove the line break"

UNCLOSED = "unexpected end of data"
"""Message of the csv module for a quote that is still open."""


class Record(NamedTuple):
    """Cells of one record, and the line in which it begins, from 1."""

    line: int
    cells: list[str]


def read_csv(path: Path, bad: BadRows, required: Collection[str] = ()) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the first line and the cells by column of each row of a CSV file in UTF-8 with a header.

    Args:
        path: file to read.
        bad: receives the rows that have another number of cells than the header, and those with a quote that is not closed.
        required: columns that the header must name.

    Raises:
        ValueError: a column is missing or occurs twice, or the file is no CSV file in UTF-8.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = Lines(file)
        try:
            header = _header(path, lines, required)
            for record in fitting_records(path.name, lines, bad, len(header)):
                yield record.line, dict(zip(header, record.cells))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}:{lines.number + 1} cannot be read as CSV in UTF-8 ({error})") from error


class Lines:
    """Lines of a file that can be given back."""

    def __init__(self, file: Iterator[str]) -> None:
        self.number = 0
        self._file = file
        self._given_back: deque[str] = deque()

    def next(self) -> str | None:
        """Return the next line with its line break, or None at the end of the file."""
        line = self._given_back.popleft() if self._given_back else next(self._file, None)
        self.number += line is not None
        return line

    def give_back(self, lines: Sequence[str]) -> None:
        """Let `next` return these lines again."""
        self._given_back.extendleft(reversed(lines))
        self.number -= len(lines)


def _header(path: Path, lines: Lines, required: Collection[str]) -> list[str]:
    """Names of the columns, from the first line that is not empty."""
    line = lines.next()
    while line is not None and not line.strip():
        line = lines.next()
    try:
        header = _cells([line or ""])
    except BadRow as error:
        raise ValueError(f"{path}:{lines.number}: the header cannot be read ({error.reason}); correct it") from error
    doubled = sorted({column for column in header if header.count(column) > 1})
    if doubled:
        raise ValueError(f"{path}: the header names {doubled} twice, so that a column would be lost; rename or remove one")
    missing = [column for column in required if column not in header]
    if missing:
        raise ValueError(f"{path}: missing columns {missing}; the first line must name {list(required)}")
    return header


def fitting_records(
    origin: str, lines: Lines, bad: BadRows, columns: int, separator: str = ",", lenient: bool = False
) -> Iterator[Record]:
    """Yield the records that have a cell for each column.

    Args:
        origin: name of the file, for messages.
        lines: lines after the header.
        bad: receives the records that cannot be read, and those with another number of cells. Empty cells at the end are no surplus.
        columns: number of columns.
        separator: character between two cells.
        lenient: read a line whose quotes break the rules, if it then has a cell for each column.
    """
    while (first := lines.next()) is not None:
        start = lines.number
        try:
            cells = _record(first, lines, columns, separator)
        except BadRow as error:
            cells = next(csv.reader([first], delimiter=separator, skipinitialspace=True), []) if lenient else []
            if len(cells) != columns:
                bad.add_error(origin, start, error)
                continue
        if any(cells[columns:]):
            bad.add(origin, start, "more cells than the header has columns", cells[columns:])
        elif cells and len(cells) < columns:
            bad.add(origin, start, "fewer cells than the header has columns", cells)
        elif cells:
            yield Record(start, cells[:columns])


def _record(first: str, lines: Lines, columns: int, separator: str) -> list[str]:
    """Cells of the record that begins with the line `first`; after a `BadRow` the next line is the one after `first`.

    Steps:
        1. Read the line alone; most records end here.
        2. While a quote is open, add lines, and read again whenever a line with a quote is added.
        3. Refuse a record whose first line and another one are whole rows by themselves: its quote was probably meant as an inch sign.
    """
    try:
        return _cells([first], separator)
    except BadRow as error:
        if error.reason != NOT_CLOSED:
            raise
        opened = error
    more: list[str] = []
    while len(more) < MOST_LINES:
        line = lines.next()
        if line is None:
            break
        more.append(line)
        if '"' not in line:
            continue
        try:
            cells = _cells([first, *more], separator)
        except BadRow as error:
            if error.reason == NOT_CLOSED:
                continue
            break
        if _is_row(first, columns, separator) and any(_is_row(line, columns, separator) for line in more):
            opened = BadRow(AMBIGUOUS, first.rstrip("\r\n"))
            break
        return cells
    lines.give_back(more)
    raise opened


def _is_row(line: str, columns: int, separator: str) -> bool:
    """Whether a line has as many cells as the header has columns if its quotes mean nothing."""
    return columns > 1 and len(next(csv.reader([line], quoting=csv.QUOTE_NONE, delimiter=separator), [])) == columns


def _cells(lines: list[str], separator: str = ",") -> list[str]:
    """Cells of one record, [] for an empty line; `BadRow` if it cannot be read."""
    try:
        return list(chain.from_iterable(csv.reader(lines, strict=True, delimiter=separator)))
    except csv.Error as error:
        if UNCLOSED in str(error):
            raise BadRow(NOT_CLOSED, lines[0].rstrip("\r\n")) from error
        raise BadRow(f"not readable as CSV ({error})", lines[0].rstrip("\r\n")) from error


__all__ = ["Lines", "Record", "fitting_records", "read_csv"]
