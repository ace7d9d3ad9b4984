"""Import KuaiSearch (arXiv 2602.11518), e-commerce search logs of Kuaishou, as a market: files, users, items and judgements.

Two things are unusual, and both can be switched off: a user's clicks and purchases before the log begins become a session without a
query, and judged items that the catalogue lacks are added to it. `kuaisearch_logs.py` reads the sessions.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from .. import fields
from ..arrow_tables import as_dataset
from ..bad_rows import BadRows
from ..fields import Note, Row
from ..market import Market
from .importing import TableBuilder, assemble, build_table, convert_jsonl
from .kuaisearch_logs import UNKNOWN, Price, RankRows, SessionRows
from .kuaisearch_statistics import held_out_from, with_statistics
from .kuaisearch_values import typed_values

logger = logging.getLogger(__name__)

TABLES_READ = ("items", "users", "recall", "rank", "relevance")
OPTIONAL = {"rank": "prices, statistics, entrances and recent history", "relevance": "judgements"}
"""Table that may be absent → what the market then lacks."""

NO_BRAND = frozenset({"无品牌", "其他/other", "其他/QITA", "其他"})
"""Brand names that mean "no brand" or "other". They stay in the ``brand`` column, and the ``brand`` attribute has no value."""

LEFT_OUT: dict[str, dict[str, str]] = {
    "items": dict.fromkeys(
        ("brand_id", "seller_id", "category_level1_id", "category_level2_id", "category_level3_id"),
        "a number for the name beside it",
    ),
    "users": {"fre_country": "the market has one place, the province", "fre_city": "the market has one place, the province"},
    "recall": {},
    "rank": {
        "user_fan_number": "the market has no numbers of users",
        "user_follow_number": "the market has no numbers of users",
        "user_statistical_features": "the market has no numbers of users; their counts follow from the sessions",
        "is_clicked": "recall's clicked_item_ids say the same",
        "is_purchased": "recall's purchased_item_ids say the same",
        "split": "recall's split says the same",
    },
    "relevance": {},
}
"""Table → columns of the published files that are not imported, and why. All others are."""

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
    """Read the tables items, users, recall (requests), rank (prices, statistics, entrances and recent history) and relevance
    (judgements).

    * **Sessions** are the rows of recall; ``time_index`` is the time. A ``session_id`` that occurs again gets ``-2``, ``-3`` and
      so on, in file order.
    * **Names**: "UNKNOWN" and "\\N" become null; unknown category levels are left out. "无品牌" (no brand) and "其他/other" stay
      in the ``brand`` column and are no ``brand`` attribute.
    * **Prices** are rank's ``target_item_price``, the latest of each item, in the published unit (see `PRICE_UNIT`). Items that
      rank does not mention have no price.
    * **Statistics** are rank's ``target_item_statistical_features``: impressions, clicks and orders of the 30 days before, as
      ``shown_count``, ``click_count`` and ``purchase_count``. The earliest of each item are taken, and none from the time of the
      validation and test sessions on, because they count what those requests ask for (counted in ``info["statistics"]``).
      `with_split` leaves them empty if it holds earlier sessions out. The source counts no additions to a cart.
    * **Scene and entrance**: requests are ``search``, recent history is ``unknown``; ``search_entrance`` of rank is the entrance
      of the request with the same user, session, time and query.
    * **Recent history**: ``recently_clicked_item_ids`` and ``recently_purchased_item_ids`` (at most 20 each) of a user's first
      request become a session ``before-<user_id>`` with an empty query, one time unit before that request. It counts in
      histories and is never a request. The lists of later rows are not read, because earlier sessions hold the same items.
      Repeated items are removed. Items clicked or purchased in the first request itself are removed too, because the lists may
      have been taken after it (counted in ``info["recent_history"]``). The source does not document the order of the lists.
    * **Relevance** identifies items by title, brand and seller. A judgement refers to the first item of the catalogue with the
      same three; without such an item, the judged item joins the catalogue as ``rel-<hash>``. The values in ``attr_value`` have
      no attribute type: those whose form tells one (`kuaisearch_values.py`) join the item's attributes, all others its tags.
    * Columns that are not imported are in `LEFT_OUT`, with the reason, and in ``info["left_out"]``.
    * The published ``split`` column is not used, because the split ids of the paper are not released: the split is by time.

    Args:
        source: folder with ``<table>.jsonl`` (or ``.jsonl.gz``, ``<table>_lite.jsonl``, or a folder ``<table>/`` of such
            files), or the id of a dataset on the Hub, which is downloaded.
        bad_rows: ``raise`` an error that names bad rows, or ``drop`` them and count them in ``info["dropped"]``.
        lite: read a ``_lite`` file where one exists; with False, ``_lite`` files are ignored.
        recent_history: import the users' recent history.
        judged_items: add judged items that the catalogue lacks. With False their judgements are left out (counted in
            ``info["relevance"]``), which results comparable with others on the published catalogue need.
        name: name of the market.

    Raises:
        FileNotFoundError: a table is missing; rank and relevance may be absent.
        ValueError: bad rows, with counts per reason and the first lines. The published demo of 200 rows has bad rows, because
            its tables do not refer to each other's ids.
    """
    files = _find_files(_folder(source, lite), lite)
    bad = BadRows(bad_rows)
    catalogue = _Catalogue([row for path in files["relevance"] for row in convert_jsonl(path, _judgement, bad)])
    for path in files["items"]:
        catalogue.read(path, bad)
    relevance = catalogue.judge(judged_items)
    users, user_ids = _read_users(files["users"], bad)
    rank = RankRows(catalogue.rows)
    for path in files["rank"]:
        rank.read(path, bad)
    sessions = SessionRows(catalogue.rows, user_ids, rank.entrances)
    for path in files["recall"]:
        sessions.read(path, bad)
    added = sessions.add_recent(rank.recent, bad) if recent_history else {}
    info = {
        "name": name,
        "source": "KuaiSearch (arXiv 2602.11518), Hub dataset benchen4395/KuaiSearch",
        "language": "zh",
        "split": {"method": "time", "validation": 0.05, "test": 0.1},
        "price_unit": PRICE_UNIT,
        "published_split": dict(sessions.published_split),
        "recent_history": added,
        "relevance": catalogue.counts,
        "left_out": {table: list(columns) for table, columns in LEFT_OUT.items() if columns},
        "dropped": bad.close(),
    }
    tables = {"items": catalogue.table(rank.prices), "users": users, "sessions": sessions.table(), "relevance": relevance}
    market = assemble(tables, info)
    known = rank.statistics_before(held_out_from(market))
    market.info["statistics"] = {"items": len(known), "too_late": len(rank.statistics) - len(known)}
    market.items = as_dataset(with_statistics(market.items.data.table, catalogue.rows, known))
    return market


def _folder(source: str | Path, lite: bool) -> Path:
    """The local folder of a source; a dataset id is downloaded."""
    folder = Path(source)
    if folder.is_dir():
        return folder
    if not isinstance(source, str) or source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise FileNotFoundError(f"{source} is neither a folder nor a dataset id of the Hub such as benchen4395/KuaiSearch")
    import huggingface_hub

    if lite:
        patterns = ["*_lite*", "*relevance*"]
        return Path(huggingface_hub.snapshot_download(source, repo_type="dataset", allow_patterns=patterns))
    return Path(huggingface_hub.snapshot_download(source, repo_type="dataset", ignore_patterns=["*_lite*"]))


def _find_files(folder: Path, lite: bool) -> dict[str, list[Path]]:
    """Files of each table; an optional table that is absent has none."""
    found: dict[str, list[Path]] = {}
    for table in TABLES_READ:
        stems = [f"{table}_lite", table] if lite else [table]
        found[table] = next((files for files in (_files_of(folder, stem) for stem in stems) if files), [])
        if found[table]:
            continue
        missing = f"{folder} holds no {table}: looked for {', '.join(f'{stem}.jsonl(.gz), {stem}/' for stem in stems)}"
        if table not in OPTIONAL:
            raise FileNotFoundError(missing)
        logger.warning("%s; the market has no %s", missing, OPTIONAL[table])
    return found


def _files_of(folder: Path, stem: str) -> list[Path]:
    """The single file of a table, or all files of its folder."""
    single = [path for path in (folder / f"{stem}.jsonl", folder / f"{stem}.jsonl.gz") if path.is_file()]
    several = [path for path in (folder / stem).glob("*.jsonl*") if path.name.endswith((".jsonl", ".jsonl.gz"))]
    return single[:1] or sorted(several)


def _read_users(paths: Sequence[Path], bad: BadRows) -> tuple[pa.Table, set[str]]:
    """The users table and the ids in it."""
    user_ids: set[str] = set()
    builder = TableBuilder("users")

    def make(row: Row, note: Note) -> dict[str, Any]:
        user_id = fields.unique(fields.identifier(row, "user_id"), user_ids, "user_id")
        user = {
            "user_id": user_id,
            "gender": fields.or_none(fields.optional_text, row, "gender", note, UNKNOWN),
            "age_bucket": fields.or_none(fields.optional_text, row, "age_bucket", note, UNKNOWN),
            "region": fields.or_none(fields.optional_text, row, "fre_province", note, UNKNOWN),
        }
        user_ids.add(user_id)
        return user

    for path in paths:
        builder.extend(convert_jsonl(path, make, bad))
    return builder.table(), user_ids


class _ItemNames(NamedTuple):
    """The columns by which a judgement identifies its item."""

    title: str
    brand: str | None
    seller: str | None

    def made_up_id(self) -> str:
        """Id for an item that the catalogue lacks."""
        joined = "\t".join(part or "" for part in self)
        return "rel-" + hashlib.blake2b(joined.encode("utf-8"), digest_size=8).hexdigest()


def _judgement(row: Row, note: Note) -> dict[str, Any]:
    """One judgement: query, names of the item, and grade. The names identify the item, so that none is optional."""
    brand, seller = fields.optional_text(row, "brand", UNKNOWN), fields.optional_text(row, "seller_name", UNKNOWN)
    grade = fields.integer(row, "score", 0, 3)
    query, title = fields.filled_text(row, "query"), fields.filled_text(row, "item_title")
    values = fields.or_none(fields.optional_text, row, "attr_value", note, UNKNOWN) or ""
    return {"query": query, "item": _ItemNames(title, brand, seller), "grade": grade, "values": values}


@dataclass
class _Catalogue:
    """The items table while it is built, and the judged items among its rows.

    Args:
        judgements: all judgements, as `_judgement` gives them.
        rows: row number of each item id.
        counts: counts of judged items and judgements, for ``market.info``.
    """

    judgements: list[dict[str, Any]]
    rows: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._items = TableBuilder("items")
        self._judged: dict[_ItemNames, str | None] = {judgement["item"]: None for judgement in self.judgements}
        self._values: dict[_ItemNames, list[str]] = {}
        for judgement in self.judgements:
            self._values.setdefault(judgement["item"], []).append(judgement["values"])

    def read(self, path: Path, bad: BadRows) -> None:
        """Add the items of one file."""
        for item in convert_jsonl(path, self._item, bad):
            self._add(item)
            names = _ItemNames(item["title"], item["brand"], item["seller"])
            if names in self._judged and self._judged[names] is None:
                self._judged[names] = item["item_id"]

    def judge(self, add_items: bool) -> pa.Table:
        """Build the relevance table.

        Args:
            add_items: whether judged items that the catalogue lacks are added to it; otherwise their judgements are left out.
        """
        missing = [names for names, item_id in self._judged.items() if item_id is None]
        if add_items:
            for names in missing:
                item_id = names.made_up_id()
                self._judged[names] = item_id
                self._add(self._row(item_id, names, categories=[]))
        rows = [{"query": row["query"], "item_id": self._judged[row["item"]], "grade": row["grade"]} for row in self.judgements]
        rows = [row for row in rows if row["item_id"] is not None]
        self.counts = {
            "judged_items_in_catalogue": len(self._judged) - len(missing),
            "judged_items_added": len(missing) if add_items else 0,
            "judgements_left_out": len(self.judgements) - len(rows),
        }
        return build_table("relevance", rows)

    def table(self, prices: Mapping[str, Price]) -> pa.Table:
        """Build the items table with the latest known prices."""
        items = self._items.table()
        values = np.full(len(items), np.nan, dtype=np.float32)
        for item_id, price in prices.items():
            values[self.rows[item_id]] = price.value
        column = items.schema.get_field_index("price")
        return items.set_column(column, items.schema.field(column), pa.array(values, from_pandas=True))

    def _add(self, item: dict[str, Any]) -> None:
        self.rows[item["item_id"]] = len(self._items)
        self._items.add(item)

    def _item(self, row: Row, note: Note) -> dict[str, Any]:
        """A row of the items table from a row of items."""
        item_id = fields.unique(fields.identifier(row, "item_id"), self.rows, "item_id")
        keys = ("brand_name", "seller_name", *(f"category_level{level}_name" for level in (1, 2, 3)))
        brand, seller, *levels = (fields.or_none(fields.optional_text, row, key, note, UNKNOWN) for key in keys)
        names = _ItemNames(fields.filled_text(row, "item_title"), brand, seller)
        return self._row(item_id, names, categories=[level for level in levels if level])

    def _row(self, item_id: str, names: _ItemNames, categories: list[str]) -> dict[str, Any]:
        """One row of the items table, with the values of its judgements if it is the first item of these names."""
        values = self._values.pop(names, [])
        attributes, tags = typed_values(",".join(values), names.brand)
        if names.brand and names.brand not in NO_BRAND:
            attributes["brand"] = [names.brand]
        return {"item_id": item_id, **names._asdict(), "categories": categories, "attributes": attributes, "tags": tags}
