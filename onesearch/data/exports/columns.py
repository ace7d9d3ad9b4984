"""Which column is which field: by the user's word, by the names that shops use, and by the contents of the column."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from .names import plain
from .raw_files import RawTable
from .report import ColumnReport
from .values import as_text

SAMPLE = 2_000
"""Number of cells by which the contents of a column are judged; our choice."""

NONE = "-"
"""The column of a field that no column shall be."""

Finder = Callable[[str], tuple[str, int] | None]
"""Returns field and rank of a column's name; the rank orders the names of a field, best first."""


@dataclass
class Columns:
    """The columns of a table by field.

    Args:
        table: the table.
        of: columns of each field, best first.
        reports: how each column is read, by column.
    """

    table: RawTable
    of: dict[str, list[str]] = field(default_factory=dict)
    reports: dict[str, ColumnReport] = field(default_factory=dict)
    _texts: dict[str, list[str]] = field(default_factory=dict, repr=False)

    def add(self, field_name: str, column: str, why: str) -> None:
        """Read a column as a field."""
        self.of.setdefault(field_name, []).append(column)
        self.reports[column] = ColumnReport(column, field_name, why)

    def leave_out(self, column: str, why: str) -> None:
        """Leave a column out, for a reason."""
        for columns in self.of.values():
            if column in columns:
                columns.remove(column)
        self.reports[column] = ColumnReport(column, None, why)

    def first(self, field_name: str) -> str | None:
        """The best column of a field; None without one."""
        return next(iter(self.of.get(field_name, ())), None)

    def cell(self, row: Mapping[str, Any], field_name: str) -> Any:
        """Cell of a field in a row: the first filled one of its columns; None without any."""
        for column in self.of.get(field_name, ()):
            value = row.get(column)
            if as_text(value) is not None:
                return value
        return None

    def texts(self, column: str) -> list[str]:
        """Filled cells of a column as text, a sample."""
        if column not in self._texts:
            rows = self.table.rows[:: max(1, len(self.table.rows) // SAMPLE)]
            self._texts[column] = [text for _, row in rows if (text := as_text(row.get(column)))]
        return self._texts[column]

    def rank(self, field_name: str) -> None:
        """Say that the second and further columns of a field count where the ones before are empty."""
        columns = self.of.get(field_name, [])
        for column in columns[1:]:
            self.reports[column] = ColumnReport(column, field_name, f"by its name, where {columns[0]!r} is empty")

    def keep_one(self, field_name: str) -> None:
        """Keep the best column of a field: the first that has at least half as many filled cells as the fullest one."""
        columns = self.of.get(field_name, [])
        if len(columns) < 2:
            return
        filled = {column: len(self.texts(column)) for column in columns}
        best = next(column for column in columns if 2 * filled[column] >= max(filled.values()))
        for column in list(columns):
            if column != best:
                self.leave_out(column, f"{field_name} is read from {best!r}")

    def report(self) -> list[ColumnReport]:
        """How each column was read, in the order of the file."""
        return [self.reports[column] for column in self.table.columns]


def choose_columns(table: RawTable, finder: Finder, override: Mapping[str, str] | None, fields: Collection[str]) -> Columns:
    """Find the field of each column by the user's word, then by its name. Empty columns and unknown names are left out.

    Args:
        table: the table.
        finder: field of a name.
        override: field → column, as the user says it, or `NONE` for a field that no column shall be. A field may be any name that
            `finder` knows.
        fields: all fields, for error messages.

    Raises:
        ValueError: `override` names a field or a column that does not exist.
    """
    chosen = Columns(table)
    checked = _checked(table, finder, override or {}, fields)
    given = {column: name for name, column in checked.items() if column != NONE}
    ranked: list[tuple[int, str, str]] = []
    for column in table.columns:
        found = finder(column)
        if column in given:
            chosen.add(given[column], column, "you named it")
        elif not chosen.texts(column):
            chosen.leave_out(column, "the column is empty")
        elif found is None or found[0] in given.values():
            chosen.leave_out(column, "unknown name" if found is None else f"{found[0]} is read from another column, as you say")
        elif checked.get(found[0]) == NONE:
            chosen.leave_out(column, f"{found[0]} is read from no column, as you say")
        else:
            ranked.append((found[1], column, found[0]))
    for _, column, name in sorted(ranked, key=lambda entry: entry[0]):
        chosen.add(name, column, "by its name")
    return chosen


def _checked(table: RawTable, finder: Finder, override: Mapping[str, str], fields: Collection[str]) -> dict[str, str]:
    """The user's columns by field, with the names as the file spells them."""
    spelled = {plain(column): column for column in reversed(table.columns)}
    found: dict[str, str] = {}
    for word, column in override.items():
        known = finder(word)
        name = word if word in fields else known[0] if known else None
        if name is None:
            raise ValueError(f"columns: {word!r} is no field; fields are {', '.join(fields)}")
        if column == NONE:
            found[name] = NONE
            continue
        if column not in table.columns and plain(column) not in spelled:
            raise ValueError(
                f"columns: {table.path.name} has no column {column!r} (for {word!r}); it has {', '.join(map(repr, table.columns))}"
            )
        found[name] = column if column in table.columns else spelled[plain(column)]
    return found


def share(texts: Collection[str], fits: Callable[[str], Any]) -> float:
    """Share of the texts that fit; 0 without any text."""
    return sum(bool(fits(text)) for text in texts) / len(texts) if texts else 0.0


def is_url(text: str) -> bool:
    """Whether a text is a web address."""
    return bool(re.match(r"(?:https?:)?//[^\s/]+\.[^\s]+", text))


def is_image(text: str) -> bool:
    """Whether a text is the address or name of a picture."""
    return bool(re.search(r"\.(?:jpe?g|png|webp|gif|avif|bmp|svg)(?:[?#,\s]|$)", text, re.IGNORECASE))


def is_number(text: str) -> bool:
    """Whether a text is a number."""
    return bool(re.fullmatch(r"[+-]?\d+(?:[.,]\d+)*", text))


__all__ = ["NONE", "SAMPLE", "Columns", "Finder", "choose_columns", "is_image", "is_number", "is_url", "share"]
