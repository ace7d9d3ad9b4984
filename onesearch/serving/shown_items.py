"""Facts of items that people read beside a hit: title, brand, price, page and picture.

The file ``items.parquet`` lies beside the weights of a checkpoint. It holds a copy of these columns of the market's items table, sorted by
item id, and is read when a hit is first shown.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from onesearch.data.columns import written_price
from onesearch.modeling_onesearch.hits_onesearch import Hit
from onesearch.parquet_files import read_table, write_table

if TYPE_CHECKING:
    from onesearch.data.market import Market

SHOWN_ITEMS_NAME = "items.parquet"
"""File of the shown facts, beside the weights of a checkpoint."""

FACTS = ("title", "brand", "price", "url", "image")
"""Columns of the items table that a hit carries, where the table has them; each is a field of `Hit`."""

KEPT_ITEMS = 100_000
"""Items whose facts are kept in memory; then they are read anew (our choice)."""

REMEDY = "copy the checkpoint again, or train it again with `onesearch train`, which writes this file"


class ShownItems:
    """Facts of the items of a catalogue. Items that were added to a checkpoint later have none.

    Args:
        path: parquet file, sorted by ``item_id``; it is read with the first look-up.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._known: dict[str, dict[str, Any]] = {}

    @staticmethod
    def save(market: Market, path: str | Path) -> None:
        """Write the shown facts of a market's items."""
        table = market.items.data.table
        known = [name for name in FACTS if name in table.column_names]
        table = table.select(["item_id", *known]).combine_chunks()
        write_table(table.take(pc.sort_indices(table, [("item_id", "ascending")])), path)

    def filled(self, hits: Sequence[Hit]) -> list[Hit]:
        """The hits with the facts of their items.

        Raises:
            FileNotFoundError: the file was removed since it was found.
            ValueError: the file is damaged.
        """
        facts = [self._facts_of(hit.item_id) for hit in hits]
        return [
            Hit(hit.item_id, hit.sid, hit.score, hit.level_scores, hit.towers, **own) if own else hit
            for hit, own in zip(hits, facts)
        ]

    def _facts_of(self, item_id: str) -> dict[str, Any]:
        """The facts of an item, empty for one that has none. They are kept, since the same items are found again and again."""
        facts = self._known.get(item_id)
        if facts is None:
            ids = self._ids
            row = bisect_left(range(len(ids)), item_id, key=lambda place: ids[place].as_py())
            is_known = row < len(ids) and ids[row].as_py() == item_id
            facts = {name: column[row].as_py() for name, column in self._facts.items()} if is_known else {}
            if "price" in facts:
                facts["price"] = written_price(facts["price"])
            if len(self._known) >= KEPT_ITEMS:
                self._known = {}
            self._known[item_id] = facts
        return facts

    @cached_property
    def _table(self) -> pa.Table:
        table = read_table(self.path, REMEDY, memory_map=True)
        if "item_id" not in table.column_names:
            raise ValueError(f"{self.path} has columns {table.column_names}, item_id is missing; {REMEDY}")
        return table

    @cached_property
    def _ids(self) -> pa.Array:
        return _column(self._table, "item_id")

    @cached_property
    def _facts(self) -> dict[str, pa.Array]:
        return {name: _column(self._table, name) for name in FACTS if name in self._table.column_names}


def _column(table: pa.Table, name: str) -> pa.Array:
    """A column in one piece, so that a row is found in constant time."""
    column = table.column(name).combine_chunks()
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column


__all__ = ["FACTS", "SHOWN_ITEMS_NAME", "ShownItems"]
