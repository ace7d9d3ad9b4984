"""Price bands: the words for a low, middle and high price within a category, as titles and queries say them.

OneSearch (arXiv 2509.03236) has a keyword type for the price and gives no bands. Our choice: thirds of the prices of the leaf category, or
of the catalogue where the leaf has fewer than `MIN_PRICES` prices. The limits are frozen with the keywords of a run, so that a new item
gets its band by its own price and category alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from onesearch.data.session_pairs import category_ids

BAND_NAMES = {"en": ("budget", "mid-range", "premium"), "zh": ("平价", "中端", "高端")}
"""Words for a low, a middle and a high price, by the language of the market; our choice."""

MIN_PRICES = 30
"""Number of priced items that a leaf category needs for bands of its own; our choice."""


@dataclass(frozen=True)
class PriceBands:
    """Limits of the bands of a catalogue.

    Args:
        names: words for a low, a middle and a high price.
        catalogue: upper limits of the low and of the middle band; a price on a limit belongs to the lower band. None without prices,
            and where a third of the prices are equal, so that the bands would say nothing.
        categories: the limits of the leaf categories that have their own, by the path with levels joined by " > ".
    """

    names: tuple[str, ...] = BAND_NAMES["en"]
    catalogue: tuple[float, ...] | None = None
    categories: dict[str, tuple[float, ...]] = field(default_factory=dict)

    @classmethod
    def fit(cls, items: pa.Table, language: str | None = None) -> PriceBands:
        """Limits from the prices of an items table.

        Args:
            items: items table.
            language: language of the market; other languages than those of `BAND_NAMES` get the English words.
        """
        prices = _prices(items)
        leaves, names = category_ids(items.column("categories"))
        priced = ~np.isnan(prices)
        limits = _limits(prices[priced])
        if limits is None:
            return cls()
        own = {}
        for leaf in np.flatnonzero(np.bincount(leaves[priced & (leaves >= 0)], minlength=1) >= MIN_PRICES).tolist():
            of_leaf = _limits(prices[priced & (leaves == leaf)])
            if of_leaf is not None:
                own[names[leaf]] = of_leaf
        return cls(BAND_NAMES.get(language or "en", BAND_NAMES["en"]), limits, own)

    def of_items(self, items: pa.Table) -> list[str | None]:
        """Word for the price of each item; None without a price."""
        if self.catalogue is None:
            return [None] * len(items)
        leaves, names = category_ids(items.column("categories"))
        found: list[str | None] = []
        for price, leaf in zip(_prices(items).tolist(), leaves.tolist()):
            limits = self.categories.get(names[leaf], self.catalogue) if leaf >= 0 else self.catalogue
            found.append(None if np.isnan(price) else self.names[int(np.searchsorted(limits, price))])
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"names": list(self.names), "catalogue": self.catalogue, "categories": self.categories}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PriceBands:
        """Bands from the values of `to_dict`."""
        limits = values["catalogue"]
        categories = {name: tuple(part) for name, part in values["categories"].items()}
        return cls(tuple(values["names"]), None if limits is None else tuple(limits), categories)


def _prices(items: pa.Table) -> np.ndarray:
    """(items,) float64, NaN without a price."""
    return items.column("price").to_pandas().to_numpy(dtype=np.float64)


def _limits(prices: np.ndarray) -> tuple[float, ...] | None:
    """Limits of the thirds of `prices`; None if they are not two."""
    if not len(prices):
        return None
    low, high = np.quantile(prices, (1 / 3, 2 / 3)).tolist()
    return (low, high) if low < high else None


__all__ = ["BAND_NAMES", "PriceBands"]
