"""Check a market folder: every problem is named with its table and row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from onesearch.files import read_json

from .column_checks import (
    Columns,
    Problem,
    check_ids,
    check_known,
    check_no_null,
    check_session_items,
    check_times,
    is_blank,
    true_rows,
)
from .market import ATTRIBUTE_TYPES, REQUIRED_COLUMNS, SPLIT_METHODS, TABLES, arrow_schema

INFO = "market.json"
LISTS = {"items": ("categories", "features"), "sessions": ("impressed", "clicked", "purchased")}


def check_market(folder: str | Path) -> list[Problem]:
    """Find all problems of a market folder; a market without problems can be used by every command.

    Kinds: ``missing_file``, ``unreadable_file``, ``missing_column``, ``unknown_column``, ``column_type``, ``empty_id``,
    ``duplicate_id``, ``dangling_user``, ``dangling_item``, ``empty_title``, ``empty_query`` (of a judgement), ``null_query``,
    ``null_list``, ``null_time``, ``unsorted``, ``not_impressed``, ``grade``, ``split``.

    * A check that needs a missing or ill-typed column is left out until that column is corrected.
    * Users are optional: the users of sessions are looked up only if the users table has rows.
    * Clicks and purchases are compared with the impressions only in sessions that have impressions.
    * A session may have an empty query: its clicks and purchases did not come from a search.

    Args:
        folder: holds ``items.parquet``, ``users.parquet``, ``sessions.parquet``, ``relevance.parquet`` and ``market.json``.

    Raises:
        NotADirectoryError: `folder` is not a folder.

    Example:
        >>> print(report(check_market("runs/demo/market")))  # doctest: +SKIP
        no problems
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder; a market is a folder of parquet files, made by Market.save")
    problems: list[Problem] = []
    tables: dict[str, Columns] = {}
    for name in TABLES:
        tables[name], found = _read_table(folder, name)
        problems += found
    problems += _check_info(folder / INFO)
    problems += _check_items(tables["items"])
    problems += check_ids("users", tables["users"], "user_id", unique=True)
    problems += _check_sessions(tables)
    problems += _check_relevance(tables)
    return problems


def report(problems: list[Problem], limit: int = 20) -> str:
    """Format problems for people.

    Args:
        problems: as `check_market` returns them.
        limit: number of problems shown per table and kind; all are counted.
    """
    if not problems:
        return "no problems"
    lines = [f"{len(problems)} problems"]
    for (table, kind), group in groupby(sorted(problems, key=_table_and_kind), key=_table_and_kind):
        members = list(group)
        lines.append(f"{table}: {kind}: {len(members)}")
        lines += [f"  {'' if p.row is None else f'row {p.row}: '}{p.message}" for p in members[:limit]]
        if len(members) > limit:
            lines.append(f"  … and {len(members) - limit} more")
    return "\n".join(lines)


def _table_and_kind(problem: Problem) -> tuple[str, str]:
    return problem.table, problem.kind


