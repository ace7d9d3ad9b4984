"""The market: items, users, sessions and relevance, as parquet files in one folder.

The columns follow KuaiSearch's published schema (arXiv 2602.11518); `schema.py` lists them. A user's history is never stored: it is
derived from the sessions before a request (see `requests.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onesearch.files import FolderKind, atomic_folder, check_target, read_json, write_json
from onesearch.parquet_files import read_table, write_table

from .arrow_tables import as_dataset, conform, table_from_rows
from .bad_rows import BadRows
from .fields import BadRow, Note, Row
from .rows import item_row, judgement_row, session_row, user_row
from .schema import INFO_NAME, TABLES

if TYPE_CHECKING:
    from datasets import Dataset

MARKET_FOLDER = FolderKind("market folder", INFO_NAME, frozenset({INFO_NAME, *(f"{name}.parquet" for name in TABLES)}))
"""What a market folder holds, for `onesearch.files.check_target`."""


@dataclass
class Market:
    """The four tables of a market, and the contents of its ``market.json``. `onesearch.data.schema.TABLES` lists the columns.

    Args:
        items: one row per item.
        users: one row per user; may be empty.
        sessions: one row per session, sorted by time; may be empty.
        relevance: one row per judgement; may be empty.
        info: contents of ``market.json``: at least ``name``, ``source`` and ``split`` (``{"method": "time" | "leave_last_out" |
            "random" | "none", "validation": share, "test": share, "seed": number}``; see `onesearch.data.splits`). Importers and the
            simulator add more, for example counts of dropped rows and oracle scores.
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

        Each row is held to the rules of `onesearch.data.rows`, as in the importers. What concerns several rows, such as ids that occur
        twice, is found by `onesearch.data.checking.check_market`.

        Args:
            items: rows of the items table.
            users: rows of the users table.
            sessions: rows of the sessions table, sorted by time. ``clicked`` and ``purchased`` may be absent, which means [].
            relevance: rows of the relevance table.
            info: contents of ``market.json``.

        Raises:
            ValueError: columns are unknown, or values do not fit; the message counts them and names the first rows, from 0.

        Example:
            >>> market = Market.from_rows(items=[{"item_id": "a", "title": "red dress"}])
            >>> market.items["title"][0]
            'red dress'
        """
        rows = {"items": items, "users": users, "sessions": sessions, "relevance": relevance}
        bad = BadRows("raise", advice="correct them")
        tables = {name: _rows(name, part, bad) for name, part in rows.items()}
        bad.close()
        return cls(**{name: as_dataset(table_from_rows(name, part)) for name, part in tables.items()}, info=dict(info or {}))

    @classmethod
    def load(cls, folder: str | Path) -> Market:
        """Read a market folder.

        Raises:
            FileNotFoundError: a table or ``market.json`` is missing.
            ValueError: a table is damaged, lacks a required column, or has an unknown column or one of another type.
        """
        folder = Path(folder)
        tables = {}
        for name in TABLES:
            path = folder / f"{name}.parquet"
            remedy = (
                f"a market folder holds {', '.join(TABLES)} as parquet and {INFO_NAME}; make it again with `onesearch data`"
            )
            tables[name] = as_dataset(conform(name, read_table(path, remedy, memory_map=True), origin=str(path)))
        return cls(**tables, info=read_json(folder / INFO_NAME))

    def save(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Write the four parquet files and ``market.json``, and return the folder. It appears whole or not at all.

        Args:
            folder: market folder to write.
            overwrite: replace a market that the folder holds.

        Raises:
            FileExistsError: the folder holds a market and `overwrite` is False, or it holds anything else.
        """
        folder = Path(folder)
        check_target(folder, MARKET_FOLDER, overwrite=overwrite)
        tables = {"items": self.items, "users": self.users, "sessions": self.sessions, "relevance": self.relevance}
        with atomic_folder(folder, replaces=[INFO_NAME]) as temporary:
            for name in TABLES:
                write_table(tables[name].with_format("arrow")[:], temporary / f"{name}.parquet")
            write_json(temporary / INFO_NAME, {**self.info, "rows": {name: len(tables[name]) for name in TABLES}})
        return folder


_LISTS: dict[str, list[str]] = {"clicked": [], "purchased": []}
"""Lists of a session that `Market.from_rows` fills if they are absent."""

_MAKERS: dict[str, Callable[[Row, Note], dict[str, Any]]] = {
    "items": item_row,
    "users": user_row,
    "sessions": lambda row, note: session_row({**_LISTS, **row}, note),
    "relevance": judgement_row,
}


def _rows(name: str, rows: Iterable[Row], bad: BadRows) -> list[dict[str, Any]]:
    """The rows of one table as its rules make them; what does not fit goes to `bad`."""
    made = []
    for number, row in enumerate(rows):

        def note(error: BadRow, number: int = number) -> None:
            bad.add_error(name, number, error)

        for column in row:
            if column not in TABLES[name]:
                bad.add(name, number, f"unknown column {column!r}; allowed are {', '.join(TABLES[name])}")
        try:
            made.append(_MAKERS[name](row, note))
        except BadRow as error:
            note(error)
    return made


__all__ = ["MARKET_FOLDER", "Market"]
