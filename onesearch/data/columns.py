"""Columns of lists as flat arrays: whole columns at once, no Python per row."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .market import Market


def flat_lists(column: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Row and value of every entry of a column of lists: (entries,) int64 and an Arrow array; null entries are left out."""
    lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    rows, values = pc.list_parent_indices(lists), pc.list_flatten(lists)
    if values.null_count:
        there = values.is_valid()
        rows, values = rows.filter(there), values.filter(there)
    return np.asarray(rows, dtype=np.int64), values


def session_entries(market: Market, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Session and item row of every entry of ``impressed``, ``clicked`` or ``purchased``, (entries,) each; ids that the catalogue lacks are
    left out."""
    sessions, values = flat_lists(market.sessions.data.column(column))
    known = market.items.data.column("item_id").combine_chunks()
    items = np.asarray(pc.fill_null(pc.index_in(values, value_set=known), -1), dtype=np.int64)
    return sessions[items >= 0], items[items >= 0]


__all__ = ["flat_lists", "session_entries"]
