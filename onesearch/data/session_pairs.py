"""Who was shown, clicked or bought after which query, as row numbers: whole columns at once, no Python per session."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .columns import session_entries
from .market import Market
from .requests import SPLITS, split_sessions


def session_items(market: Market, split: str, columns: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Items of the sessions of one split.

    Args:
        columns: of ``impressed``, ``clicked``, ``purchased``; an item in several of a session's lists counts once.

    Returns:
        Rows of the sessions table and of the items table, (pairs,) each, aligned and sorted. Items that the catalogue lacks are left out.
    """
    wanted = split_sessions(market) == SPLITS.index(split)
    keys = [np.empty(0, dtype=np.int64)]
    for column in columns:
        sessions, items = session_entries(market, column)
        taken = wanted[sessions]
        keys.append(sessions[taken] * len(market.items) + items[taken])
    pairs = np.unique(np.concatenate(keys))
    return np.divmod(pairs, max(len(market.items), 1))


def query_rows(market: Market, queries: Sequence[str]) -> np.ndarray:
    """Row in `queries` of each session's query, (sessions,); -1 where it is not among them (blank, for instance)."""
    column = market.sessions.data.column("query").combine_chunks()
    found = pc.index_in(column, value_set=pa.array(list(queries), type=column.type))
    return np.asarray(pc.fill_null(found, -1), dtype=np.int64)


def category_ids(column: pa.ChunkedArray | pa.Array, depth: int | None = None) -> tuple[np.ndarray, list[str]]:
    """Categories as numbers.

    Args:
        column: lists from coarse to fine.
        depth: so many of the coarsest levels; None takes the whole path.

    Returns:
        (items,) ids, -1 without a category; and the names, levels joined by " > ".
    """
    lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    cut = lists if depth is None else pc.list_slice(lists, 0, depth)
    paths = pc.binary_join(cut, " > ")
    encoded = pc.if_else(pc.equal(pc.fill_null(paths, ""), ""), None, paths).dictionary_encode()
    return np.asarray(pc.fill_null(encoded.indices, -1), dtype=np.int64), encoded.dictionary.to_pylist()


__all__ = ["category_ids", "query_rows", "session_items"]
