"""What was understood of a shop's files and what was left out: per column, and per row by reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ..bad_rows import COLUMN, VALUE, BadRows

SHOWN = 8
"""Number of columns that were left out for one reason and are named in the text for people; `FileReport.columns` has all."""


@dataclass(frozen=True)
class ColumnReport:
    """How one column was read.

    Args:
        column: its name in the file.
        field: field of the market, for example ``title`` or ``attributes.color``; None if the column was left out.
        why: evidence for the field, or the reason for leaving the column out.
    """

    column: str
    field: str | None
    why: str


@dataclass(frozen=True)
class Loss:
    """Rows or values that were left out for one reason.

    Args:
        reason: the problem.
        count: number of rows or values.
        example: place and value of the first.
    """

    reason: str
    count: int
    example: str


@dataclass
class FileReport:
    """How one file was read. ``rows = kept + merged + lost``, where lost is the sum over `lost_rows`.

    Args:
        name: name of the file.
        form: format, encoding and separator in words.
        rows: number of rows that are not blank.
        kept: number of rows that became an item, an event or a session of their own.
        merged: number of rows that joined another one: variants of a product, repeated events.
        columns: how each column was read.
        lost_rows: rows that were left out.
        lost_values: single values that were left out of rows that stayed.
        notes: further rules that applied.
    """

    name: str
    form: str
    rows: int = 0
    kept: int = 0
    merged: int = 0
    columns: list[ColumnReport] = field(default_factory=list)
    lost_rows: list[Loss] = field(default_factory=list)
    lost_values: list[Loss] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Number of rows that were left out."""
        return sum(loss.count for loss in self.lost_rows)

    def add_losses(self, bad: BadRows) -> None:
        """Add what `bad` has counted; the number of rows grows by none, because every lost row is counted where it was read."""
        for key, count in bad.counts.items():
            reason = key.removeprefix(f"{self.name}: ")
            effect = next((effect for effect in (VALUE, COLUMN) if reason.endswith(effect)), "")
            loss = Loss(reason.removesuffix(effect).strip(), count, bad.example(key))
            (self.lost_values if effect else self.lost_rows).append(loss)

    def lines(self) -> list[str]:
        """The report as lines of text."""
        merged = f", {self.merged:,} joined another row" if self.merged else ""
        head = f"{self.name} ({self.form}): {self.rows:,} rows read, {self.kept:,} kept{merged}, {self.lost:,} left out"
        cells = [(column.column, column.field, column.why) for column in self.columns if column.field is not None]
        by_reason: dict[str, list[str]] = {}
        for column in self.columns:
            if column.field is None:
                by_reason.setdefault(column.why, []).append(column.column)
        for why, columns in by_reason.items():
            cells += [(name, "left out", why) for name in columns[:SHOWN]]
            if len(columns) > SHOWN:
                cells.append((f"and {len(columns) - SHOWN:,} more", "left out", "for the same reason"))
        lines = [head, *(f"  {line}" for line in _aligned([("column", "read as", "why"), *cells]))]
        for title, losses in (("rows left out", self.lost_rows), ("values left out", self.lost_values)):
            if losses:
                lines.append(f"  {title}:")
                lines += [f"    {loss.count:,} × {loss.reason}; first: {loss.example}" for loss in losses]
        return lines + [f"  {note}" for note in self.notes]


@dataclass
class ShopReport:
    """What was understood of a shop's files.

    Args:
        products: the file of products.
        logs: files of the events or sessions; empty without one.
        notes: what concerns the whole market: its language, its split, its requests.
    """

    products: FileReport
    logs: list[FileReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_table(self) -> str:
        """Return the report as text for people."""
        lines = self.products.lines()
        for log in self.logs:
            lines += ["", *log.lines()]
        return "\n".join([*lines, "", *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values for JSON."""
        return asdict(self)


def _aligned(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """Rows as lines whose first two columns are aligned."""
    widths = [max(len(row[place]) for row in rows) for place in (0, 1)]
    return [f"{row[0]:<{widths[0]}}  {row[1]:<{widths[1]}}  {row[2]}".rstrip() for row in rows]


__all__ = ["ColumnReport", "FileReport", "Loss", "ShopReport"]
