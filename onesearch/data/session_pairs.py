"""Which items each session showed, clicked or bought, which query it asked, and item categories, as row numbers.

Everything works on whole columns, without a Python loop over sessions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .columns import session_entries
from .market import Market
from .requests import SPLITS, split_sessions


def session_items(market: Market, split: str, columns: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Pair every session of one split with its items; items that are not in the catalogue are left out.

    Args:
        market: sessions and catalogue.
        split: one of `SPLITS`.
        columns: any of ``impressed``, ``clicked`` and ``purchased``; an item in several lists of a session counts once.

    Returns:
        Rows of the sessions table and rows of the items table, both int64 ``(pairs,)``, aligned and sorted.
    """
    wanted = split_sessions(market) == SPLITS.index(split)
    keys = [np.empty(0, dtype=np.int64)]
    for column in columns:
        sessions, items = session_entries(market, column)
        taken = wanted[sessions]
        key = sessions[taken]
        key *= len(market.items)
        key += items[taken]
        keys.append(key)
    pairs = np.unique(np.concatenate(keys))
    return np.divmod(pairs, max(len(market.items), 1))


def query_rows(market: Market, queries: Sequence[str]) -> np.ndarray:
    """Look up the query of every session.

    Args:
        market: sessions.
        queries: distinct texts, ``(queries,)``.

    Returns:
        Row in `queries` of each session's query, int64 ``(sessions,)``; -1 for a query that is not in it, such as a blank one.
    """
    column = market.sessions.data.column("query").combine_chunks()
    found = pc.index_in(column, value_set=pa.array(list(queries), type=column.type))
    return np.asarray(pc.fill_null(found, -1), dtype=np.int64)


def category_ids(column: pa.ChunkedArray | pa.Array, depth: int | None = None) -> tuple[np.ndarray, list[str]]:
    """Number the category paths of items.

    Args:
        column: category lists from coarse to fine, ``(items,)``.
        depth: number of coarse levels that make up a category; None takes the whole path.

    Returns:
        Category number of each item, int64 ``(items,)``, -1 without a category; and the category names, levels joined by " > ".
    """
    lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    cut = lists if depth is None else pc.list_slice(lists, 0, depth)
    paths = pc.binary_join(cut, " > ")
    encoded = pc.if_else(pc.equal(pc.fill_null(paths, ""), ""), None, paths).dictionary_encode()
    return np.asarray(pc.fill_null(encoded.indices, -1), dtype=np.int64), encoded.dictionary.to_pylist()


__all__ = ["category_ids", "query_rows", "session_items"]
