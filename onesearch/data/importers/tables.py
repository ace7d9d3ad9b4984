"""Import your own tables: items and, optionally, users, sessions and relevance judgements.

The columns are those of `onesearch.data.schema.TABLES`. Each table may have a format of its own. `onesearch.data.rows` holds the rules of
single rows; this module adds what concerns several: ids that occur twice, and references between tables.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .. import fields, rows
from ..bad_rows import BadRows
from ..choices import SPLIT_METHODS
from ..fields import BadRow, Note, Row
from ..languages import detect_language, first_subtag
from ..market import Market
from ..splits import SplitConfig
from .importing import Make, assemble, build_table, convert
from .table_files import find_files, read_rows


def import_tables(
    folder: str | Path,
    *,
    format: str | None = None,
    bad_rows: str = "raise",
    split: str | None = None,
    language: str | None = None,
    name: str | None = None,
) -> Market:
    """Read ``items`` and, where they exist, ``users``, ``sessions`` and ``relevance`` from `folder`.

    Each row is validated, and so are references between tables: an item of a session or a judgement must be in items, and a
    user must be in users if there is a users table. Ids may be integers; they become text. Sessions are sorted by time
    (sessions at the same time stay in file order); ``info["sessions_moved"]`` counts those that were not in order.

    Required columns:

    * items: ``item_id``, ``title``. ``attributes`` maps attribute types (`onesearch.data.schema.ATTRIBUTE_TYPES`) to a text or a list
      of texts.
    * users: ``user_id``.
    * sessions: ``session_id``, ``user_id``, ``time``, ``query``, ``clicked``, ``purchased``. A session with an empty query
      counts in histories and is never a request.
    * relevance: ``query``, ``item_id``, ``grade``.

    Args:
        folder: holds one file per table and nothing else: ``.jsonl``, ``.jsonl.gz``, ``.parquet`` or, except for sessions, ``.csv`` in
            UTF-8 with a header. In CSV, ``categories`` are separated by ``|``, and each column ``attributes.<type>`` holds one value.
        format: ``jsonl``, ``parquet`` or ``csv``: only files of this format are read. Default: every format, with at most one
            file per table.
        bad_rows: ``raise`` an error that names bad rows, or ``drop`` them and count them in ``info["dropped"]``. An optional value that
            does not fit, an unknown column and a file that is no table are dropped alone.
        split: ``time``, ``leave_last_out``, ``random`` or ``none``; `onesearch.data.splits.with_split` sets its shares and its seed.
            Default: ``time`` if there are sessions, else ``none``.
        language: language tag such as ``en`` or ``zh-CN``, whose first part is stored in ``info``; BM25, the text encoder and the task
            templates follow it. Default: the language of the titles (`onesearch.data.languages.detect_language`).
        name: name of the market. Default: name of the folder.

    Raises:
        FileNotFoundError: there is no items file.
        ValueError: an option is unknown, a table has two files, a file has a column twice or lacks one, no item is left, or there are bad
            rows; the message counts them per reason and names the first lines.

    Example:
        >>> market = import_tables("my_shop", bad_rows="drop")  # doctest: +SKIP
        >>> market.save("runs/my_shop/market")  # doctest: +SKIP
    """
    folder = Path(folder)
    if split is not None and split not in SPLIT_METHODS:
        raise ValueError(f"split={split!r} is unknown; allowed are {', '.join(SPLIT_METHODS)}")
    asked = first_subtag(language)
    bad = BadRows(bad_rows)
    files = find_files(folder, format, bad)
    makers = _Rows().makers()
    order = [table for table in makers if table in files]
    tables = {table: _read(files[table], table, makers[table], bad) for table in order}
    dropped = bad.close()
    times = tables["sessions"].column("time").to_numpy() if "sessions" in tables else np.empty(0)
    method = split or ("time" if len(times) else "none")
    info = {
        "name": name or folder.resolve().name,
        "source": "own tables: " + ", ".join(path.name for path in files.values()),
        "language": asked or detect_language(tables["items"].column("title").to_pylist()).language,
        "split": SplitConfig(method).info(),
        "sessions_moved": int(np.sum(np.argsort(times, kind="stable") != np.arange(len(times)))),
        "dropped": dropped,
    }
    return assemble(tables, info)


def _read(path: Path, table: str, make: Make, bad: BadRows) -> pa.Table:
    """One market table from its file."""
    return build_table(table, convert(path, read_rows(path, table, bad), make, bad))


class _Rows:
    """Validates rows table by table, items and users first, and remembers the ids of accepted rows.

    The user of a session must be in the users table if that table has rows, as for `check_market`.
    """

    def __init__(self) -> None:
        self.item_ids: set[str] = set()
        self.user_ids: set[str] = set()
        self.session_ids: set[str] = set()

    def makers(self) -> dict[str, Make]:
        """Return the function that makes a row of each table."""
        return {"items": self.item, "users": self.user, "sessions": self.session, "relevance": self.judgement}

    def item(self, row: Row, note: Note) -> dict[str, Any]:
        """Make a row of the items table."""
        item = rows.item_row(row, note)
        self.item_ids.add(fields.unique(item["item_id"], self.item_ids, "item_id"))
        return item

    def user(self, row: Row, note: Note) -> dict[str, Any]:
        """Make a row of the users table."""
        user = rows.user_row(row, note)
        self.user_ids.add(fields.unique(user["user_id"], self.user_ids, "user_id"))
        return user

    def session(self, row: Row, note: Note) -> dict[str, Any]:
        """Make a row of the sessions table; its items must be in the items table. Impressions are optional."""
        session = rows.session_row(row, note)
        fields.unique(session["session_id"], self.session_ids, "session_id")
        if self.user_ids:
            fields.known([session["user_id"]], self.user_ids, "user_id", "users")
        for key in ("clicked", "purchased"):
            fields.known(session[key], self.item_ids, key, "items")
        for key in ("impressed", "carted"):
            try:
                fields.known(session[key], self.item_ids, key, "items")
            except BadRow as error:
                note(error)
                session[key] = []
        fields.within_impressed(session)
        self.session_ids.add(session["session_id"])
        return session

    def judgement(self, row: Row, note: Note) -> dict[str, Any]:
        """Make a row of the relevance table; its item must be in the items table."""
        judgement = rows.judgement_row(row, note)
        fields.known([judgement["item_id"]], self.item_ids, "item_id", "items")
        return judgement


__all__ = ["import_tables"]
