"""Counts the parts of a source that do not fit: whole rows, single optional values, unknown columns and files that nobody reads.

Nothing is skipped silently. It raises an error with file and line, or it is left out on request and counted in
``market.info["dropped"]``.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from .fields import BadRow

BAD_ROWS = ("raise", "drop")

ADVICE = "correct them, or pass --bad-rows drop (bad_rows='drop') to leave them out"

VALUE = "(drop leaves out the value and keeps the row)"
COLUMN = "(drop leaves out the column)"


class BadRows:
    """Counts of bad rows per file and reason, with the first few as examples.

    Args:
        mode: with ``raise``, `close` raises if anything was bad; with ``drop``, it returns the counts.
        examples: number of rows per reason that the error names.
        advice: remedy that the error names.

    Raises:
        ValueError: the mode is unknown.
    """

    def __init__(self, mode: str = "raise", examples: int = 3, advice: str = ADVICE) -> None:
        if mode not in BAD_ROWS:
            raise ValueError(f"bad_rows={mode!r} is unknown; allowed are {', '.join(BAD_ROWS)}")
        self.mode = mode
        self.examples = examples
        self.advice = advice
        self.counts: Counter[str] = Counter()
        self._first: dict[str, list[str]] = {}

    def add(self, origin: str, line: int | None, reason: str, detail: Any = "", effect: str = "") -> None:
        """Record one bad row, value, column or file.

        Args:
            origin: name of the file or table.
            line: line or row; None if the whole file is meant.
            reason: the problem, without the value.
            detail: the wrong value.
            effect: what ``drop`` leaves out if it is not the row: `VALUE` or `COLUMN`.
        """
        key = f"{origin}: {reason}" + (f" {effect}" if effect else "")
        self.counts[key] += 1
        first = self._first.setdefault(key, [])
        if line is not None and len(first) < self.examples:
            first.append(f"{origin}:{line}" + (f" ({_shorten(detail)})" if detail != "" else ""))

    def add_error(self, origin: str, line: int, error: BadRow, effect: str = "") -> None:
        """Record the row that raised `error`; the arguments are those of `add`."""
        self.add(origin, line, error.reason, error.detail, effect)

    def close(self) -> dict[str, int]:
        """Return the counts by file and reason.

        Raises:
            ValueError: something was bad and the mode is ``raise``.
        """
        if self.counts and self.mode == "raise":
            raise self.error()
        return dict(self.counts)

    def example(self, key: str) -> str:
        """Return place and value of the first row under a key of `counts`; "" if no row is known."""
        return next(iter(self._first[key]), "")

    def error(self) -> ValueError:
        """Return the error that lists every reason with its count and its first rows."""
        lines = [f"  {count} × {key}{self._examples_of(key)}" for key, count in self.counts.most_common()]
        total = sum(self.counts.values())
        return ValueError(f"{total} bad rows or values; {self.advice}:\n" + "\n".join(lines))

    def _examples_of(self, key: str) -> str:
        first = self._first[key]
        return f"; first: {', '.join(first)}" if first else ""


def _shorten(detail: Any, length: int = 80) -> str:
    words = str(detail)
    return words if len(words) <= length else words[: length - 1] + "…"


__all__ = ["ADVICE", "BAD_ROWS", "COLUMN", "VALUE", "BadRows"]
