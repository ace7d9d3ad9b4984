"""Facts of an item, one class per kind: fitted on a market, then frozen. `onesearch.tokenization_sid.item_facts` puts them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from onesearch.data.market import Market
from onesearch.data.session_pairs import sessions_per_item
from onesearch.data.text import item_texts

from .bands import CategoryBands, FeatureBands, item_numbers, item_paths

FEATURE_DIRECTIONS = 8
"""Upper bound of the directions of features that enter the text, one token each. Our choice."""

MAX_CHARACTERS = 300
"""Number of characters of an OCR text or a description that the encoder reads. The static encoder averages words, and long texts would
drown the title. Our choice."""

OPENING = "<|"
"""Beginning of every reserved token; texts of items cannot hold it."""


class Fact(Protocol):
    """One fact, fitted on a market."""

    @property
    def markers(self) -> Sequence[str]:
        """Reserved tokens that `words` may give."""

    def words(self, market: Market) -> list[str]:
        """Text of the fact for each item, empty where it is unknown."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, from which `from_dict` of the class makes the fact again."""


@dataclass(frozen=True)
class PriceFact:
    """Band of the price within the leaf category, or within the nearest category above it with enough items.

    Args:
        bands: quantiles per category.
        count: number of bands.
    """

    bands: CategoryBands
    count: int

    @classmethod
    def fit(cls, market: Market, count: int) -> PriceFact:
        """Take the quantiles of the catalogue."""
        return cls(
            CategoryBands.fit(item_numbers(market.items.data.table, "price"), item_paths(market.items.data.table), count), count
        )

    @property
    def markers(self) -> list[str]:
        """``<|price_0|>`` and so on, from cheap to dear."""
        return _markers("price", self.count)

    def words(self, market: Market) -> list[str]:
        """Marker of each item's price."""
        return _marked(
            "price", self.bands.of(item_numbers(market.items.data.table, "price"), item_paths(market.items.data.table))
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"bands": self.bands.to_list(), "count": self.count}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> PriceFact:
        """Read what `to_dict` gave."""
        return cls(CategoryBands.from_list(stored["bands"]), stored["count"])


