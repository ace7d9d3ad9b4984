"""List columns as flat arrays. Everything works on whole columns, without a Python loop over rows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .market import Market


def flat_lists(column: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, pa.Array]:
    """Flatten a column of lists; null entries are left out.

    Returns:
        Row of every entry, int64 ``(entries,)``, and its value, an Arrow array of the same length.
    """
    lists = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    rows, values = pc.list_parent_indices(lists), pc.list_flatten(lists)
    if values.null_count:
        valid = values.is_valid()
        rows, values = rows.filter(valid), values.filter(valid)
    return np.asarray(rows, dtype=np.int64), values


def session_entries(market: Market, column: str, part: range | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Flatten a list column of the sessions; ids that are not in the catalogue are left out.

    Args:
        market: sessions and catalogue.
        column: ``impressed``, ``clicked`` or ``purchased``.
        part: rows of the sessions table that are read, without gaps; None reads all.

    Returns:
        Row of the session and row of the item of every entry, both int64 ``(entries,)``.
    """
    lists, first = market.sessions.data.column(column), 0
    if part is not None:
        lists, first = lists.slice(part.start, len(part)), part.start
    sessions, values = flat_lists(lists)
    known = market.items.data.column("item_id").combine_chunks()
    items = np.asarray(pc.fill_null(pc.index_in(values, value_set=known), -1), dtype=np.int64)
    return sessions[items >= 0] + first, items[items >= 0]


def written_price(price: float | None) -> float | None:
    """A price of the items table (float32) as it was written: 17.78 instead of 17.780000686645508."""
    return None if price is None else float(str(np.float32(price)))


__all__ = ["flat_lists", "session_entries", "written_price"]
