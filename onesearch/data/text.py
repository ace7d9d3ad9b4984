"""The text of an item, which encoders, BM25 and prompts all read, and the form in which queries are counted."""

from __future__ import annotations

from collections.abc import Sequence

from onesearch.sequences import as_texts

from .market import Market
from .schema import ATTRIBUTE_TYPES

DEFAULT_TEXT_FIELDS = ("title", "brand", "categories", "attributes")
"""Fields that make up the text of an item if ``market.info["text_fields"]`` names no others."""

_PLAIN = ("title", "brand", "seller", "description", "ocr_text")

_LISTS = ("categories", "tags")

ALL_TEXT_FIELDS = (*_PLAIN, *_LISTS, "attributes", *ATTRIBUTE_TYPES)
"""Every name that a text field may have."""


def item_texts(market: Market, fields: Sequence[str] | None = None) -> list[str]:
    """Join the fields of each item to one text, in the order of `fields`. Blank and repeated values are left out.

    ``market.info["text_limits"]`` says how many letters of a field become part of the text, for example ``{"description": 300}``, so that
    long texts do not outweigh the title. Raising a limit gives the field more weight; a field without one is whole.

    Args:
        market: catalogue.
        fields: any of ``title``, ``brand``, ``seller``, ``description``, ``ocr_text``, ``categories``, ``tags``, ``attributes`` (all 18
            types) and single attribute types. Default: ``market.info["text_fields"]``, else `DEFAULT_TEXT_FIELDS`.

    Returns:
        One text per item, values joined by a space.

    Raises:
        ValueError: a field is unknown.
        TypeError: `fields` is no list of names.
    """
    fields = as_texts(fields or market.info.get("text_fields") or DEFAULT_TEXT_FIELDS, "text fields")
    limits = market.info.get("text_limits") or {}
    parts = [_limited(_field_values(market, field), limits.get(field)) for field in fields]
    return [_join(values) for values in zip(*parts)] if len(market.items) else []


def query_key(query: str) -> str:
    """Normalise a query for counting: lower case, single spaces."""
    return " ".join(query.lower().split())


def _field_values(market: Market, field: str) -> list[list[str]]:
    """Values of one field, one list per item."""
    column = market.items.data.column
    if field in _PLAIN:
        return [[value] if value else [] for value in column(field).to_pylist()]
    if field in _LISTS:
        return [list(values or ()) for values in column(field).to_pylist()]
    if field == "attributes":
        return [[value for values in row.values() for value in values] for row in column("attributes").to_pylist()]
    if field in ATTRIBUTE_TYPES:
        return [list(row[field]) for row in column("attributes").to_pylist()]
    raise ValueError(f"text field {field!r} is unknown; allowed are {', '.join(ALL_TEXT_FIELDS)}")


def _limited(groups: list[list[str]], limit: int | None) -> list[list[str]]:
    """The values, cut to at most `limit` letters each, up to a whole word where blanks separate words."""
    if limit is None:
        return groups
    return [[_cut(value, limit) for value in values] for values in groups]


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    head = text[:limit]
    return head if text[limit].isspace() or " " not in head[limit // 2 :] else head.rsplit(" ", 1)[0]


def _join(groups: Sequence[Sequence[str]]) -> str:
    """Distinct values that are not blank, joined by a space."""
    seen: dict[str, None] = {}
    for group in groups:
        for value in group:
            value = value.strip()
            if value:
                seen.setdefault(value)
    return " ".join(seen)
