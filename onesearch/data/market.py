"""The market: items, users, sessions and relevance, as parquet files in one folder.

The columns follow KuaiSearch's published schema (arXiv 2602.11518). A user's history is never stored: it is derived from the sessions
before a request (see `requests.py`).
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
"""The 18 attribute types of OneSearch's named-entity recognition (arXiv 2509.03236, KHQE, core keywords)."""

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
"""Columns of the four tables. `categories` runs from coarse to fine, `grade` from 0 (irrelevant) to 3 (exact)."""

REQUIRED_COLUMNS: dict[str, tuple[str, ...]] = {
    "items": ("item_id", "title"),
    "users": ("user_id",),
    "sessions": ("session_id", "user_id", "time", "query", "clicked", "purchased"),
    "relevance": ("query", "item_id", "grade"),
}
"""Columns that a table must have. Other columns may be absent and are filled with null (text, numbers) or [] (lists)."""

SPLIT_METHODS = ("time", "leave_last_out", "none")


@dataclass
class Market:
    """The four tables of a market, and the contents of its ``market.json``. `TABLES` lists the columns.

    Args:
        items: one row per item.
        users: one row per user; may be empty.
        sessions: one row per session, sorted by time; may be empty.
        relevance: one row per judgement; may be empty.
        info: contents of ``market.json``: at least ``name``, ``source`` and ``split`` (``{"method": "time" | "leave_last_out" |
            "none", "validation": share, "test": share}``). Importers and the simulator add more, for example counts of dropped rows
            and oracle scores.
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
        """Build a market from dictionaries. Absent optional columns are filled with null or [].

        Args:
            items: rows of the items table.
            users: rows of the users table.
            sessions: rows of the sessions table, sorted by time.
            relevance: rows of the relevance table.
            info: contents of ``market.json``.

        Raises:
            ValueError: a column is unknown, or a value does not fit its type.

        Example:
            >>> market = Market.from_rows(items=[{"item_id": "a", "title": "red dress"}])
            >>> market.items["title"][0]
            'red dress'
        """
        rows = {"items": items, "users": users, "sessions": sessions, "relevance": relevance}
        tables = {name: as_dataset(table_from_rows(name, list(part))) for name, part in rows.items()}
        return cls(**tables, info=dict(info or {}))

    @classmethod
    def load(cls, folder: str | Path) -> Market:
        """Read a market folder.

        Raises:
            FileNotFoundError: a table or ``market.json`` is missing.
            ValueError: a table lacks a required column, or a column has another type.
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
        """Write the four parquet files and ``market.json``, and return the folder. It appears whole or not at all."""
        folder = Path(folder)
        tables = {"items": self.items, "users": self.users, "sessions": self.sessions, "relevance": self.relevance}
        with atomic_folder(folder) as temporary:
            for name in TABLES:
                pq.write_table(tables[name].with_format("arrow")[:], temporary / f"{name}.parquet")
            write_json(temporary / "market.json", {**self.info, "rows": {name: len(tables[name]) for name in TABLES}})
        return folder


def as_dataset(table: pa.Table) -> Dataset:
    """Wrap an Arrow table as a dataset. The fingerprint is random: a hash of the contents takes a second per million rows."""
    return Dataset(table, fingerprint=uuid4().hex)


def arrow_schema(name: str) -> pa.Schema:
    """Return the Arrow schema of one table; `name` is a key of `TABLES`."""
    return TABLES[name].arrow_schema


def table_from_rows(name: str, rows: list[Mapping[str, Any]]) -> pa.Table:
    """Build an Arrow table from dictionaries. Absent columns become null or [].

    Args:
        name: key of `TABLES`.
        rows: one mapping from column to value per row.

    Raises:
        ValueError: a column is unknown, or a value does not fit its type.
    """
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
    """Cast the columns of an Arrow table to the declared types, fill absent optional columns, and put all in order.

    Args:
        name: key of `TABLES`.
        table: table to conform.
        origin: path of the table, for error messages.

    Raises:
        ValueError: a required column is missing, or a column cannot be cast.
    """
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
    """The value, or the empty value of the feature where it is None."""
    if isinstance(feature, List):
        return [] if value is None else value
    if isinstance(feature, dict):
        given = value or {}
        unknown = set(given) - set(feature)
        if unknown:
            raise ValueError(f"unknown attribute types {sorted(unknown)}; allowed are {list(feature)}")
        return {kind: list(given.get(kind) or []) for kind in feature}
    return value
