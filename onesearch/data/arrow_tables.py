"""Arrow tables in the declared columns, from rows or from tables of other types. A value that would have to be changed is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .schema import ATTRIBUTE_TYPES, REQUIRED_COLUMNS, TABLES, arrow_schema

if TYPE_CHECKING:
    from datasets import Dataset

ID_COLUMNS = frozenset({"item_id", "user_id", "session_id", "impressed", "clicked", "carted", "purchased"})
"""Columns of ids: integers become text in them, as in every importer."""


def as_dataset(table: pa.Table) -> Dataset:
    """Wrap an Arrow table as a dataset. The fingerprint is random: a hash of the contents takes a second per million rows."""
    from datasets import Dataset  # takes long to import, and a search needs none

    return Dataset(table, fingerprint=uuid4().hex)


def table_from_rows(name: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Build an Arrow table from rows whose values have the declared types; `onesearch.data.rows` makes such rows of others.

    Absent columns become null or [].

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
        columns[column] = [_filled(row.get(column), feature, f"{name}, {column}") for row in rows]
    try:
        return pa.table(columns, schema=arrow_schema(name))
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(
            f"{name}: a value does not fit the declared types ({error}); see onesearch.data.schema.TABLES"
        ) from error


def conform(name: str, table: pa.Table, origin: str) -> pa.Table:
    """Bring the columns of an Arrow table to the declared types, fill absent optional columns, and put all in order.

    Args:
        name: key of `TABLES`.
        table: table to conform.
        origin: path of the table, for error messages.

    Raises:
        ValueError: a required column is missing, a column is unknown or occurs twice, or its values are not of the declared type.
    """
    problems = [message for _, message in column_problems(name, table.column_names)]
    if problems:
        raise ValueError(f"{origin}: {'; '.join(problems)}")
    schema = arrow_schema(name)
    filled = []
    for column in schema:
        if column.name not in table.column_names:
            empty = _filled(None, TABLES[name][column.name], column.name)
            filled.append(pa.array([empty] * len(table), type=column.type))
            continue
        try:
            values = fit_column(table.column(column.name), column)
        except ValueError as error:
            raise ValueError(f"{origin}: {error}") from error
        filled.append(values if column.name in REQUIRED_COLUMNS[name] else _without_null_lists(values))
    return pa.table(filled, schema=schema)


def column_problems(name: str, columns: Sequence[str]) -> list[tuple[str, str]]:
    """Judge the names of a table's columns.

    Args:
        name: key of `TABLES`.
        columns: names of the columns.

    Returns:
        Kind (``missing_column``, ``unknown_column`` or ``duplicate_column``) and message of each problem.
    """
    declared, required = list(TABLES[name]), list(REQUIRED_COLUMNS[name])
    missing = [column for column in required if column not in columns]
    unknown = [column for column in dict.fromkeys(columns) if column not in declared]
    doubled = [column for column in dict.fromkeys(columns) if columns.count(column) > 1]
    problems = []
    if missing:
        problems.append(("missing_column", f"missing columns {missing}; {name} needs {required}"))
    if unknown:
        problems.append(("unknown_column", f"unknown columns {unknown}; allowed are {declared}"))
    if doubled:
        problems.append(("duplicate_column", f"columns {doubled} occur twice; keep one of each"))
    return problems


def fit_column(values: pa.ChunkedArray, column: pa.Field) -> pa.ChunkedArray:
    """Cast a column to its declared type if that changes no value: whole numbers to text are ids only, and no number is rounded.

    Args:
        values: values of the column.
        column: declared name and type.

    Raises:
        ValueError: the type does not fit; the message names the column and a row, counted from 0, with its value.
    """
    found, expected = values.type, column.type
    if found == expected:
        return values
    if expected == arrow_schema("items").field("attributes").type and (pa.types.is_struct(found) or pa.types.is_map(found)):
        return _fit_attributes(values, column)
    if _fits(found, expected, column.name in ID_COLUMNS):
        try:
            return values.cast(expected)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ValueError(f"column {column.name!r} is {found} and cannot become {expected} ({error})") from error
    raise ValueError(f"column {column.name!r} is {found}, expected {expected} ({_example(values, expected)})")


def _fits(found: pa.DataType, expected: pa.DataType, is_id: bool) -> bool:
    """Whether all values of the type `found` may become `expected`, unless one is too large."""
    if pa.types.is_null(found):
        return True
    if pa.types.is_dictionary(found):
        return _fits(found.value_type, expected, is_id)
    if pa.types.is_list(expected):
        is_list = pa.types.is_list(found) or pa.types.is_large_list(found) or pa.types.is_fixed_size_list(found)
        return is_list and _fits(found.value_type, expected.value_type, is_id)
    if pa.types.is_string(expected):
        is_text = pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found)
        return is_text or (is_id and pa.types.is_integer(found))
    if pa.types.is_floating(expected):
        return pa.types.is_integer(found) or pa.types.is_floating(found) or pa.types.is_decimal(found)
    return pa.types.is_integer(expected) and pa.types.is_integer(found)


def _example(values: pa.ChunkedArray, expected: pa.DataType) -> str:
    """Row and value for an error message: the first value, or the first one with a fraction where integers are expected."""
    mask = np.asarray(values.is_valid())
    if pa.types.is_integer(expected) and pa.types.is_floating(values.type):
        broken = np.asarray(pc.fill_null(pc.not_equal(values, pc.floor(values)), False))
        mask = broken if broken.any() else mask
    if not mask.any():
        return "every value is null"
    row = int(mask.argmax())
    return f"row {row}: {values[row].as_py()!r}"


def _fit_attributes(values: pa.ChunkedArray, column: pa.Field) -> pa.ChunkedArray:
    """Attributes from a struct with fewer types, or from a map."""
    rows = []
    for row, value in enumerate(values.to_pylist()):
        given = dict(value or {})
        unknown = [kind for kind in given if kind not in ATTRIBUTE_TYPES]
        if unknown:
            raise ValueError(f"row {row}: unknown attribute types {unknown}; allowed are {', '.join(ATTRIBUTE_TYPES)}")
        wrong = [kind for kind, texts in given.items() if not _are_texts(texts)]
        if wrong:
            raise ValueError(f"row {row}: attributes.{wrong[0]} is {given[wrong[0]]!r}, expected a list of texts")
        rows.append({kind: given.get(kind) or [] for kind in ATTRIBUTE_TYPES})
    return pa.chunked_array([pa.array(rows, column.type)])


def _are_texts(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(entry, str) for entry in value))


def _without_null_lists(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """The values with [] for a list that is null, also within attributes."""
    if pa.types.is_struct(values.type):
        children = [pc.struct_field(values, kind).null_count for kind in ATTRIBUTE_TYPES]
        if not values.null_count and not any(children):
            return values
        return _fit_attributes(values, pa.field("attributes", values.type))
    if not pa.types.is_list(values.type) or not values.null_count:
        return values
    return pa.chunked_array([pa.array([entry or [] for entry in values.to_pylist()], values.type)])


def _filled(value: Any, kind: pa.DataType, place: str) -> Any:
    """The value, or the empty value of the type where it is None. Arrow would split text, order sets and cut fractions: they raise."""
    if pa.types.is_struct(kind):
        given = value or {}
        parts = {part.name: part.type for part in kind}
        unknown = set(given) - set(parts)
        if unknown:
            raise ValueError(f"unknown attribute types {sorted(unknown)}; allowed are {list(parts)}")
        return {name: _filled(given.get(name), part, f"{place}.{name}") for name, part in parts.items()}
    if pa.types.is_list(kind):
        if isinstance(value, str | bytes | Set):
            raise ValueError(f"{place}: {value!r} is {type(value).__name__}, not a list")
        return [] if value is None else value
    if isinstance(value, float) and pa.types.is_integer(kind):
        raise ValueError(f"{place}: {value!r} is not an integer")
    return value


__all__ = ["as_dataset", "column_problems", "conform", "fit_column", "table_from_rows"]
