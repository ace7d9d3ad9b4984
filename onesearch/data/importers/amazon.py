"""Import an Amazon review set (Beauty 5-core, 2014) as a market.

The reviews have no queries. Each purchase gets an artificial query, made from the category path of the bought item: the protocol
that HEM (Ai et al., SIGIR 2017) introduced for product search on these data. Scores with artificial queries are not comparable with
those of plain recommendation; for that, use the same query in every session (`queries="none"`).
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from .. import fields
from ..bad_rows import BadRows
from ..fields import BadRow, Note, Row
from ..market import Market
from .importing import TableBuilder, assemble, build_table, convert_jsonl, required_files

UNKNOWN_BRANDS = frozenset({"Unknown"})

NEXT_ITEM = "next purchase"
"""Query of every session under the next-item protocol."""

QUERIES = {
    "category": "artificial: the words of the purchased item's category path, root to leaf, lower-cased, each word once (HEM, SIGIR 2017)",
    "none": f"none: every session asks {NEXT_ITEM!r}, so that only the history tells (the next-item protocol of S3-Rec and TIGER)",
}
"""Description of the sessions' queries, by the importer's option."""


def import_amazon(
    folder: str | Path, *, queries: str = "category", bad_rows: str = "raise", name: str = "amazon-beauty"
) -> Market:
    """Read ``items.jsonl`` and ``sequences.jsonl``.

    * **The queries are artificial** (`category_query`), or all the same.
    * Each purchase becomes a session ``u<user>-<position>``. Its time is the position in the user's sequence, counted from 1.
      The data give the order within a user only, so times of different users are not comparable, and the split is
      leave-last-out.
    * The source has no impressions and no clicks; both columns are empty. The scene is ``unknown``: nobody searched.
    * An item keeps the first of its category paths (12 of 12,101 items have more).
    * The brands "Unknown" and "" become null.
    * A blank title is replaced by brand, leaf category and ASIN; ``info["titles_filled"]`` counts these titles.
    * Of the attribute types only ``brand`` is filled. A leaf category may name a product ("Nail Polish"), an ingredient
      ("Retinol") or a part of the body ("Eyes"), so it is not imported as an attribute; as the leaf of ``categories`` it is a
      keyword of the type entity nevertheless. The source has no prices and no tags.
    * The machine-made ``textual_id`` is not imported.

    Args:
        folder: holds both files, in the form in which S3-Rec, TIGER and later work use them.
        queries: ``category`` makes queries of category paths; ``none`` uses the same query everywhere, which is the next-item
            protocol of sequential recommendation; see `QUERIES`.
        bad_rows: ``raise`` an error that names bad rows, or ``drop`` them and count them in ``info["dropped"]``.
        name: name of the market.

    Returns:
        The market, with split ``leave_last_out``.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: bad rows, with counts per reason and the first lines, or unknown `queries`.
    """
    if queries not in QUERIES:
        raise ValueError(f"queries={queries!r} is unknown; allowed are {', '.join(QUERIES)}")
    items_path, sequences_path = required_files(folder, ("items.jsonl", "sequences.jsonl"))
    bad = BadRows(bad_rows)
    items, filled = _read_items(items_path, bad)
    item_ids, paths = (items.column(key).to_pylist() for key in ("item_id", "categories"))
    query_of = {item: NEXT_ITEM if queries == "none" else category_query(path) for item, path in zip(item_ids, paths)}
    users, sessions = TableBuilder("users"), TableBuilder("sessions")
    for user_id, bought in _read_sequences(sequences_path, query_of, bad):
        users.add({"user_id": user_id})
        sessions.extend(_sessions(user_id, bought, query_of))
    info = {
        "name": name,
        "source": "Amazon reviews 2014 (McAuley et al., SIGIR 2015), 5-core; item_id as in items.jsonl",
        "language": "en",
        "split": {"method": "leave_last_out"},
        "queries": QUERIES[queries],
        "time": "position in the user's sequence; not comparable between users",
        "titles_filled": filled,
        "dropped": bad.close(),
    }
    return assemble({"items": items, "users": users.table(), "sessions": sessions.table()}, info)


def category_query(path: Sequence[str]) -> str:
    """Make an artificial query of a category path: its words from root to leaf, in lower case, without punctuation, each once.

    Example:
        >>> category_query(["Beauty", "Hair Care", "Shampoo & Conditioner", "Hot-Air Brushes", "Hair Brushes"])
        'beauty hair care shampoo conditioner hot air brushes'
    """
    words = re.sub(r"[^\w']+|_", " ", " ".join(path).lower()).replace("'", "").split()
    return " ".join(dict.fromkeys(words))


def _read_items(path: Path, bad: BadRows) -> tuple[pa.Table, int]:
    """The items table, and the number of titles that were filled."""
    seen: set[str] = set()
    filled: list[str] = []

    def make(row: Row, note: Note) -> dict[str, Any]:
        item_id = fields.unique(fields.identifier(row, "item_id"), seen, "item_id")
        categories = _first_path(row)
        brand = fields.or_none(fields.optional_text, row, "brand", note, UNKNOWN_BRANDS)
        title = fields.text(row, "title")
        if not title.strip():
            title = " ".join(part for part in (brand, *categories[-1:], fields.filled_text(row, "asin")) if part)
            filled.append(item_id)
        seen.add(item_id)
        attributes = {"brand": [brand]} if brand else {}
        return {"item_id": item_id, "title": title, "brand": brand, "categories": categories, "attributes": attributes}

    return build_table("items", convert_jsonl(path, make, bad)), len(filled)


def _first_path(row: Row) -> list[str]:
    """The first category path of an item; empty without any."""
    paths = row.get("categories")
    if not isinstance(paths, list) or not all(map(_is_path, paths)):
        raise BadRow("categories must be a list of category paths, each a list of texts", repr(paths))
    return paths[0] if paths else []


def _is_path(path: object) -> bool:
    return isinstance(path, list) and all(isinstance(part, str) for part in path)


def _read_sequences(path: Path, items: Container[str], bad: BadRows) -> Iterator[tuple[str, list[str]]]:
    """Yield each user's id and the ids of the bought items, from old to new."""
    seen: set[str] = set()

    def make(row: Row, note: Note) -> dict[str, Any]:
        user_id = fields.unique(fields.identifier(row, "user_id"), seen, "user_id")
        bought = fields.identifiers(row, "items")
        if not bought:
            raise BadRow("items must not be empty")
        fields.known(bought, items, "items", "items.jsonl")
        seen.add(user_id)
        return {"user_id": user_id, "items": bought}

    for row in convert_jsonl(path, make, bad):
        yield row["user_id"], row["items"]


def _sessions(user_id: str, bought: Sequence[str], queries: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield one session per purchase of a user; `queries` holds the query of each item."""
    for position, item in enumerate(bought, start=1):
        yield {
            "session_id": f"u{user_id}-{position}",
            "user_id": user_id,
            "time": position,
            "query": queries[item],
            "scene": "unknown",
            "purchased": [item],
        }
