"""The one table format: items, users, sessions and relevance, as parquet files in one folder.

Modelled on KuaiSearch's published schema. A user's history is never stored; it is what precedes a session (see `requests.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, List, Value

from onesearch.files import atomic_folder, read_json, write_json

ATTRIBUTE_TYPES = (
    "entity", "modifier", "brand", "material", "style", "function", "location", "audience", "color",
    "scene", "specifications", "price", "model", "anchor", "series", "marketing", "season", "pattern",
)  # fmt: skip
"""The 18 attribute types of OneSearch's named-entity step (arXiv 2509.03236, KHQE, core keywords)."""

_TEXT = Value("string")
_TEXTS = List(Value("string"))

TABLES: dict[str, Features] = {
    "items": Features(
        {
            "item_id": _TEXT,
            "title": _TEXT,
            "brand": _TEXT,
            "seller": _TEXT,
            "categories": _TEXTS,
            "price": Value("float32"),
            "attributes": {kind: _TEXTS for kind in ATTRIBUTE_TYPES},
            "features": List(Value("float32")),
        }
    ),
    "users": Features({"user_id": _TEXT, "gender": _TEXT, "age_bucket": _TEXT, "region": _TEXT}),
    "sessions": Features(
        {
            "session_id": _TEXT,
            "user_id": _TEXT,
            "time": Value("int64"),
            "query": _TEXT,
            "impressed": _TEXTS,
            "clicked": _TEXTS,
            "purchased": _TEXTS,
        }
    ),
    "relevance": Features({"query": _TEXT, "item_id": _TEXT, "grade": Value("int8")}),
}
"""Declared columns of the four tables. `categories` runs from coarse to fine; `grade` from 0 (irrelevant) to 3 (exact)."""

REQUIRED_COLUMNS: dict[str, tuple[str, ...]] = {
    "items": ("item_id", "title"),
    "users": ("user_id",),
    "sessions": ("session_id", "user_id", "time", "query", "clicked", "purchased"),
    "relevance": ("query", "item_id", "grade"),
}
"""Columns that a table of one's own must bring; the others are filled with null (text, numbers) or [] (lists)."""

SPLIT_METHODS = ("time", "leave_last_out", "none")


@dataclass
class Market:
    """Four tables and what is known about them.

    Args:
        items, users, sessions, relevance: tables with the columns of `TABLES`; `sessions` is sorted by time.
        info: contents of ``market.json``: at least ``name``, ``source`` and ``split`` (``{"method": "time" | "leave_last_out" | "none",
            "validation": share, "test": share}``), and whatever an importer or the simulator adds (dropped rows, oracle scores).
    """

    items: Dataset
    users: Dataset
    sessions: Dataset
    relevance: Dataset
    info: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_rows(
        cls,
        *,
        items: Iterable[Mapping[str, Any]],
        users: Iterable[Mapping[str, Any]] = (),
        sessions: Iterable[Mapping[str, Any]] = (),
        relevance: Iterable[Mapping[str, Any]] = (),
        info: Mapping[str, Any] | None = None,
    ) -> Market:
        """Build the tables from dictionaries; absent optional columns are filled, unknown columns raise."""
        rows = {"items": items, "users": users, "sessions": sessions, "relevance": relevance}
        tables = {name: as_dataset(table_from_rows(name, list(part))) for name, part in rows.items()}
        return cls(**tables, info=dict(info or {}))

    @classmethod
    def load(cls, folder: str | Path) -> Market:
        """Read a market folder.

        Raises:
            FileNotFoundError: a table or ``market.json`` is missing.
            ValueError: a table lacks a declared column or holds another type.
        """
        folder = Path(folder)
        tables = {}
        for name in TABLES:
            path = folder / f"{name}.parquet"
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path} does not exist; a market folder holds {', '.join(TABLES)} as parquet and market.json"
                )
            tables[name] = as_dataset(conform(name, pq.read_table(path, memory_map=True), origin=str(path)))
        return cls(**tables, info=read_json(folder / "market.json"))

    def save(self, folder: str | Path) -> Path:
        """Write the four parquet files and ``market.json``; the folder appears whole or not at all."""
        folder = Path(folder)
        with atomic_folder(folder) as temporary:
            for name in TABLES:
                pq.write_table(getattr(self, name).with_format("arrow")[:], temporary / f"{name}.parquet")
            write_json(temporary / "market.json", {**self.info, "rows": {name: len(getattr(self, name)) for name in TABLES}})
        return folder


def as_dataset(table: pa.Table) -> Dataset:
    """Wrap a table without hashing its contents, which takes a second per million rows."""
    return Dataset(table, fingerprint=uuid4().hex)


def arrow_schema(name: str) -> pa.Schema:
    """Arrow schema of one table."""
    return TABLES[name].arrow_schema


def table_from_rows(name: str, rows: list[Mapping[str, Any]]) -> pa.Table:
    """Arrow table of `rows`; absent columns become null or [], unknown ones raise ValueError."""
    features = TABLES[name]
    unknown = {key for row in rows for key in row} - set(features)
    if unknown:
        raise ValueError(f"{name}: unknown columns {sorted(unknown)}; allowed are {list(features)}")
    columns = {}
    for column, feature in features.items():
        columns[column] = [_filled(row.get(column), feature) for row in rows]
    try:
        return pa.table(columns, schema=arrow_schema(name))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(
            f"{name}: a value does not fit the declared types ({error}); see onesearch.data.market.TABLES"
        ) from error


def conform(name: str, table: pa.Table, origin: str) -> pa.Table:
    """Check the columns of an Arrow table against the declaration, fill optional ones and put them in order."""
    missing = [column for column in REQUIRED_COLUMNS[name] if column not in table.column_names]
    if missing:
        raise ValueError(f"{origin}: missing columns {missing}; {name} needs {list(REQUIRED_COLUMNS[name])}")
    schema = arrow_schema(name)
    filled = []
    for column in schema:
        if column.name in table.column_names:
            values = table.column(column.name)
            try:
                filled.append(values if values.type == column.type else values.cast(column.type))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise ValueError(
                    f"{origin}: column {column.name!r} is {values.type}, expected {column.type} ({error})"
                ) from error
        else:
            empty = _filled(None, TABLES[name][column.name])
            filled.append(pa.array([empty] * len(table), type=column.type))
    return pa.table(filled, schema=schema)


def _filled(value: Any, feature: Any) -> Any:
    if isinstance(feature, List):
        return [] if value is None else value
    if isinstance(feature, dict):
        given = value or {}
        unknown = set(given) - set(feature)
        if unknown:
            raise ValueError(f"unknown attribute types {sorted(unknown)}; allowed are {list(feature)}")
        return {kind: list(given.get(kind) or []) for kind in feature}
    return value
