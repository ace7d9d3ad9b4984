"""Price bands: the words for a low, middle and high price within a category, as titles and queries say them.

OneSearch (arXiv 2509.03236) has a keyword type for the price and gives no bands. Our choice: thirds of the prices of the leaf category, or
of the nearest category above it with enough prices (`CategoryBands`). The limits are frozen with the keywords of a run, so that a new item
gets its band by its own price and category alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from ..embedding.bands import CategoryBands, item_numbers, item_paths

BAND_NAMES = {"en": ("budget", "mid-range", "premium"), "zh": ("平价", "中端", "高端")}
"""Words for a low, a middle and a high price, by the language of the market; our choice."""


@dataclass(frozen=True, eq=False)
class PriceBands:
    """Limits of the bands of a catalogue.

    Args:
        names: words for a low, a middle and a high price.
        bands: thirds of the prices per category; empty without prices, and where a third of all prices are equal, so that the bands
            would say nothing.
    """

    names: tuple[str, ...] = BAND_NAMES["en"]
    bands: CategoryBands = field(default_factory=lambda: CategoryBands({}))

    @classmethod
    def fit(cls, items: pa.Table, language: str | None = None) -> PriceBands:
        """Limits from the prices of an items table.

        Args:
            items: items table.
            language: language of the market; other languages than those of `BAND_NAMES` get the English words.
        """
        names = BAND_NAMES.get(language or "en", BAND_NAMES["en"])
        bands = CategoryBands.fit(item_numbers(items, "price"), item_paths(items), len(names))
        limits = bands.edges.get(())
        return cls(names) if limits is None or limits[0] == limits[-1] else cls(names, bands)

    def of_items(self, items: pa.Table) -> list[str | None]:
        """Word for the price of each item; None without a price."""
        bands = self.bands.of(item_numbers(items, "price"), item_paths(items))
        return [None if band is None else self.names[band] for band in bands]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"names": list(self.names), "bands": self.bands.to_list()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PriceBands:
        """Bands from the values of `to_dict`."""
        return cls(tuple(values["names"]), CategoryBands.from_list(values["bands"]))


__all__ = ["BAND_NAMES", "PriceBands"]
