"""Read single values of rows. A value that does not fit raises `BadRow`.

Other modules use this module by its name: ``fields.identifier(row, "item_id")`` reads the value of `row` under the column ``item_id``.
Every error names the column, and `BadRow` is the only error that these functions raise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from typing import Any, TypeGuard, TypeVar

import numpy as np

from onesearch.sequences import as_list

from .ids import is_id

LARGEST = float(np.finfo(np.float32).max)
"""Largest number that the tables hold: they store 32-bit floats."""

Row = Mapping[str, Any]
"""One row of a source: values by column."""


class BadRow(ValueError):
    """A row that cannot be imported.

    Args:
        reason: the problem and the allowed values, without the value itself: bad rows are counted by reason.
        detail: the wrong value.
    """

    def __init__(self, reason: str, detail: Any = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


Note = Callable[[BadRow], None]
"""Receives the problem of an optional value that is left empty."""

T = TypeVar("T")


def or_none(read: Callable[..., T], row: Row, key: str, note: Note, *more: Any) -> T | None:
    """Read an optional value; one that does not fit is reported and left out, and its row stays.

    Args:
        read: function of this module, called with `row`, `key` and `more`.
        row: values by column.
        key: column of the value.
        note: receives the problem.
        more: further arguments of `read`.
    """
    try:
        return read(row, key, *more)
    except BadRow as error:
        note(error)
        return None


def identifier(row: Row, key: str) -> str:
    """Read the id under `key`: text that `onesearch.data.ids` allows, or an integer, which becomes text."""
    return as_identifier(row.get(key), key)


def as_identifier(value: Any, key: str) -> str:
    """Convert `value` to an id; the error names `key`. A float is refused, because its text is not that of the number."""
    if _is_integer(value) or (isinstance(value, str) and is_id(value)):
        return as_text(str(value), key)
    raise BadRow(f"{key} must be text or an integer, without white space and NUL, and not empty", repr(value))


def identifiers(row: Row, key: str) -> list[str]:
    """Read the list of ids under `key`."""
    return [as_identifier(entry, key) for entry in entries(row, key, "a list of ids")]


def entries(row: Row, key: str, expected: str) -> list[Any]:
    """Read the list under `key`; text, sets, mappings and iterators are refused.

    Args:
        row: values by column.
        key: column of the list.
        expected: allowed values, for the error message.
    """
    value = row.get(key)
    try:
        return as_list(value, key)
    except TypeError as error:
        raise BadRow(f"{key} must be {expected}", repr(value)) from error


def text(row: Row, key: str) -> str:
    """Read the text under `key`; blank text is allowed, null is not."""
    return as_text(row.get(key), key)


def as_text(value: Any, key: str) -> str:
    """Check that `value` is text that UTF-8 can encode; the error names `key`."""
    if not isinstance(value, str):
        raise BadRow(f"{key} must be text", repr(value))
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRow(f"{key} holds a lone surrogate, which UTF-8 cannot encode", repr(value)) from error
    return value


def filled_text(row: Row, key: str) -> str:
    """Read the text under `key`, which must not be blank."""
    value = text(row, key)
    if not value.strip():
        raise BadRow(f"{key} must not be blank")
    return value


def optional_text(row: Row, key: str, unknown: Collection[str] = ()) -> str | None:
    """Read the text under `key`; None if it is absent, blank or one of `unknown`."""
    if row.get(key) is None:
        return None
    value = text(row, key).strip()
    return None if not value or value in unknown else value


def integer(row: Row, key: str, low: int = -(2**63), high: int = 2**63 - 1) -> int:
    """Read the integer under `key`, from `low` to `high` inclusive. A float is refused, also without a fraction."""
    value = row.get(key)
    if not _is_integer(value) or not low <= value <= high:
        raise BadRow(f"{key} must be an integer" + (f" from {low} to {high}" if low > -(2**63) else " of 64 bits"), repr(value))
    return int(value)


def optional_number(row: Row, key: str) -> float | None:
    """Read the finite number under `key`; None if it is absent."""
    value = row.get(key)
    return None if value is None else as_number(value, key, "a finite number or null")


def as_number(value: Any, key: str, expected: str = "a finite number") -> float:
    """Convert `value` to a number that 32-bit floats hold; the error names `key` and `expected`."""
    is_number = _is_integer(value) or isinstance(value, float | np.floating)
    if not is_number or not math.isfinite(value) or abs(value) > LARGEST:
        raise BadRow(f"{key} must be {expected}", repr(value))
    return float(value)


def _is_integer(value: Any) -> TypeGuard[int]:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def unique(value: str, seen: Container[str], key: str) -> str:
    """Return the id `value` if it is not among `seen`."""
    if value in seen:
        raise BadRow(f"{key} occurs twice; ids must be unique", repr(value))
    return value


def known(values: Iterable[str], allowed: Container[str], key: str, table: str) -> None:
    """Check that all ids in `values` are among `allowed`, the ids of `table`."""
    missing = next((value for value in values if value not in allowed), None)
    if missing is not None:
        raise BadRow(f"{key} is not in {table}", repr(missing))


def within_impressed(session: Row) -> None:
    """Check that everything clicked, put into the cart or purchased was impressed; a session without impressions passes."""
    if not session["impressed"]:
        return
    shown = set(session["impressed"])
    for key in ("clicked", "carted", "purchased"):
        missing = next((item for item in session.get(key, ()) if item not in shown), None)
        if missing is not None:
            raise BadRow(f"{key} holds an item that is not among the impressed", repr(missing))
