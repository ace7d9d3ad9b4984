"""Import KuaiSearch (arXiv 2602.11518), e-commerce search logs of Kuaishou, as a market.

What is unusual: what a user did before the log begins becomes a session without a query, and judged items that are not in the
catalogue are added to it. Both can be switched off.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..market import Market
from .importing import (
    BadRow,
    BadRows,
    TableBuilder,
    assemble,
    convert,
    filled_text,
    identifier,
    identifiers,
    integer,
    known,
    optional_number,
    optional_text,
    read_jsonl,
    unique,
    within_impressed,
)

TABLES_READ = ("items", "users", "recall", "rank", "relevance")
OPTIONAL = ("rank", "relevance")

UNKNOWN = frozenset({"UNKNOWN", "\\N"})
"""Placeholders that become null."""

NO_BRAND = frozenset({"无品牌", "其他/other", "其他/QITA", "其他"})
"""Brand names that say "none" or "other": they stay in the ``brand`` column and are no value of the ``brand`` attribute."""

PRICE_UNIT = "as published; the source names no unit, values such as 3990 and 4990 suggest fen (1/100 yuan)"


def import_kuaisearch(
    source: str | Path,
    *,
    bad_rows: str = "raise",
    lite: bool = True,
    recent_history: bool = True,
    judged_items: bool = True,
    name: str = "kuaisearch",
) -> Market:
    """Read items, users, recall (requests), rank (prices and recent history) and relevance (judgements).

    * **Sessions** are the rows of recall; ``time_index`` is the time. A ``session_id`` that recurs gets ``-2``, ``-3``, … in
      file order.
    * **Names** "UNKNOWN" and "\\N" become null; unknown category levels are left out. "无品牌" (no brand) and "其他/other" stay
      in the ``brand`` column as published, but are no ``brand`` attribute.
    * **Prices** are those of rank's ``target_item_price``, an item's latest, in the published unit (see `PRICE_UNIT`). Unseen
      items have none.
    * **Recent history**: ``recently_clicked_item_ids`` and ``recently_purchased_item_ids`` (at most 20 each) of a user's first
      request become one session ``before-<user_id>`` with an empty query, one time unit before it: behaviour without a search,
      never a request. Later rows' lists are not read: earlier sessions say the same. Repeats are removed; so are items clicked
      or purchased in the first request itself, in case the lists were taken after it (counted in ``info["recent_history"]``).
      The source does not say whether the lists run from old to new.
    * **Relevance** names items by title, brand and seller. A row is matched to the first catalogue item with the same three,
      else its item joins the catalogue as ``rel-<hash>``; its ``attr_value`` is untyped and not imported.
    * The published ``split`` column is not used (the split ids of the paper are not released): the split is by time.

    Args:
        source: folder with ``<table>.jsonl`` (or ``.jsonl.gz``, ``<table>_lite.jsonl``, or a folder ``<table>/`` of such
            files), or the id of a dataset on the Hub, which is downloaded.
        bad_rows: ``raise``, or ``drop`` to leave bad rows out and count them in ``info["dropped"]``.
        lite: prefer the ``_lite`` files where there are any; False: never read them.
        recent_history: import the users' recent history.
        judged_items: add judged items that the catalogue lacks. False leaves their judgements out instead (counted in
            ``info["relevance"]``): results over the published catalogue are comparable only so.
        name: name of the market.

    Raises:
        FileNotFoundError: a table is missing; rank and relevance may be absent.
        ValueError: bad rows, with counts per reason and the first lines. The published 200-row demo is one such case: its
            tables do not join.
    """
    files = _find_files(_folder(source, lite), lite)
    bad = BadRows(bad_rows)
    catalogue = _Catalogue(judgements=[row for path in files["relevance"] for row in _read(path, _judgement, bad)])
    for path in files["items"]:
        catalogue.read(path, bad)
    relevance = catalogue.judge(judged_items)
    users, user_ids = _read_users(files["users"], bad)
    log = _Log(catalogue.rows, user_ids)
    for path in files["recall"]:
        log.read(path, bad)
    rank = _Rank(catalogue.rows)
    for path in files["rank"]:
        rank.read(path, bad)
    added = log.add_recent(rank.recent, bad) if recent_history else {}
    info = {
        "name": name,
        "source": "KuaiSearch (arXiv 2602.11518), Hub dataset benchen4395/KuaiSearch",
        "language": "zh",
        "split": {"method": "time", "validation": 0.05, "test": 0.1},
        "price_unit": PRICE_UNIT,
        "published_split": dict(log.published_split),
        "recent_history": added,
        "relevance": catalogue.counts,
        "dropped": bad.close(),
    }
    tables = {"items": catalogue.table(rank.prices), "users": users, "sessions": log.sessions.table(), "relevance": relevance}
    return assemble(tables, info)


def _folder(source: str | Path, lite: bool) -> Path:
    folder = Path(source)
    if folder.is_dir():
        return folder
    if not isinstance(source, str) or source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise FileNotFoundError(f"{source} is neither a folder nor a dataset id of the Hub such as benchen4395/KuaiSearch")
    import huggingface_hub

    patterns = {"allow_patterns": ["*_lite*", "*relevance*"]} if lite else {"ignore_patterns": ["*_lite*"]}
    return Path(huggingface_hub.snapshot_download(source, repo_type="dataset", **patterns))


def _find_files(folder: Path, lite: bool) -> dict[str, list[Path]]:
    """Files of each table; empty for an optional table that is absent."""
    found: dict[str, list[Path]] = {}
    for table in TABLES_READ:
        stems = [f"{table}_lite", table] if lite else [table]
        found[table] = next((files for files in (_files_of(folder, stem) for stem in stems) if files), [])
        if not found[table] and table not in OPTIONAL:
            raise FileNotFoundError(
                f"{folder} holds no {table}: looked for {', '.join(f'{stem}.jsonl(.gz), {stem}/' for stem in stems)}"
            )
    return found


def _files_of(folder: Path, stem: str) -> list[Path]:
    single = [path for path in (folder / f"{stem}.jsonl", folder / f"{stem}.jsonl.gz") if path.is_file()]
    return single[:1] or sorted(
        path for path in (folder / stem).glob("*.jsonl*") if path.name.endswith((".jsonl", ".jsonl.gz"))
    )


def _read(path: Path, make: Any, bad: BadRows) -> Iterator[dict[str, Any]]:
    return convert(path, read_jsonl(path, bad), make, bad)


def _judgement(row: Mapping[str, Any]) -> dict[str, Any]:
    """One relevance row; the item is its title, brand and seller."""
    brand, seller = optional_text(row, "brand", UNKNOWN), optional_text(row, "seller_name", UNKNOWN)
    grade = integer(row, "score", 0, 3)
    return {"query": filled_text(row, "query"), "item": (filled_text(row, "item_title"), brand, seller), "grade": grade}


def _read_users(paths: Sequence[Path], bad: BadRows) -> tuple[pa.Table, set[str]]:
    seen: set[str] = set()
    builder = TableBuilder("users")

    def make(row: Mapping[str, Any]) -> dict[str, Any]:
        user_id = unique(identifier(row, "user_id"), seen, "user_id")
        columns = {"gender": "gender", "age_bucket": "age_bucket", "region": "fre_province"}
        user = {"user_id": user_id, **{column: optional_text(row, key, UNKNOWN) for column, key in columns.items()}}
        seen.add(user_id)
        return user

    for path in paths:
        builder.extend(_read(path, make, bad))
    return builder.table(), seen


@dataclass
class _Catalogue:
    """Items, their row numbers, and the judged items among them."""

    judgements: list[dict[str, Any]]
    rows: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self):
        self._items = TableBuilder("items")
        self._judged: dict[tuple, str | None] = {judgement["item"]: None for judgement in self.judgements}

    def read(self, path: Path, bad: BadRows) -> None:
        for item in _read(path, self._item, bad):
            self._add(item)
            key = (item["title"], item["brand"], item["seller"])
            if key in self._judged and self._judged[key] is None:
                self._judged[key] = item["item_id"]

    def judge(self, add_items: bool) -> pa.Table:
        """The relevance table; judged items that the catalogue lacks are added, or their judgements are left out."""
        missing = [key for key, item_id in self._judged.items() if item_id is None]
        for key in missing if add_items else ():
            self._judged[key] = _judged_id(key)
            self._add(_item_row(self._judged[key], *key, categories=[]))
        rows = [{"query": row["query"], "item_id": self._judged[row["item"]], "grade": row["grade"]} for row in self.judgements]
        rows = [row for row in rows if row["item_id"] is not None]
        self.counts = {
            "judged_items_in_catalogue": len(self._judged) - len(missing),
            "judged_items_added": len(missing) if add_items else 0,
            "judgements_left_out": len(self.judgements) - len(rows),
        }
        return TableBuilder("relevance").extend(rows).table()

    def table(self, prices: Mapping[str, tuple[int, float]]) -> pa.Table:
        """The items table with the latest known prices."""
        items = self._items.table()
        values = np.full(len(items), np.nan, dtype=np.float32)
        for item_id, (_, price) in prices.items():
            values[self.rows[item_id]] = price
        column = items.schema.get_field_index("price")
        return items.set_column(column, items.schema.field(column), pa.array(values, from_pandas=True))

    def _add(self, item: dict[str, Any]) -> None:
        self.rows[item["item_id"]] = len(self._items)
        self._items.add(item)

    def _item(self, row: Mapping[str, Any]) -> dict[str, Any]:
        item_id = unique(identifier(row, "item_id"), self.rows, "item_id")
        brand, seller = optional_text(row, "brand_name", UNKNOWN), optional_text(row, "seller_name", UNKNOWN)
        levels = [optional_text(row, f"category_level{level}_name", UNKNOWN) for level in (1, 2, 3)]
        return _item_row(
            item_id, filled_text(row, "item_title"), brand, seller, categories=[level for level in levels if level]
        )


def _item_row(item_id: str, title: str, brand: str | None, seller: str | None, categories: list[str]) -> dict[str, Any]:
    attributes = {"brand": [brand]} if brand and brand not in NO_BRAND else {}
    return {
        "item_id": item_id,
        "title": title,
        "brand": brand,
        "seller": seller,
        "categories": categories,
        "attributes": attributes,
    }


def _judged_id(item: tuple[str, str | None, str | None]) -> str:
    joined = "\t".join(part or "" for part in item)
    return "rel-" + hashlib.blake2b(joined.encode("utf-8"), digest_size=8).hexdigest()


class _Log:
    """The requests of recall, and what is needed to put each user's recent history before them."""

    def __init__(self, items: Mapping[str, int], users: set[str]):
        self.sessions = TableBuilder("sessions")
        self.published_split: Counter[str] = Counter()
        self._items = items
        self._users = users
        self._names: Counter[str] = Counter()
        self._first: dict[str, dict[str, Any]] = {}

    def read(self, path: Path, bad: BadRows) -> None:
        for session in _read(path, self._session, bad):
            self.sessions.add(session)
            first = self._first.get(session["user_id"])
            if first is None or session["time"] < first["time"]:
                self._first[session["user_id"]] = session

    def _session(self, row: Mapping[str, Any]) -> dict[str, Any]:
        published_id, user_id = identifier(row, "session_id"), identifier(row, "user_id")
        known([user_id], self._users, "user_id", "users")
        lists = {key: identifiers(row, f"{key}_item_ids") for key in ("impressed", "clicked", "purchased")}
        for key, values in lists.items():
            known(values, self._items, f"{key}_item_ids", "items")
        within_impressed(lists)
        time, query = integer(row, "time_index"), filled_text(row, "query")
        self._names[published_id] += 1
        self.published_split[str(row.get("split"))] += 1
        occurrence = self._names[published_id]
        session_id = published_id if occurrence == 1 else f"{published_id}-{occurrence}"
        return {"session_id": session_id, "user_id": user_id, "time": time, "query": query, **lists}

    def add_recent(self, recent: Mapping[str, _Recent], bad: BadRows) -> dict[str, int]:
        """Add a session without query before each user's first request; returns counts."""
        counts = Counter(users=0, items=0, also_in_first_request=0, without_earlier_lists=0)
        for user_id, first in self._first.items():
            lists = recent.get(user_id)
            if lists is None or lists.time > first["time"]:
                counts["without_earlier_lists"] += 1
                continue
            if not lists.check(self._items, bad):
                continue
            present = {*first["clicked"], *first["purchased"]}
            both = {key: list(dict.fromkeys(getattr(lists, key))) for key in ("clicked", "purchased")}
            kept = {key: [item for item in values if item not in present] for key, values in both.items()}
            counts["also_in_first_request"] += sum(map(len, both.values())) - sum(map(len, kept.values()))
            if any(kept.values()):
                session = {"session_id": f"before-{user_id}", "user_id": user_id, "time": first["time"] - 1, "query": ""}
                self.sessions.add({**session, **kept})
                counts["users"] += 1
                counts["items"] += sum(map(len, kept.values()))
        return dict(counts)