@dataclass(frozen=True)
class CountFact:
    """Band of a statistic within the catalogue: clicks, additions to a cart or purchases.

    Args:
        name: ``clicks``, ``carts`` or ``purchases``.
        counted: ``column`` if an item of the catalogue has the statistic in its column; otherwise ``sessions``: the training sessions in
            which the item occurs are counted, and an item without any has no band, as a new one.
        bands: quantiles of the known counts.
        count: number of bands.
    """

    COLUMNS: ClassVar[Mapping[str, tuple[str, str]]] = {
        "clicks": ("click_count", "clicked"),
        "carts": ("cart_count", "carted"),
        "purchases": ("purchase_count", "purchased"),
    }
    """Fact → column of the items table, column of the sessions table."""

    name: str
    counted: str
    bands: CategoryBands
    count: int

    @classmethod
    def fit(cls, name: str, market: Market, count: int) -> CountFact:
        """Take the quantiles of the catalogue."""
        column, _ = cls.COLUMNS[name]
        counted = "sessions" if np.isnan(item_numbers(market.items.data.table, column)).all() else "column"
        values = _counts(market, name, counted)
        return cls(name, counted, CategoryBands.fit(values, [()] * len(values), count), count)

    @property
    def markers(self) -> list[str]:
        """``<|clicks_0|>`` and so on, from few to many."""
        return _markers(self.name, self.count)

    def words(self, market: Market) -> list[str]:
        """Marker of each item's count. The sessions of `market` are those that are counted."""
        values = _counts(market, self.name, self.counted)
        return _marked(self.name, self.bands.of(values, [()] * len(values)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"name": self.name, "counted": self.counted, "bands": self.bands.to_list(), "count": self.count}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> CountFact:
        """Read what `to_dict` gave."""
        return cls(stored["name"], stored["counted"], CategoryBands.from_list(stored["bands"]), stored["count"])


@dataclass(frozen=True)
class FeatureFact:
    """Bands of the item's `features` along their principal directions.

    Args:
        bands: directions and their bands; None if no item of the catalogue has features.
        count: number of bands.
    """

    bands: FeatureBands | None
    count: int

    @classmethod
    def fit(cls, market: Market, count: int) -> FeatureFact:
        """Find the principal directions of the catalogue's features.

        Raises:
            ValueError: two items have different numbers of features.
        """
        given = [features for features in _features(market) if features]
        sizes = sorted({len(features) for features in given})
        if len(sizes) > 1:
            raise ValueError(
                f"encoder.facts names features, and the items have {sizes} of them; give every item as many, or []"
            )
        if not given:
            return cls(None, count)
        return cls(FeatureBands.fit(np.array(given, dtype=np.float64), FEATURE_DIRECTIONS, count), count)

    @property
    def markers(self) -> list[str]:
        """``<|features0_0|>`` and so on: direction and band."""
        directions = 0 if self.bands is None else len(self.bands.bands)
        return [marker for direction in range(directions) for marker in _markers(f"features{direction}", self.count)]

    def words(self, market: Market) -> list[str]:
        """Markers of each item's features, one per direction.

        Raises:
            ValueError: an item has another number of features than the catalogue had.
        """
        rows = _features(market)
        found = [""] * len(rows)
        given = [row for row, features in enumerate(rows) if features]
        if self.bands is None or not given:
            return found
        wrong = next((len(rows[row]) for row in given if len(rows[row]) != len(self.bands.mean)), None)
        if wrong is not None:
            raise ValueError(f"an item has {wrong} features, the catalogue {len(self.bands.mean)}; give as many, or []")
        columns = self.bands.of(np.array([rows[row] for row in given], dtype=np.float64))
        marked = [_marked(f"features{direction}", column) for direction, column in enumerate(columns)]
        for row, words in zip(given, zip(*marked)):
            found[row] = " ".join(words)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"bands": None if self.bands is None else self.bands.to_dict(), "count": self.count}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> FeatureFact:
        """Read what `to_dict` gave."""
        bands = stored["bands"]
        return cls(None if bands is None else FeatureBands.from_dict(bands), stored["count"])


@dataclass(frozen=True)
class TextFact:
    """The beginning of a text column.

    Args:
        column: ``ocr_text`` or ``description``.
    """

    markers: ClassVar[Sequence[str]] = ()

    column: str

    def words(self, market: Market) -> list[str]:
        """The first `MAX_CHARACTERS` characters of each item's text."""
        return [text[:MAX_CHARACTERS] for text in item_texts(market, [self.column])]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"column": self.column}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> TextFact:
        """Read what `to_dict` gave."""
        return cls(stored["column"])


def _marker(name: str, band: int) -> str:
    return f"{OPENING}{name}_{band}|>"


def _markers(name: str, count: int) -> list[str]:
    return [_marker(name, band) for band in range(count)]


def _marked(name: str, bands: Sequence[int | None]) -> list[str]:
    return ["" if band is None else _marker(name, band) for band in bands]


def _features(market: Market) -> list[list[float]]:
    return [features or [] for features in market.items.data.column("features").to_pylist()]


def _counts(market: Market, name: str, counted: str) -> np.ndarray:
    """Counts of a statistic, (items,) float64, NaN where unknown."""
    column, of_sessions = CountFact.COLUMNS[name]
    if counted == "column":
        return item_numbers(market.items.data.table, column)
    counts = sessions_per_item(market, "train", (of_sessions,)).astype(np.float64)
    return np.where(counts > 0, counts, np.nan)


__all__ = ["FEATURE_DIRECTIONS", "MAX_CHARACTERS", "OPENING", "CountFact", "Fact", "FeatureFact", "PriceFact", "TextFact"]
