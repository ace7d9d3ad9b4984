"""The rules of single rows, the same for files, for `Market.from_rows` and for new items: which values a row of each table may hold.

A required value that does not fit makes the row bad. An optional value that does not fit is reported and left empty, so that an item is
never lost for the price of a price. What concerns several rows (ids that occur twice, items that nobody knows) is checked elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import fields
from .fields import BadRow, Note, Row
from .schema import ATTRIBUTE_TYPES, SCENES, STATISTICS


def item_row(row: Row, note: Note) -> dict[str, Any]:
    """Make a row of the items table.

    Args:
        row: values by column; unknown columns are ignored.
        note: receives optional values that do not fit.

    Raises:
        BadRow: a required value does not fit.
    """
    return {
        "item_id": fields.identifier(row, "item_id"),
        "title": fields.filled_text(row, "title"),
        "description": fields.or_none(fields.optional_text, row, "description", note),
        "ocr_text": fields.or_none(fields.optional_text, row, "ocr_text", note),
        "brand": fields.or_none(fields.optional_text, row, "brand", note),
        "seller": fields.or_none(fields.optional_text, row, "seller", note),
        "categories": fields.or_none(_texts, row, "categories", note) or [],
        "tags": fields.or_none(_texts, row, "tags", note) or [],
        "price": fields.or_none(fields.optional_number, row, "price", note),
        "url": fields.or_none(fields.optional_text, row, "url", note),
        "image": fields.or_none(fields.optional_text, row, "image", note),
        "attributes": _attributes(row, note),
        "features": fields.or_none(_numbers, row, "features", note) or [],
        **{name: fields.or_none(_optional_count, row, name, note) for name in STATISTICS},
    }


def user_row(row: Row, note: Note) -> dict[str, Any]:
    """Make a row of the users table; arguments and errors as for `item_row`."""
    profile = {key: fields.or_none(fields.optional_text, row, key, note) for key in ("gender", "age_bucket", "region")}
    return {"user_id": fields.identifier(row, "user_id"), **profile}


def session_row(row: Row, note: Note) -> dict[str, Any]:
    """Make a row of the sessions table; arguments and errors as for `item_row`. ``clicked`` and ``purchased`` are required."""
    return {
        "session_id": fields.identifier(row, "session_id"),
        "user_id": fields.identifier(row, "user_id"),
        "time": _time(row),
        "query": fields.text(row, "query"),
        "scene": fields.or_none(_scene, row, "scene", note),
        "entrance": fields.or_none(fields.optional_text, row, "entrance", note),
        "impressed": fields.or_none(_optional_ids, row, "impressed", note) or [],
        "clicked": fields.identifiers(row, "clicked"),
        "carted": fields.or_none(_optional_ids, row, "carted", note) or [],
        "purchased": fields.identifiers(row, "purchased"),
    }


def judgement_row(row: Row, note: Note) -> dict[str, Any]:
    """Make a row of the relevance table; all its values are required, so that `note` is never called. Errors as for `item_row`."""
    query, item_id = fields.filled_text(row, "query"), fields.identifier(row, "item_id")
    return {"query": query, "item_id": item_id, "grade": fields.integer(row, "grade", 0, 3)}


def _time(row: Row) -> int:
    """A time that sorts. Dates are refused: reading them takes the whole column, which tells day from month."""
    try:
        return fields.integer(row, "time")
    except BadRow as error:
        raise BadRow(f"{error.reason}, such as the seconds since 1970; `onesearch new` reads dates", error.detail) from None


def _optional_ids(row: Row, key: str) -> list[str]:
    return [] if row.get(key) is None else fields.identifiers(row, key)


def _optional_count(row: Row, key: str) -> int | None:
    return None if row.get(key) is None else fields.integer(row, key, 0, 2**63 - 1)


def _scene(row: Row, key: str) -> str | None:
    value = fields.optional_text(row, key)
    if value is not None and value not in SCENES:
        raise BadRow(f"{key} must be {', '.join(SCENES)} or null", repr(value))
    return value


def _texts(row: Row, key: str) -> list[str]:
    """A list of texts without the blank ones; a single text becomes a list of one."""
    value = row.get(key)
    if value is None:
        return []
    values = [value] if isinstance(value, str) else fields.entries(row, key, "a text or a list of texts")
    return [entry for entry in values if fields.as_text(entry, key).strip()]


def _numbers(row: Row, key: str) -> list[float]:
    """A list of finite numbers; None becomes an empty list."""
    if row.get(key) is None:
        return []
    return [fields.as_number(entry, key, "a list of numbers") for entry in fields.entries(row, key, "a list of numbers")]


def _attributes(row: Row, note: Note) -> dict[str, list[str]]:
    """Lists of values by attribute type; a type that does not fit is left out alone."""
    value = row.get("attributes")
    try:
        given = {} if value is None else dict(value)  # an Arrow map arrives as a list of pairs
    except (TypeError, ValueError):
        note(BadRow("attributes must map attribute types to texts", repr(value)))
        return {}
    found: dict[str, list[str]] = {}
    named: Mapping[str, Any] = {f"attributes.{kind}": values for kind, values in given.items()}
    for kind in given:
        if kind not in ATTRIBUTE_TYPES:
            note(BadRow(f"unknown attribute type {kind!r}; allowed are {', '.join(ATTRIBUTE_TYPES)}"))
        else:
            found[kind] = fields.or_none(_texts, named, f"attributes.{kind}", note) or []
    return found


__all__ = ["item_row", "judgement_row", "session_row", "user_row"]
