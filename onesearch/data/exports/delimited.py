"""Text with separators: which character separates the cells, and which line is the header.

The records themselves are read by the parser of `onesearch.data.importers.csv_files`.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ..bad_rows import BadRows
from ..importers.csv_files import Lines, fitting_records

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
"""Characters that separate cells, with their names. Text with none of them is one column."""

LOOKED_AT = 60
"""Number of records by which separator and header are found; our choice."""

LONGEST_CELL = 2**24
"""Most letters of a cell; descriptions may hold pictures. Our choice."""

MOST_BEFORE = 20
"""Largest number of records before the header; our choice."""

Known = Callable[[str], bool]
"""Whether the name of a column is one that shops use."""


class Layout(NamedTuple):
    """Where the table of a text begins.

    Attributes:
        separator: character between two cells.
        header: place of the header among the records; -1 without a header.
        names: names of the columns.
    """

    separator: str
    header: int
    names: list[str]


def read_delimited(
    text: str, origin: str, bad: BadRows, known: Known
) -> tuple[str, list[str], Iterator[tuple[int, dict[str, Any]]]]:
    """Read text with separators.

    Args:
        text: contents of the file.
        origin: name of the file, for messages.
        bad: receives the records that cannot be read.
        known: tells the names of columns that shops use.

    Returns:
        Description of the form, names of the columns, and the line and cells by column of each record.

    Raises:
        ValueError: there is no line that can be a header.
    """
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))
    declared = re.match(r"\s*sep=(.)\r?\n", text)
    layout = find_layout(text, declared.group(1) if declared else None, known)
    if layout is None:
        raise ValueError(f"{origin} holds no table: no line names at least one column and has another line below it")
    lines = Lines(iter(io.StringIO(text, newline="")))
    if layout.header >= 0:
        _skip(lines, layout)
    form = f"separated by {SEPARATORS.get(layout.separator, repr(layout.separator))}"
    if len(layout.names) == 1:
        form = "one column"
    if layout.header < 0:
        form += ", no header"
    if layout.header > 0:
        form += f", {layout.header} line{'s' if layout.header > 1 else ''} before the header"
    return form, layout.names, _rows(lines, layout, origin, bad)


def _rows(lines: Lines, layout: Layout, origin: str, bad: BadRows) -> Iterator[tuple[int, dict[str, Any]]]:
    for record in fitting_records(origin, lines, bad, len(layout.names), layout.separator, lenient=True):
        yield record.line, dict(zip(layout.names, record.cells))


def _skip(lines: Lines, layout: Layout) -> None:
    """Read the lines up to the end of the header."""
    records = 0
    while (line := lines.next()) is not None:
        block = line
        while block.count('"') % 2 and (more := lines.next()) is not None:
            block += more
        if not block.strip():
            continue
        if records == layout.header:
            return
        records += 1


def find_layout(text: str, separator: str | None, known: Known) -> Layout | None:
    """Find separator and header.

    Each separator is tried on the first records. The best is the one whose header has the most names that shops use, then the one by
    which the most records have equally many cells.

    Args:
        text: contents of the file.
        separator: character that the file itself declares; None tries all.
        known: tells the names of columns that shops use.
    """
    head = "".join(text.splitlines(keepends=True)[: 20 * LOOKED_AT])
    best: tuple[tuple[float, ...], Layout] | None = None
    for candidate in [separator] if separator else SEPARATORS:
        records = _some_records(head, candidate)
        place = header_place(records, known)
        if place is None:
            continue
        header = records[place] if place >= 0 else [""] * max(map(len, records))
        width, below = len(header), records[max(place, 0) :]
        regular = sum(len(record) == width for record in below) / len(below)
        score = (sum(map(known, header)), regular * (width > 1), width)
        if best is None or score > best[0]:
            best = score, Layout(candidate, place, unique_names(header))
    return best[1] if best else None


def _some_records(text: str, separator: str) -> list[list[str]]:
    """The first records that are not blank; a quote that is never closed ends them."""
    found = []
    try:
        for cells in csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True):
            if any(cell.strip() for cell in cells):
                found.append(cells)
            if len(found) >= LOOKED_AT:
                break
    except csv.Error:
        pass
    return found


def header_place(records: Sequence[Sequence[Any]], known: Known) -> int | None:
    """Return the place of the header among the first records.

    It is the record with the most names that shops use; without any, the first one that is as wide as most records. A line before it,
    such as "Export of 3 May", has fewer filled cells than the table. A first record that holds numbers or addresses is no header: the table
    has none, and its place is -1.

    Args:
        records: cells of the first records.
        known: tells the names of columns that shops use.
    """
    candidates = records[:MOST_BEFORE]
    if not candidates:
        return None
    widths = Counter(_width(record) for record in records)
    common = max(widths, key=lambda width: (widths[width], width))
    counts = [sum(isinstance(cell, str) and known(cell) for cell in record) for record in candidates]
    if max(counts):
        return counts.index(max(counts))
    if any(_is_data(cell) for cell in candidates[0]):
        return -1
    return next((place for place, record in enumerate(candidates) if _width(record) >= common), None)


def _is_data(cell: Any) -> bool:
    """Whether a cell is a number or an address, which no column is called."""
    return isinstance(cell, int | float) or bool(re.fullmatch(r"\s*(?:[+-]?\d[\d.,]*|https?://\S+)\s*", str(cell or "")))


def _width(record: Sequence[Any]) -> int:
    """Number of cells up to the last that is filled."""
    filled = [place for place, cell in enumerate(record) if cell is not None and str(cell).strip()]
    return filled[-1] + 1 if filled else 0


def unique_names(cells: Sequence[Any]) -> list[str]:
    """Return names of columns: cells without a name are numbered, and a name that occurs again gets a number."""
    names: list[str] = []
    for place, cell in enumerate(cells):
        name = " ".join(str(cell).split()) if cell is not None and str(cell).strip() else f"column {place + 1}"
        again = name
        number = 2
        while again in names:
            again, number = f"{name} ({number})", number + 1
        names.append(again)
    return names


__all__ = ["Layout", "find_layout", "header_place", "read_delimited", "unique_names"]