def _read_table(folder: Path, name: str) -> tuple[dict[str, pa.ChunkedArray], list[Problem]]:
    """The sound columns of one table, and the problems of the others."""
    path = folder / f"{name}.parquet"
    if not path.is_file():
        return {}, [Problem(name, None, "missing_file", f"{path.name} does not exist; a table without rows needs a file, too")]
    try:
        table = pq.read_table(path, memory_map=True)
    except (pa.ArrowInvalid, OSError) as error:
        return {}, [Problem(name, None, "unreadable_file", f"{path.name} is not a readable parquet file ({error})")]
    schema = arrow_schema(name)
    problems = [
        Problem(name, None, "missing_column", f"column {column!r} is missing; {name} needs {list(REQUIRED_COLUMNS[name])}")
        for column in REQUIRED_COLUMNS[name]
        if column not in table.column_names
    ]
    columns = {}
    for column in table.column_names:
        if column not in schema.names:
            message = f"column {column!r} is unknown; allowed are {schema.names}"
            problems.append(Problem(name, None, "unknown_column", message))
            continue
        try:
            columns[column] = table.column(column).cast(schema.field(column).type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            message = f"column {column!r} is {table.column(column).type}, expected {schema.field(column).type} ({error})"
            problems.append(Problem(name, None, "column_type", message))
    return columns, problems


def _check_info(path: Path) -> Iterator[Problem]:
    """Problems of ``market.json``."""
    if not path.is_file():
        yield Problem(INFO, None, "missing_file", f"{INFO} does not exist; it holds name, source and split")
        return
    try:
        info = read_json(path)
    except ValueError as error:
        yield Problem(INFO, None, "unreadable_file", str(error))
        return
    message = _split_problem(info)
    if message:
        yield Problem(INFO, None, "split", message)


def _split_problem(info: Any) -> str | None:
    """Message about the split that ``market.json`` declares; None if it can be used."""
    split = info.get("split", {"method": "none"}) if isinstance(info, dict) else None
    if not isinstance(split, dict):
        return f'split is {split!r}; expected an object such as {{"method": "time"}}'
    method = split.get("method")
    if method not in SPLIT_METHODS:
        return f"split method {method!r} is unknown; allowed are {', '.join(SPLIT_METHODS)}"
    if method != "time":
        return None
    test, validation = split.get("test", 0.1), split.get("validation", 0.05)
    numbers = type(test) in (int, float) and type(validation) in (int, float)
    if numbers and test > 0 and validation >= 0 and test + validation < 1:
        return None
    return (
        f"split shares are test={test!r} and validation={validation!r}; test must be above 0, validation 0 or more, "
        "and their sum below 1"
    )


def _check_items(items: Columns) -> Iterator[Problem]:
    yield from check_ids("items", items, "item_id", unique=True)
    yield from _check_lists("items", items)
    if "title" in items:
        for row in true_rows(is_blank(items["title"])):
            message = f"title is {items['title'][row].as_py()!r}; every item needs a title to be found by"
            yield Problem("items", row, "empty_title", message)
    if "attributes" in items:
        null = np.asarray(items["attributes"].is_null())
        for kind in ATTRIBUTE_TYPES:
            null = null | np.asarray(pc.struct_field(items["attributes"], kind).is_null())
        message = "attributes, or the list of an attribute type, is null; write [] for no values"
        for row in np.flatnonzero(null).tolist():
            yield Problem("items", row, "null_list", message)


def _check_sessions(tables: Mapping[str, Columns]) -> Iterator[Problem]:
    sessions, users, items = tables["sessions"], tables["users"], tables["items"]
    yield from check_ids("sessions", sessions, "session_id", unique=True)
    yield from check_ids("sessions", sessions, "user_id", unique=False)
    yield from _check_lists("sessions", sessions)
    if "query" in sessions:
        message = "query is null; write '' for a session without a search"
        yield from check_no_null("sessions", sessions["query"], "null_query", message)
    if "time" in sessions:
        yield from check_times(sessions["time"])
    if len(users.get("user_id", ())):
        yield from check_known("sessions", sessions, "user_id", "users", users)
    if "item_id" in items:
        yield from check_session_items(sessions, items["item_id"])


def _check_relevance(tables: Mapping[str, Columns]) -> Iterator[Problem]:
    relevance = tables["relevance"]
    yield from check_ids("relevance", relevance, "item_id", unique=False)
    if "query" in relevance:
        queries = relevance["query"]
        yield from check_no_null("relevance", queries, "null_query", "query is null; a judgement needs a query")
        for row in true_rows(pc.and_not(is_blank(queries), queries.is_null())):
            yield Problem("relevance", row, "empty_query", "query is blank; a judgement needs a query")
    if "grade" in relevance:
        grades = relevance["grade"]
        bad = pc.fill_null(pc.or_(pc.less(grades, 0), pc.greater(grades, 3)), True)
        for row in true_rows(bad):
            yield Problem("relevance", row, "grade", f"grade is {grades[row].as_py()}; allowed are 0, 1, 2 and 3")
    yield from check_known("relevance", relevance, "item_id", "items", tables["items"])


def _check_lists(table: str, columns: Columns) -> Iterator[Problem]:
    """Null lists of one table."""
    for key in LISTS[table]:
        if key in columns:
            yield from check_no_null(table, columns[key], "null_list", f"{key} is null; write [] for an empty list")


__all__ = ["Problem", "check_market", "report"]
