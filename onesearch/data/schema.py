"""The columns of the four tables of a market, and the values that ``market.json`` may hold."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from .choices import ATTRIBUTE_TYPES, SCENES

STATISTICS = ("shown_count", "click_count", "cart_count", "purchase_count")
"""Columns of an item's statistics, counted by the source before the first session: impressions, clicks, additions to a cart, purchases."""

_TEXT = pa.string()
_COUNT = pa.int64()
_TEXTS = pa.list_(pa.string())

TABLES: dict[str, dict[str, pa.DataType]] = {
    "items": {
        "item_id": _TEXT,
        "title": _TEXT,
        "description": _TEXT,
        "ocr_text": _TEXT,
        "brand": _TEXT,
        "seller": _TEXT,
        "categories": _TEXTS,
        "tags": _TEXTS,
        "price": pa.float32(),
        "url": _TEXT,
        "image": _TEXT,
        "attributes": pa.struct([pa.field(kind, _TEXTS) for kind in ATTRIBUTE_TYPES]),
        "features": pa.list_(pa.float32()),
        **dict.fromkeys(STATISTICS, _COUNT),
    },
    "users": {"user_id": _TEXT, "gender": _TEXT, "age_bucket": _TEXT, "region": _TEXT},
    "sessions": {
        "session_id": _TEXT,
        "user_id": _TEXT,
        "time": pa.int64(),
        "query": _TEXT,
        "scene": _TEXT,
        "entrance": _TEXT,
        "impressed": _TEXTS,
        "clicked": _TEXTS,
        "carted": _TEXTS,
        "purchased": _TEXTS,
    },
    "relevance": {"query": _TEXT, "item_id": _TEXT, "grade": pa.int8()},
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
    """Return the Arrow schema of one table; `name` is a key of `TABLES`.

    Its metadata tell the library `datasets` the types, as that library writes them itself.
    """
    features = {column: _feature(kind) for column, kind in TABLES[name].items()}
    return pa.schema(TABLES[name]).with_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _feature(kind: pa.DataType) -> dict[str, Any]:
    """A type as `datasets` describes it."""
    if pa.types.is_struct(kind):
        return {part.name: _feature(part.type) for part in kind}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    return {"dtype": "float32" if pa.types.is_float32(kind) else str(kind), "_type": "Value"}


__all__ = [
    "ATTRIBUTE_TYPES",
    "INFO_NAME",
    "REQUIRED_COLUMNS",
    "SCENES",
    "STATISTICS",
    "TABLES",
    "arrow_schema",
]