@dataclass(frozen=True)
class _Recent:
    """A user's recent history as one line of rank gives it."""

    time: int
    clicked: list[str]
    purchased: list[str]
    path: Path
    line: int

    def check(self, items: Mapping[str, int], bad: BadRows) -> bool:
        """Whether all items are known; if not, the line goes to `bad`."""
        try:
            known(self.clicked, items, "recently_clicked_item_ids", "items")
            known(self.purchased, items, "recently_purchased_item_ids", "items")
        except BadRow as error:
            bad.add(self.path, self.line, error.reason, error.detail)
            return False
        return True


class _Rank:
    """Prices and recent histories from rank; one pass, a row at a time."""

    def __init__(self, items: Mapping[str, int]):
        self.prices: dict[str, tuple[int, float]] = {}
        self.recent: dict[str, _Recent] = {}
        self._items = items

    def read(self, path: Path, bad: BadRows) -> None:
        for line, row in read_jsonl(path, bad):
            try:
                self._take(path, line, row)
            except BadRow as error:
                bad.add(path, line, error.reason, error.detail)

    def _take(self, path: Path, line: int, row: Mapping[str, Any]) -> None:
        user_id, time = identifier(row, "user_id"), integer(row, "time_index")
        if user_id not in self.recent or time < self.recent[user_id].time:
            clicked, purchased = (identifiers(row, f"recently_{kind}_item_ids") for kind in ("clicked", "purchased"))
            self.recent[user_id] = _Recent(time, clicked, purchased, path, line)
        item_id, price = identifier(row, "target_item_id"), optional_number(row, "target_item_price")
        known([item_id], self._items, "target_item_id", "items")
        if price is not None and (item_id not in self.prices or time >= self.prices[item_id][0]):
            self.prices[item_id] = (time, price)
