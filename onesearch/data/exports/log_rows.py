"""Rows of one file of a log as events or sessions, whatever a row of it is."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import rows as row_rules
from ..bad_rows import VALUE, BadRows
from ..fields import BadRow
from .event_columns import KINDS, LogColumns, listed_ids, yes
from .events import ANONYMOUS, SECOND, Event, with_shown
from .ids import ItemIds
from .judgements import Judged, counts_by_grade, grades_of
from .names import IGNORED, KIND_LOOKUP, kind_name
from .times import Times, read_times
from .values import as_id, as_text, ids_are_floats

NOBODY = frozenset({"-1", "anonymous", "guest", "gast", "anonym", "not set", "0000000000"})
"""Ids, in lower case, that stand for users who did not log in."""

PROFILE = ("gender", "age_bucket", "region")
"""Columns of the users table."""


@dataclass
class LogFile:
    """What one file of a log gave.

    Args:
        rows: number of rows.
        kept: number of rows that are part of a session.
        merged: number of rows that repeat an event of their session. With several files these rows count as kept: a session may hold rows
            of all of them.
        notes: rules that applied to the file.
    """

    rows: int
    kept: int
    merged: int = 0
    notes: list[str] = field(default_factory=list)


class LogReader:
    """Reads the rows of one log."""

    def __init__(self, log: LogColumns, ids: ItemIds, bad: BadRows) -> None:
        self.log, self.ids, self.bad = log, ids, bad
        self.columns = log.columns
        self.table = log.columns.table
        self.name = self.table.path.name
        self.was_float = {
            name: ids_are_floats(self.table.values(column))
            for name in ("user_id", "session_id", "item_id")
            if (column := self.columns.first(name))
        }
        self.times = self._times()
        self.profiles: dict[str, dict[str, Any]] = {}
        self.anonymous = self.kept = 0
        self.notes: list[str] = []
        self.kinds = self._kinds()

    def _times(self) -> Times:
        """Moment of each row; the number of the row if there is no time."""
        column = self.columns.first("time")
        if column is None:
            return Times(list(range(len(self.table.rows))), "the order of the rows, because no column holds times", False)
        cells = self.table.values(column)
        clock = self.columns.first("time_of_day")
        if clock is not None:
            days = [str(as_text(cell) or "").removesuffix(" 00:00:00") for cell in cells]
            cells = [f"{day} {as_text(hour) or ''}".strip() for day, hour in zip(days, self.table.values(clock))]
        return read_times(cells)

    def _kinds(self) -> dict[str, str]:
        """Column of a session by the plain name of a kind; ``viewed`` means clicked unless the log has clicks as well."""
        column = self.columns.first("kind")
        if column is None:
            return {}
        names = {kind_name(text) for value in self.table.values(column) if (text := as_text(value))}
        kinds = {name: KIND_LOOKUP[name] for name in names if name in KIND_LOOKUP}
        viewed = "impressed" if "clicked" in kinds.values() else "clicked"
        return {name: viewed if kind == "viewed" else kind for name, kind in kinds.items()}

    def _cell(self, row: Mapping[str, Any], name: str) -> Any:
        return self.columns.cell(row, name)

    def _id(self, row: Mapping[str, Any], name: str) -> str | None:
        return as_id(self._cell(row, name), self.was_float.get(name, False))

    def _user(self, row: Mapping[str, Any], visit: str, query: str = "") -> str:
        """Id of the user; of an anonymous one that of the visit, else "" with a query and a time, else a new one per row."""
        user = self._id(row, "user_id")
        if user is not None and user.lower() not in NOBODY:
            user = _without_address(user)
            profile = {name: as_text(self._cell(row, name)) for name in PROFILE}
            known = self.profiles.setdefault(user, profile)
            known.update({name: value for name, value in profile.items() if value})
            return user
        self.anonymous += 1
        if query and not visit and self.times.is_clock:
            return ""
        return f"{ANONYMOUS}-{visit or f'row-{self.anonymous}'}"

    def events(self) -> list[Event]:
        """Events of a log with one row per event."""
        events = []
        for (line, row), moment in zip(self.table.rows, self.times.moments):
            found = self._events(line, row, moment)
            events += found
            self.kept += bool(found)
        if not self.columns.first("kind") and self.log.form == "events":
            self.notes.append(f"no column names the kind of an event: an item means {self.log.default_kind}")
        else:
            counted = Counter(event.kind or "queries without an item" for event in events)
            self.notes.append("events: " + ", ".join(f"{count:,} {kind}" for kind, count in counted.most_common()))
        if self.anonymous:
            by = (
                "by their visit"
                if self.columns.first("session_id")
                else "by query and time; a row without one of them stands alone"
            )
            self.notes.append(f"{self.anonymous:,} rows without a user: anonymous users are told apart {by}")
        return events

    def file(self) -> LogFile:
        """What the file gave, after its rows were read."""
        of_time = [] if self.log.form == "judgements" else [f"time: {self.times.form}"]
        return LogFile(len(self.table.rows), self.kept, notes=[*of_time, *self.notes])

    def _events(self, line: int, row: Mapping[str, Any], moment: int | None) -> list[Event]:
        """The events of a row; [] for a row that is lost."""
        if moment is None:
            self.bad.add(self.name, line, "the time is empty or no time", self._cell(row, "time"))
            return []
        kinds = self._kinds_of(line, row)
        if kinds is None:
            return []
        visit = self._id(row, "session_id") or ""
        query = as_text(self._cell(row, "query")) or ""
        cell = self._cell(row, "item_id")
        names = listed_ids(cell) if isinstance(cell, list) else [self._id(row, "item_id")]
        if not any(names) or kinds == ["searched"]:
            if query:
                return [Event(moment, self._user(row, visit, query), visit, query, None, "")]
            self.bad.add(self.name, line, "neither a query nor an item")
            return []
        found = [item for name in names if (item := self._item(name)) is not None]
        if not found:
            self.bad.add(self.name, line, "the item is not in the catalogue", names[0])
            return []
        user = self._user(row, visit, query)
        return [Event(moment, user, visit, query, item, kind) for item in found for kind in kinds]

    def _item(self, name: str | None) -> str | None:
        """Item of a cell; a cell that is no id itself may list several, of which the first counts."""
        return self.ids.find(name)

    def _kinds_of(self, line: int, row: Mapping[str, Any]) -> list[str] | None:
        """Kinds of a row's event; None for a row that is lost."""
        if self.log.form == "flags":
            flagged = [name for name in KINDS[1:] if yes(self._cell(row, name))]
            return ["impressed", *flagged]
        text = as_text(self._cell(row, "kind"))
        if text is None:
            return [self.log.default_kind]
        kind = self.kinds.get(kind_name(text))
        if kind is not None:
            return [kind]
        reason = (
            "the kind of the event says no interest in an item"
            if kind_name(text) in IGNORED
            else "the kind of the event is unknown"
        )
        self.bad.add(self.name, line, reason, text)
        return None

    def judgements(self) -> list[Judged]:
        """Judged pairs of a file of judgements."""
        column = self.columns.first("grade") or ""
        grades = grades_of({text for value in self.table.values(column) if (text := as_text(value))}) or {}
        judged = []
        for line, row in self.table.rows:
            text, query = as_text(row.get(column)), as_text(self._cell(row, "query"))
            item = self._item(self._id(row, "item_id"))
            if text is None or query is None:
                self.bad.add(self.name, line, "the query or the grade is empty", query or text or "")
            elif item is None:
                self.bad.add(self.name, line, "the item is not in the catalogue", self._id(row, "item_id") or "")
            else:
                judged.append(Judged(query, item, grades[text]))
        self.kept = len(judged)
        written = ", ".join(f"{text} is {grade}" for text, grade in sorted(grades.items(), key=lambda entry: -entry[1])[:8])
        counts = ", ".join(f"{count:,} of grade {grade}" for grade, count in counts_by_grade(judged).items() if count)
        self.notes += [f"grades from 0 to 3: {written}", f"each row is a judged pair: {counts or 'none that can be used'}"]
        return judged

    def whole_sessions(self) -> list[dict[str, Any]]:
        """Sessions of a log with one row per session."""
        made: list[dict[str, Any]] = []
        taken: set[str] = set()
        for (line, row), moment in zip(self.table.rows, self.times.moments):
            if moment is None:
                self.bad.add(self.name, line, "the time is empty or no time", self._cell(row, "time"))
                continue
            query = as_text(self._cell(row, "query")) or ""
            items = {kind: self._known_items(line, row, kind) for kind in KINDS}
            if self.columns.first("item_id"):  # a list of shown items, and one that something happened to
                kind = self.kinds.get(kind_name(as_text(self._cell(row, "kind")) or ""), self.log.default_kind)
                items[kind or self.log.default_kind] += self._known_items(line, row, "item_id")
            if not query and not any(items.values()):
                self.bad.add(self.name, line, "neither a query nor an item")
                continue
            visit = self._id(row, "session_id") or f"s{line}"
            session_id = visit if visit not in taken else f"{visit}-{line}"
            taken.add(session_id)
            made.append(
                {
                    "session_id": session_id,
                    "user_id": self._user(row, visit),
                    "time": moment // SECOND if self.times.is_clock else moment,
                    "query": query,
                    "scene": as_text(self._cell(row, "scene")) or ("search" if query else "recommendation"),
                    "entrance": as_text(self._cell(row, "entrance")),
                    **with_shown(items),
                }
            )
        self.kept = len(made)
        self.notes.append("each row is a session")
        return made

    def _known_items(self, line: int, row: Mapping[str, Any], kind: str) -> list[str]:
        """Items of a list, without those that the catalogue lacks."""
        found = []
        for name in listed_ids(self._cell(row, kind)):
            item = self.ids.find(name)
            if item is None:
                self.bad.add(self.name, line, f"an item of {kind} is not in the catalogue", name, VALUE)
            else:
                found.append(item)
        return found

    def checked(self, sessions: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The sessions as the rules of rows make them."""
        rows = []
        for number, session in enumerate(sessions, start=1):

            def note(error: BadRow, number: int = number) -> None:
                self.bad.add_error(self.name, number, error, VALUE)

            try:
                rows.append(row_rules.session_row(session, note))
            except BadRow as error:
                self.bad.add_error(self.name, number, error)
        return rows


def _without_address(user: str) -> str:
    """An id; that of an e-mail address is a hash, so that no market holds addresses of people."""
    if "@" not in user:
        return user
    return f"mail-{hashlib.blake2b(user.lower().encode(), digest_size=8).hexdigest()}"


__all__ = ["PROFILE", "LogFile", "LogReader"]
