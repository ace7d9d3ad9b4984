"""Which items each session showed, clicked or bought, which query it asked, and item categories, as row numbers.

Everything works on whole columns, without a Python loop over sessions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .columns import session_entries
from .market import Market
from .requests import SPLITS, split_sessions

SESSIONS_AT_ONCE = 100_000
"""Number of sessions whose lists are flattened at a time where a part is enough; it bounds the memory."""


class SessionItems(NamedTuple):
    """Pairs of a session and an item, without duplicates, sorted.

    Attributes:
        sessions: rows of the sessions table, int64 ``(pairs,)``.
        items: rows of the items table, int64 ``(pairs,)``.
    """

    sessions: np.ndarray
    items: np.ndarray


def session_items(market: Market, split: str, columns: Sequence[str]) -> SessionItems:
    """Pair every session of one split with its items; items that are not in the catalogue are left out.

    Args:
        market: sessions and catalogue.
        split: one of `SPLITS`.
        columns: any of ``impressed``, ``clicked`` and ``purchased``; an item in several lists of a session counts once.
    """
    return _paired(market, split_sessions(market) == SPLITS.index(split), columns)


def session_items_by_part(market: Market, split: str, groups: Sequence[Sequence[str]]) -> Iterator[list[SessionItems]]:
    """`session_items` of several groups of columns, for `SESSIONS_AT_ONCE` sessions after the other.

    Args:
        market: sessions and catalogue.
        split: one of `SPLITS`.
        groups: columns of each group.

    Yields:
        The pairs of each group.
    """
    wanted = split_sessions(market) == SPLITS.index(split)
    for start in range(0, len(market.sessions), SESSIONS_AT_ONCE):
        part = range(start, min(start + SESSIONS_AT_ONCE, len(market.sessions)))
        yield [_paired(market, wanted, columns, part) for columns in groups]


def sessions_per_item(market: Market, split: str, columns: Sequence[str]) -> np.ndarray:
    """Number of sessions of a split that hold each item in one of the columns, int64 ``(items,)``; arguments as in `session_items`."""
    counts = np.zeros(len(market.items), dtype=np.int64)
    for (found,) in session_items_by_part(market, split, [columns]):
        counts += np.bincount(found.items, minlength=len(counts))
    return counts


def _paired(market: Market, wanted: np.ndarray, columns: Sequence[str], part: range | None = None) -> SessionItems:
    """Pairs of the wanted sessions, a mask (sessions,), in a part of the table."""
    keys = [np.empty(0, dtype=np.int64)]
    for column in columns:
        sessions, items = session_entries(market, column, part)
        taken = wanted[sessions]
        key = sessions[taken]
        key *= len(market.items)
        key += items[taken]
        keys.append(key)
    pairs = np.unique(np.concatenate(keys))
    return SessionItems(*np.divmod(pairs, max(len(market.items), 1)))


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


__all__ = ["SessionItems", "category_ids", "query_rows", "session_items", "session_items_by_part", "sessions_per_item"]
