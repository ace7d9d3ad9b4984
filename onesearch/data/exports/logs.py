"""The rows of a log, of one file or of several, as sessions and users."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from .. import rows as row_rules
from ..bad_rows import BadRows
from .event_columns import LogColumns
from .events import MINUTE, Event, SessionRules, session_rows
from .ids import ItemIds
from .judgements import ENOUGH, Judged, judged_sessions
from .log_rows import PROFILE, LogFile, LogReader


@dataclass
class Log:
    """The sessions and users of a log.

    Args:
        sessions: rows of the sessions table, sorted by time.
        users: rows of the users table; empty if the log holds no profile.
        files: what each file gave.
        judged: judged pairs of queries and items.
        learned: whether the sessions were made of the judged pairs.
        has_time: whether the log has a time or an order of its own.
        notes: rules that applied to several files together.
    """

    sessions: list[dict[str, Any]]
    users: list[dict[str, Any]]
    files: list[LogFile]
    judged: list[Judged] = field(default_factory=list)
    learned: bool = False
    has_time: bool = True
    notes: list[str] = field(default_factory=list)


def read_logs(logs: Sequence[LogColumns], ids: ItemIds, bads: Sequence[BadRows], session_minutes: int) -> Log:
    """Turn the rows of one or several files into sessions, by the rules of `onesearch.data.rows`.

    Events of all files that belong together make one session: an order of one file belongs to its user's search in another.

    Args:
        logs: the columns of each file, and its table.
        ids: finds items.
        bads: receive the rows and values of each file that do not fit.
        session_minutes: a user's events with the same query that are at most so far apart are one session.

    Raises:
        ValueError: there are several files, and one holds no times, by which they could be joined.
    """
    every = [LogReader(log, ids, bad) for log, bad in zip(logs, bads)]
    judged = [pair for reader in every if reader.log.form == "judgements" for pair in reader.judgements()]
    readers = [reader for reader in every if reader.log.form != "judgements"]
    if not readers:
        rows = judged_sessions(judged) if len({query for query, _, _ in judged}) >= ENOUGH else []
        files = [reader.file() for reader in every]
        return Log(every[0].checked(rows), [], files, judged, learned=bool(rows), has_time=False)
    if len(readers) > 1:
        _refuse_without_times(readers)
    sessions, events = list[dict[str, Any]](), list[Event]()
    for reader in readers:
        if reader.log.form == "sessions":
            sessions += reader.whole_sessions()
        else:
            events += reader.events()
    files = [reader.file() for reader in every]
    notes: list[str] = []
    if any(reader.log.form != "sessions" for reader in readers):
        rules = SessionRules(session_minutes * MINUTE if readers[0].times.is_clock else None)
        made, counts = rules.sessions(sorted(events, key=lambda event: event.moment))
        sessions = _with_own_ids([*sessions, *session_rows(made, readers[0].times.is_clock)])
        notes = _session_notes(session_minutes, counts, readers[0].times.is_clock)
        if len(readers) == 1:
            file = files[every.index(readers[0])]
            file.merged = min(counts["repeated"], file.kept) if readers[0].log.form == "events" else 0
            file.kept -= file.merged
    rows = readers[0].checked(sorted(sessions, key=lambda session: session["time"]))
    if readers[0].log.form == "sessions" and len(readers) == 1:
        files[every.index(readers[0])].kept = len(rows)
    used = ", ".join(f"{count:,} {way}" for way, count in ids.used.items() if way)
    if used:
        notes.append(f"items of the log found in the catalogue by another spelling of their ids: {used}")
    if len(every) == 1:  # of one file, all notes are its own
        files[0].notes, notes = [*files[0].notes[:1], *notes[:1], *files[0].notes[1:], *notes[1:]], []
    has_time = any(reader.columns.first("time") for reader in readers)
    return Log(rows, _users(rows, readers), files, judged, has_time=has_time, notes=notes)


def _refuse_without_times(readers: Sequence[LogReader]) -> None:
    """ValueError that names the files without times."""
    without = [reader.name for reader in readers if not reader.times.is_clock]
    if without:
        raise ValueError(
            f"{', '.join(without)}: no column holds times, by which the events of several files could be joined; name the column with "
            "log_columns={'time': …}, or give one file"
        )


def _with_own_ids(sessions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sessions; one whose id occurred before gets another."""
    taken: set[str] = set()
    for session in sessions:
        name, number = session["session_id"], 2
        while session["session_id"] in taken:
            session["session_id"] = f"{name}-{number}"
            number += 1
        taken.add(session["session_id"])
    return list(sessions)


def _session_notes(session_minutes: int, counts: Counter[str], is_clock: bool) -> list[str]:
    """The rules that made sessions of events, in words."""
    gap = f", at most {session_minutes} minutes apart" if is_clock else ", until the user's next one (no gap is known)"
    notes = [f"a session is a user's events with the same query{gap}"]
    if counts["attributed"]:
        notes.append(f"{counts['attributed']:,} events without a query belong to a query of their user before them")
    if counts["outside"]:
        notes.append(
            f"{counts['outside']:,} events without a query before them make sessions without a query (scene recommendation)"
        )
    return notes


def _users(sessions: Sequence[dict[str, Any]], readers: Sequence[LogReader]) -> list[dict[str, Any]]:
    """Users of the sessions, if the log holds a profile; otherwise none, because the users table is optional."""
    profiles: dict[str, dict[str, Any]] = {}
    for reader in readers:
        for user, profile in reader.profiles.items():
            known = profiles.setdefault(user, dict.fromkeys(PROFILE))
            known.update({name: value for name, value in profile.items() if value})
    if not any(chain.from_iterable(profile.values() for profile in profiles.values())):
        return []
    seen = dict.fromkeys(session["user_id"] for session in sessions)
    empty = dict.fromkeys(PROFILE)
    return [row_rules.user_row({"user_id": user, **profiles.get(user, empty)}, lambda error: None) for user in seen]


__all__ = ["Log", "read_logs"]
