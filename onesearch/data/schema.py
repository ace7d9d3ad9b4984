"""The columns of the four tables of a market, and the values that ``market.json`` may hold."""

from __future__ import annotations

import pyarrow as pa
from datasets import Features, List, Value

from .choices import ATTRIBUTE_TYPES, SCENES

STATISTICS = ("shown_count", "click_count", "cart_count", "purchase_count")
"""Columns of an item's statistics, counted by the source before the first session: impressions, clicks, additions to a cart, purchases."""

_TEXT = Value("string")
_COUNT = Value("int64")
_TEXTS = List(Value("string"))

TABLES: dict[str, Features] = {
    "items": Features(
        {
            "item_id": _TEXT,
            "title": _TEXT,
            "description": _TEXT,
            "ocr_text": _TEXT,
            "brand": _TEXT,
            "seller": _TEXT,
            "categories": _TEXTS,
            "tags": _TEXTS,
            "price": Value("float32"),
            "url": _TEXT,
            "image": _TEXT,
            "attributes": {kind: _TEXTS for kind in ATTRIBUTE_TYPES},
            "features": List(Value("float32")),
            **dict.fromkeys(STATISTICS, _COUNT),
        }
    ),
    "users": Features({"user_id": _TEXT, "gender": _TEXT, "age_bucket": _TEXT, "region": _TEXT}),
    "sessions": Features(
        {
            "session_id": _TEXT,
            "user_id": _TEXT,
            "time": Value("int64"),
            "query": _TEXT,
            "scene": _TEXT,
            "entrance": _TEXT,
            "impressed": _TEXTS,
            "clicked": _TEXTS,
            "carted": _TEXTS,
            "purchased": _TEXTS,
        }
    ),
    "relevance": Features({"query": _TEXT, "item_id": _TEXT, "grade": Value("int8")}),
}
"""Columns of the four tables. `categories` runs from coarse to fine, `grade` from 0 (irrelevant) to 3 (exact). `ocr_text` is text read from
the item's pictures, `url` is its page and `image` the address of its picture, or the path of the file within the market folder (both only
travel to hits). `scene` is one of `SCENES`, and `entrance` names the place in the application where the session began."""

REQUIRED_COLUMNS: dict[str, tuple[str, ...]] = {
    "items": ("item_id", "title"),
    "users": ("user_id",),
    "sessions": ("session_id", "user_id", "time", "query", "clicked", "purchased"),
    "relevance": ("query", "item_id", "grade"),
}
"""Columns that a table must have. Other columns may be absent and are filled with null (text, numbers) or [] (lists)."""

INFO_NAME = "market.json"
"""File of a market folder that holds `Market.info`."""


def arrow_schema(name: str) -> pa.Schema:
    """Return the Arrow schema of one table; `name` is a key of `TABLES`."""
    return TABLES[name].arrow_schema


__all__ = [
    "ATTRIBUTE_TYPES",
    "INFO_NAME",
    "REQUIRED_COLUMNS",
    "SCENES",
    "STATISTICS",
    "TABLES",
    "arrow_schema",
]
