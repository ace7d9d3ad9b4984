"""What a page shows of an item besides its id: title, brand, price, categories, picture, and the address of its own page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from onesearch.data.columns import written_price
from onesearch.data.market import Market
from onesearch.files import RunFolder
from onesearch.modeling_onesearch.columns_onesearch import ItemIds
from onesearch.tokenization_sid.sids.appended_files import load_appended

COLUMNS = ("title", "brand", "price", "categories", "image", "url")
"""Columns of the items table that are shown."""

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif")
"""Endings of the picture files that the server sends."""


class ItemDetails:
    """Details of the items of a market and of those that were appended to its run, of which only title and categories are known.

    Args:
        run: the run; None for a checkpoint without one, whose items have their id as title.
        market: the market of the run.
    """

    def __init__(self, run: RunFolder | None, market: Market | None) -> None:
        self.run, self.market = run, market
        self._own = _Table(None if market is None else market.items.data.table)
        self._appended = _Table(None)
        self.refresh()

    def refresh(self) -> None:
        """Read the items that were appended meanwhile."""
        if self.run is not None and self.run.sids.is_dir():
            table = load_appended(self.run).table
            if len(table) != len(self._appended):
                self._appended = _Table(table)

    def of(self, item_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return the details of items, in order, as values of `COLUMNS`; an unknown item has its id as title."""
        own, appended = self._own.rows(item_ids), self._appended.rows(item_ids)
        found = []
        for item_id, first, second in zip(item_ids, own, appended):
            values = first or second or {}
            detail = {name: values.get(name) for name in COLUMNS}
            detail["title"] = detail["title"] or item_id
            detail["categories"] = detail["categories"] or []
            detail["price"] = written_price(detail["price"])
            detail["image"] = self._address(item_id, detail["image"])
            detail["url"] = detail["url"] if _is_address(detail["url"] or "") else None
            found.append(detail)
        return found

    def picture(self, item_id: str) -> Path | None:
        """Return the picture file of an item, if its column ``image`` names one in the folder of the market."""
        (values,) = self._own.rows([item_id])
        name = (values or {}).get("image")
        if self.run is None or not name or _is_address(name):
            return None
        folder = self.run.market.resolve()
        path = (folder / name).resolve()
        is_inside = folder in path.parents and path.suffix.lower() in PICTURES
        return path if is_inside and path.is_file() else None

    def _address(self, item_id: str, image: str | None) -> str | None:
        """Address of a picture for the page; None without a picture."""
        if not image:
            return None
        if _is_address(image):
            return image
        from urllib.parse import quote

        return f"pictures/{quote(item_id, safe='')}"


class _Table:
    """Rows of an items table by item id; no rows for None."""

    def __init__(self, table: pa.Table | None) -> None:
        self.ids = None if table is None or not len(table) else ItemIds.of(table.column("item_id").to_pylist())
        self.table = None if table is None else table.select([name for name in COLUMNS if name in table.column_names])

    def __len__(self) -> int:
        return 0 if self.ids is None else len(self.ids)

    def rows(self, item_ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """Values of the items, None for those that are not here."""
        if self.ids is None or self.table is None:
            return [None] * len(item_ids)
        rows = self.ids.find(item_ids)
        known = iter(self.table.take(pa.array(rows[rows >= 0])).to_pylist())
        return [next(known) if row >= 0 else None for row in rows.tolist()]


def _is_address(image: str) -> bool:
    return image.startswith(("http://", "https://"))


__all__ = ["COLUMNS", "ItemDetails"]
