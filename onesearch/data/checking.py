"""Check a market folder: every problem is named with its table and row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onesearch.parquet_files import read_table

from .arrow_tables import column_problems, fit_column
from .column_checks import (
    Columns,
    Problem,
    check_ids,
    check_known,
    check_no_null,
    check_numbers,
    check_session_items,
    check_times,
    is_blank,
    true_rows,
)
from .info_checks import check_info
from .market import Market
from .request_checks import check_requests
from .schema import ATTRIBUTE_TYPES, INFO_NAME, SCENES, STATISTICS, TABLES, arrow_schema

LISTS = {"items": ("categories", "tags", "features"), "sessions": ("impressed", "clicked", "carted", "purchased")}


def check_market(folder: str | Path) -> list[Problem]:
    """Find all problems of a market folder; a market without problems can be used by every command.

    Kinds: ``missing_file``, ``unreadable_file``, ``missing_column``, ``unknown_column``, ``duplicate_column``, ``column_type``,
    ``no_items``, ``empty_id``, ``malformed_id``, ``duplicate_id``, ``dangling_user``, ``dangling_item``, ``empty_title``,
    ``empty_query`` (of a judgement), ``null_query``, ``null_list``, ``number``, ``null_time``, ``unsorted``, ``not_impressed``,
    ``grade``, ``count``, ``scene``, ``split``, ``language``, ``text_fields``, ``text_limits``, ``no_requests``.

    * A check that needs a missing or ill-typed column is left out until that column is corrected.
    * Users are optional: the users of sessions are looked up only if the users table has rows.
    * Clicks and purchases are compared with the impressions only in sessions that have impressions.
    * A session may have an empty query: its clicks and purchases did not come from a search.
    * Requests are counted only in a market that has no other problem and whose split is not ``none``: training needs some in the training
      split, and evaluation in the test split.

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
    problems += check_info(folder / INFO_NAME, len(tables["sessions"].get("session_id", ())) > 0)
    problems += check_items(tables["items"])
    problems += check_ids("users", tables["users"], "user_id", unique=True)
    problems += _check_sessions(tables)
    problems += _check_relevance(tables)
    return problems or list(check_requests(Market.load(folder)))


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
        table = read_table(path, memory_map=True)
    except ValueError as error:
        return {}, [Problem(name, None, "unreadable_file", str(error))]
    problems = [Problem(name, None, kind, message) for kind, message in column_problems(name, table.column_names)]
    columns = {}
    for column in arrow_schema(name):
        if table.column_names.count(column.name) != 1:
            continue
        try:
            columns[column.name] = fit_column(table.column(column.name), column)
        except ValueError as error:
            problems.append(Problem(name, None, "column_type", str(error)))
    return columns, problems


def check_items(items: Columns) -> Iterator[Problem]:
    """Find all problems of an items table: of a market, and of new items.

    Args:
        items: columns of the table; those that are absent are not checked.
    """
    if "item_id" in items and not len(items["item_id"]):
        yield Problem("items", None, "no_items", "there is no item; a market needs at least one")
    for key in ("price", "features"):
        if key in items:
            yield from check_numbers("items", key, items[key])
    yield from _check_counts(items)
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


def _check_counts(items: Columns) -> Iterator[Problem]:
    """Negative statistics."""
    for key in STATISTICS:
        if key in items:
            for row in true_rows(pc.fill_null(pc.less(items[key], 0), False)):
                yield Problem(
                    "items", row, "count", f"{key} is {items[key][row].as_py()}; a count is 0 or more, or null if unknown"
                )


def _check_sessions(tables: Mapping[str, Columns]) -> Iterator[Problem]:
    sessions, users, items = tables["sessions"], tables["users"], tables["items"]
    yield from check_ids("sessions", sessions, "session_id", unique=True)
    yield from check_ids("sessions", sessions, "user_id", unique=False)
    yield from _check_lists("sessions", sessions)
    if "query" in sessions:
        message = "query is null; write '' for a session without a search"
        yield from check_no_null("sessions", sessions["query"], "null_query", message)
    if "scene" in sessions:
        known = pc.or_kleene(pc.is_in(sessions["scene"], value_set=pa.array(SCENES)), sessions["scene"].is_null())
        for row in true_rows(pc.invert(known)):
            message = f"scene is {sessions['scene'][row].as_py()!r}; allowed are {', '.join(SCENES)} or null"
            yield Problem("sessions", row, "scene", message)
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


__all__ = ["Problem", "check_items", "check_market", "report"]
