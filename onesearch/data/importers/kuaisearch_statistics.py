"""Statistics of KuaiSearch's items: counts of the 30 days before a request, from the table rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import pyarrow as pa

from .. import fields
from ..arrow_tables import as_dataset
from ..fields import BadRow, Note, Row
from ..market import Market
from ..requests import split_sessions
from ..schema import arrow_schema

COLUMN = "target_item_statistical_features"
"""Column of rank that holds a mapping of counts."""

COUNTS = {
    "item_show_cnt_30d_hist": "shown_count",
    "item_click_cnt_30d_hist": "click_count",
    "item_order_cnt_30d_hist": "purchase_count",
}
"""Published count → column of the items table."""


class Statistics(NamedTuple):
    """Counts of an item in the order of `COUNTS`, and the time of the request before which they were counted."""

    time: int
    counts: tuple[int | None, ...]


def read_statistics(row: Row, time: int, note: Note) -> Statistics | None:
    """Read the statistics of one row of rank; None if it has none. Counts that do not fit are reported and left empty."""
    value = row.get(COLUMN)
    if not isinstance(value, Mapping):
        if value is not None:
            note(BadRow(f"{COLUMN} must be an object of counts", repr(value)))
        return None
    return Statistics(time, tuple(fields.or_none(_count, value, key, note) for key in COUNTS))


def held_out_from(market: Market) -> int | None:
    """Time of the first validation or test session; None if the market has none."""
    held = market.sessions.data.column("time").filter(pa.array(split_sessions(market) > 0))
    return min(held.to_pylist(), default=None)


def with_statistics(items: pa.Table, rows: Mapping[str, int], known: Mapping[str, Statistics]) -> pa.Table:
    """The items table with the columns of the counts.

    Args:
        items: items table.
        rows: row of each item id.
        known: statistics by item id; other items get null.
    """
    for place, column in enumerate(COUNTS.values()):
        values: list[Any] = [None] * len(items)
        for item_id, statistics in known.items():
            values[rows[item_id]] = statistics.counts[place]
        field = arrow_schema("items").field(column)
        items = items.set_column(items.schema.get_field_index(column), field, pa.array(values, field.type))
    return items


def without_statistics(market: Market) -> Market:
    """The market without statistics of its items; ``info["statistics"]`` counts all of them as too late."""
    counted = market.info["statistics"]
    info = {**market.info, "statistics": {"items": 0, "too_late": counted["items"] + counted["too_late"]}}
    return replace(market, items=as_dataset(with_statistics(market.items.data.table, {}, {})), info=info)


def _count(row: Row, key: str) -> int | None:
    """A whole number of at least 0, which the source writes as a float."""
    value = fields.optional_number(row, key)
    if value is not None and (value < 0 or not value.is_integer()):
        raise BadRow(f"{key} must be a whole number of at least 0, or null", repr(value))
    return None if value is None else int(value)


__all__ = ["Statistics", "held_out_from", "read_statistics", "with_statistics", "without_statistics"]
