"""Import an Amazon review set (Beauty 5-core, 2014) as a market.

The reviews know no queries. Each purchase is given an artificial one, made from the purchased item's category path: the
protocol that HEM (Ai et al., SIGIR 2017) introduced for product search on these data. Scores with it are not comparable with
plain recommendation, for which every session can ask the same (`queries="none"`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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
    known,
    optional_text,
    read_jsonl,
    required_files,
    text,
    unique,
)

UNKNOWN_BRANDS = frozenset({"Unknown"})

NEXT_ITEM = "next purchase"
"""The query of every session where nothing is said of what is wanted."""

QUERIES = {
    "category": "artificial: the words of the purchased item's category path, root to leaf, lower-cased, each word once (HEM, SIGIR 2017)",
    "none": f"none: every session asks {NEXT_ITEM!r}, so that only the history tells (the next-item protocol of S3-Rec and TIGER)",
}
"""What sessions ask, by the importer's option."""


def import_amazon(
    folder: str | Path, *, queries: str = "category", bad_rows: str = "raise", name: str = "amazon-beauty"
) -> Market:
    """Read ``items.jsonl`` and ``sequences.jsonl``.

    **The queries are artificial** (`category_query`), or all the same. Each purchase becomes a session ``u<user>-<position>``,
    whose time is the position in the user's sequence, counted from 1: the data give the order within a user and nothing else,
    so times of different users mean nothing and the split is leave-last-out. Nothing is known of impressions and clicks: both
    are empty.

    An item keeps the first of its category paths (12 of 12,101 have more). Brand "Unknown" or "" becomes null. A blank title
    is replaced by brand, leaf category and ASIN; ``info["titles_filled"]`` counts these. Of the attribute types only ``brand``
    is filled: a leaf category may name a product ("Nail Polish") as well as an ingredient ("Retinol") or a part of the body
    ("Eyes"). The machine-made ``textual_id`` is left out.

    Args:
        folder: holds both files, in the form in which S3-Rec, TIGER and later work use them.
        queries: ``category``, or ``none`` for the next-item protocol of sequential recommendation; see `QUERIES`.
        bad_rows: ``raise``, or ``drop`` to leave bad rows out and count them in ``info["dropped"]``.
        name: name of the market.

    Returns:
        Market with split ``leave_last_out``.

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
    """Artificial query for a category path: its words from root to leaf, lower-cased, without punctuation, each word once.

    Example:
        >>> category_query(["Beauty", "Hair Care", "Shampoo & Conditioner", "Hot-Air Brushes", "Hair Brushes"])
        'beauty hair care shampoo conditioner hot air brushes'
    """
    words = re.sub(r"[^\w']+|_", " ", " ".join(path).lower()).replace("'", "").split()
    return " ".join(dict.fromkeys(words))


def _read_items(path: Path, bad: BadRows) -> tuple[pa.Table, int]:
    seen: set[str] = set()
    filled: list[str] = []

    def make(row: Mapping[str, Any]) -> dict[str, Any]:
        item_id = unique(identifier(row, "item_id"), seen, "item_id")
        categories = _first_path(row)
        brand = optional_text(row, "brand", UNKNOWN_BRANDS)
        title = text(row, "title")
        if not title.strip():
            title = " ".join(part for part in (brand, *categories[-1:], filled_text(row, "asin")) if part)
            filled.append(item_id)
        seen.add(item_id)
        attributes = {"brand": [brand]} if brand else {}
        return {"item_id": item_id, "title": title, "brand": brand, "categories": categories, "attributes": attributes}

    return TableBuilder("items").extend(convert(path, read_jsonl(path, bad), make, bad)).table(), len(filled)


def _first_path(row: Mapping[str, Any]) -> list[str]:
    paths = row.get("categories")
    if not isinstance(paths, list) or not all(
        isinstance(path, list) and all(isinstance(part, str) for part in path) for path in paths
    ):
        raise BadRow("categories must be a list of category paths, each a list of texts", repr(paths))
    return paths[0] if paths else []


def _read_sequences(path: Path, items: Mapping[str, str], bad: BadRows) -> Iterator[tuple[str, list[str]]]:
    seen: set[str] = set()

    def make(row: Mapping[str, Any]) -> dict[str, Any]:
        user_id = unique(identifier(row, "user_id"), seen, "user_id")
        bought = identifiers(row, "items")
        if not bought:
            raise BadRow("items must not be empty")
        known(bought, items, "items", "items.jsonl")
        seen.add(user_id)
        return {"user_id": user_id, "items": bought}

    for row in convert(path, read_jsonl(path, bad), make, bad):
        yield row["user_id"], row["items"]


def _sessions(user_id: str, bought: Sequence[str], queries: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for position, item in enumerate(bought, start=1):
        yield {
            "session_id": f"u{user_id}-{position}",
            "user_id": user_id,
            "time": position,
            "query": queries[item],
            "purchased": [item],
        }
