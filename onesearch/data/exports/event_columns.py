"""The columns of a log, and what a row of it is: an event, an event with flags, or a whole session."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ..schema import SCENES
from .columns import Columns, choose_columns, is_number, share
from .judgements import grades_of
from .names import KIND_LOOKUP, kind_name, log_field
from .raw_files import RawTable
from .times import read_times
from .values import as_text, listed

KINDS = ("impressed", "clicked", "carted", "purchased")
"""Columns of a session that hold items."""

FIELDS = (
    "time",
    "user_id",
    "session_id",
    "query",
    "item_id",
    "kind",
    *KINDS,
    "gender",
    "age_bucket",
    "region",
    "scene",
    "entrance",
    "grade",
)
"""Fields that a user can name."""

SINGLE = ("session_id", "kind", "gender", "age_bucket", "region", "scene", "entrance", "grade", *KINDS)
"""Fields that are read from one column; users, queries and items are read from the first filled cell of theirs."""

FLAGS = frozenset({"0", "1", "true", "false", "yes", "no", "y", "n", "t", "f", "ja", "nein", "0.0", "1.0"})
YES = frozenset({"1", "true", "yes", "y", "t", "ja", "1.0"})

MOSTLY = 0.8


@dataclass
class LogColumns:
    """The columns of a log.

    Args:
        columns: columns by field.
        form: ``events`` (one row per event), ``flags`` (one row per shown item, with columns such as ``clicked`` that hold 0 or 1) or
            ``sessions`` (one row per session, with lists of items), or ``judgements`` (a query, an item and a grade).
        default_kind: kind of an event without a kind column.
    """

    columns: Columns
    form: str
    default_kind: str = "clicked"


def log_columns(
    table: RawTable, override: Mapping[str, str] | None, catalogue: Collection[str] | None, titles: Collection[str] = ()
) -> LogColumns:
    """Find the field of each column, and the form of the log.

    Args:
        table: rows of the log.
        override: field → column, as the user says it.
        catalogue: all ids of items. A column that holds many of them holds items, whatever its name. None if they are not known yet; then
            nothing is refused.
        titles: titles of items. Without a usual name, the column whose texts share words with them holds the queries.

    Raises:
        ValueError: `override` names what does not exist, or no column holds queries or items.
    """
    columns = choose_columns(table, log_field, override, FIELDS)
    _correct_by_contents(columns)
    _find_items(columns, catalogue or ())
    if not columns.first("query"):
        _find_queries(columns, titles)
    lists = [name for name in KINDS if (column := columns.first(name)) and not _is_flag(columns, column)]
    flags = [name for name in KINDS if (column := columns.first(name)) and _is_flag(columns, column)]
    _find_time(columns)
    for name in SINGLE:
        columns.keep_one(name)
    for name in ("user_id", "query", "item_id"):
        columns.rank(name)
    if catalogue is not None and not columns.first("query") and not columns.first("item_id") and not lists:
        names = ", ".join(map(repr, table.columns))
        raise ValueError(
            f"{table.path.name}: no column holds queries or items of the catalogue; name one with log_columns={{'item_id': …}}; "
            f"columns are {names}"
        )
    if _is_judged(columns, [*lists, *flags]):
        return LogColumns(columns, "judgements")
    if lists:
        return LogColumns(columns, "sessions")
    if flags and columns.first("item_id"):
        return LogColumns(columns, "flags", "impressed")
    return LogColumns(
        columns, "events", "purchased" if columns.of.get("quantity") and not columns.first("query") else "clicked"
    )


def _is_judged(columns: Columns, behaviour: Collection[str]) -> bool:
    """Whether the rows are judged pairs: a query, an item and a grade, and nothing of a behaviour. Elsewhere grades are left out."""
    column = columns.first("grade")
    if column is None:
        return False
    of_behaviour = [name for name in ("time", "kind", "user_id", "session_id", *behaviour) if columns.first(name)]
    has_pairs = columns.first("query") is not None and columns.first("item_id") is not None
    if has_pairs and not of_behaviour and grades_of(columns.texts(column)) is not None:
        return True
    columns.leave_out(
        column, "grades count in a file of judgements: a query, an item and a grade, without times, users and kinds"
    )
    return False


def _correct_by_contents(columns: Columns) -> None:
    """Leave out columns whose contents contradict their names."""
    for column, report in list(columns.reports.items()):
        name, texts = report.field, columns.texts(column)
        if name is None or report.why == "you named it":
            continue
        if name == "kind" and share(texts, lambda text: kind_name(text) in KIND_LOOKUP) < 0.5:
            columns.leave_out(column, "its values are no kinds of events")
        elif name == "query" and share(texts, is_number) > MOSTLY:
            columns.leave_out(column, "its values are numbers")
        elif name == "scene" and share(texts, lambda text: text in SCENES) < MOSTLY:
            columns.leave_out(column, f"its values are not {', '.join(SCENES)}")


def _is_flag(columns: Columns, column: str) -> bool:
    """Whether a column holds flags, or counts beside a column of items."""
    texts = columns.texts(column)
    return all(text.lower() in FLAGS for text in texts) or (bool(columns.of.get("item_id")) and share(texts, is_number) == 1.0)


def _find_items(columns: Columns, catalogue: Collection[str]) -> None:
    """Read items from the column that holds the most ids of the catalogue, if the columns with usual names hold fewer."""
    if not catalogue:
        return
    known = {text.lower().lstrip("0") for text in catalogue}

    def held(column: str) -> float:
        return share(columns.texts(column), lambda text: text.removesuffix(".0").lower().lstrip("0") in known)

    named = columns.of.get("item_id", [])
    if any(columns.reports[column].why == "you named it" for column in named):
        return
    shares = {column: held(column) for column in named}
    columns.of["item_id"] = sorted(named, key=lambda column: -shares[column])
    if max(shares.values(), default=0.0) > 0.05 or any(columns.first(kind) for kind in KINDS if kind in columns.of):
        return
    unknown = {column: held(column) for column, report in columns.reports.items() if report.field is None}
    if unknown and max(unknown.values()) > 0.5:
        for column in named:
            columns.leave_out(column, "it holds no ids of the catalogue")
        columns.add("item_id", max(unknown, key=unknown.__getitem__), "its values are ids of the catalogue")


def _find_queries(columns: Columns, titles: Collection[str]) -> None:
    """Read queries from the column whose texts share words with titles, but are none."""
    words = {word for title in titles for word in re.findall(r"\w+", title.lower()) if not word.isdecimal()}
    whole = {title.lower() for title in titles}

    def asks(text: str) -> bool:
        lower = text.lower()
        shares_words = any(word in words for word in re.findall(r"\w+", lower))
        return lower not in whole and (shares_words or any(lower in title for title in whole))

    for column, report in list(columns.reports.items()):
        if report.field is None and report.why == "unknown name" and share(columns.texts(column), asks) > 0.5:
            columns.add("query", column, "its texts share words with titles")
            return


def _find_time(columns: Columns) -> None:
    """Keep one column of times: the first whose cells are mostly times. A column with the time of the day joins one of dates."""
    found = columns.of.get("time", [])
    fitting = {column: _time_share(columns, column) for column in found}
    best = next((column for column in found if fitting[column] > MOSTLY), None)
    for column in list(found):
        if column == best:
            continue
        if best is not None and all(":" in text and len(text) <= 8 for text in columns.texts(column)):
            columns.leave_out(column, "")
            columns.add("time_of_day", column, f"the time of the day; the day is in {best!r}")
        else:
            columns.leave_out(column, f"time is read from {best!r}" if best else "its values are no times")
    if best is not None:
        return
    for column, report in list(columns.reports.items()):
        if (
            report.field is None
            and report.why == "unknown name"
            and _time_share(columns, column) > 0.95
            and _looks_like_time(columns, column)
        ):
            columns.add("time", column, "its values are times")
            return


def _time_share(columns: Columns, column: str) -> float:
    texts = columns.texts(column)
    moments = read_times(texts).moments
    return sum(moment is not None for moment in moments) / len(texts) if texts else 0.0


def _looks_like_time(columns: Columns, column: str) -> bool:
    """Whether texts are dates rather than small numbers or words that happen to be dates."""
    texts = columns.texts(column)
    times = read_times(texts)
    return times.is_clock and share(texts, lambda text: len(text) >= 8) > MOSTLY


def yes(value: object) -> bool:
    """Whether a flag is set, or a count is above 0."""
    text = (as_text(value) or "").lower()
    return text in YES or (is_number(text) and text.strip("+0.,") != "" and not text.startswith("-"))


def listed_ids(value: object) -> list[str]:
    """Ids in a cell of a session: a list, or text separated by ``,``, ``;``, ``|`` or blanks."""
    entries = listed(value)
    if entries is None:
        entries = re.split(r"[|;,\s]+", as_text(value) or "")
    return [text for entry in entries if (text := as_text(entry))]


__all__ = ["FIELDS", "KINDS", "LogColumns", "listed_ids", "log_columns", "yes"]
