"""Bands of numbers by quantiles of the catalogue, frozen so that a later item gets the band that an equal item has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

MIN_ITEMS = 20
"""Smallest number of items with a known number for which a category has quantiles of its own. Our choice: four to each of five bands."""


@dataclass(frozen=True)
class CategoryBands:
    """Bands of a number within categories, such as prices: a price is low or high among things of its kind.

    Args:
        edges: category path → the inner edges of its bands, ascending. The empty path is the whole catalogue. A path that is absent
            had fewer than `MIN_ITEMS` items, and the nearest path above it counts.
    """

    edges: Mapping[tuple[str, ...], np.ndarray]

    @classmethod
    def fit(cls, values: np.ndarray, paths: Sequence[Sequence[str]], bands: int) -> CategoryBands:
        """Take the quantiles of every category and of every category above it.

        Args:
            values: (items,) numbers, NaN where unknown.
            paths: category path of each item, from coarse to fine. Empty paths give bands of the whole catalogue alone.
            bands: number of bands.
        """
        members: dict[tuple[str, ...], list[float]] = {(): []}
        for value, path in zip(values.tolist(), paths):
            if not np.isnan(value):
                for depth in range(len(path) + 1):
                    members.setdefault(tuple(path[:depth]), []).append(value)
        shares = np.arange(1, bands) / bands
        return cls(
            {
                path: np.quantile(found, shares)
                for path, found in members.items()
                if len(found) >= MIN_ITEMS or (not path and found)
            }
        )

    def of(self, values: np.ndarray, paths: Sequence[Sequence[str]]) -> list[int | None]:
        """Band of each number, counted from 0.

        A number that equals several edges gets the middle one of the bands between them, so that a category with a single price has
        neither low nor high ones.

        Args:
            values: (items,) numbers, NaN where unknown.
            paths: category path of each item, from coarse to fine.

        Returns:
            One band per item; None where the number is unknown or no number was known when the bands were fitted.
        """
        rows_of: dict[tuple[str, ...], list[int]] = {}
        for row, path in enumerate(paths):
            rows_of.setdefault(tuple(path), []).append(row)
        found: list[int | None] = [None] * len(values)
        for path, rows in rows_of.items():
            edges = self._nearest(path)
            known = [row for row in rows if not np.isnan(values[row])]
            if edges is not None:
                left, right = (np.searchsorted(edges, values[known], side=side) for side in ("left", "right"))
                for row, band in zip(known, ((left + right) // 2).tolist()):
                    found[row] = band
        return found

    def _nearest(self, path: tuple[str, ...]) -> np.ndarray | None:
        """Edges of a category, or of the nearest one above it that has some."""
        above = (path[:depth] for depth in range(len(path), -1, -1))
        return next((self.edges[part] for part in above if part in self.edges), None)

    def to_list(self) -> list[Any]:
        """Plain values for JSON: pairs of a path and its edges."""
        return [[list(path), edges.tolist()] for path, edges in self.edges.items()]

    @classmethod
    def from_list(cls, stored: list[Any]) -> CategoryBands:
        """Read what `to_list` gave."""
        return cls({tuple(path): np.array(edges, dtype=np.float64) for path, edges in stored})


@dataclass(frozen=True)
class FeatureBands:
    """Bands along the principal directions of feature vectors, such as those of pictures.

    A vector of a reserved token per band and direction, summed, is a projection of the features in steps: any linear projection of the
    kept directions is one, up to the width of the bands.

    Args:
        mean: (features,) means of the catalogue.
        scale: (features,) standard deviations; 1 for a constant feature.
        directions: (directions, features) principal directions of the standardised features, the largest first.
        bands: bands of the coordinates along each direction.
    """

    mean: np.ndarray
    scale: np.ndarray
    directions: np.ndarray
    bands: tuple[CategoryBands, ...]

    @classmethod
    def fit(cls, vectors: np.ndarray, most: int, bands: int) -> FeatureBands:
        """Fit at most `most` directions and their bands.

        Args:
            vectors: (items, features) features of the items that have some.
            most: upper bound of the directions.
            bands: number of bands of each direction.
        """
        mean, scale = vectors.mean(axis=0), vectors.std(axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        standard = (vectors - mean) / scale
        variances, axes = np.linalg.eigh(standard.T @ standard / len(vectors))
        order = np.argsort(-variances, kind="stable")[:most]
        directions = axes.T[order[variances[order] > 1e-9]]
        found = cls(mean, scale, directions, ())
        columns = [CategoryBands.fit(column, [()] * len(vectors), bands) for column in found._coordinates(vectors).T]
        return cls(mean, scale, directions, tuple(columns))

    def of(self, vectors: np.ndarray) -> list[list[int | None]]:
        """Bands along each direction of feature vectors (items, features), one list per direction."""
        columns = self._coordinates(vectors).T
        return [part.of(column, [()] * len(vectors)) for part, column in zip(self.bands, columns)]

    def _coordinates(self, vectors: np.ndarray) -> np.ndarray:
        """Coordinates (items, directions) of `vectors` (items, features)."""
        return (vectors - self.mean) / self.scale @ self.directions.T

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        arrays = {name: getattr(self, name).tolist() for name in ("mean", "scale", "directions")}
        return {**arrays, "bands": [part.to_list() for part in self.bands]}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> FeatureBands:
        """Read what `to_dict` gave."""
        arrays = {name: np.array(stored[name], dtype=np.float64) for name in ("mean", "scale")}
        directions = np.array(stored["directions"], dtype=np.float64).reshape(-1, len(arrays["mean"]))
        return cls(**arrays, directions=directions, bands=tuple(CategoryBands.from_list(part) for part in stored["bands"]))


def item_numbers(items: pa.Table, column: str) -> np.ndarray:
    """A column of numbers of an items table, float64 ``(items,)``, NaN for null."""
    return np.array(items.column(column).to_pylist(), dtype=np.float64)


def item_paths(items: pa.Table) -> list[list[str]]:
    """Category path of each item of an items table, from coarse to fine; empty without one."""
    return [path or [] for path in items.column("categories").to_pylist()]


__all__ = ["MIN_ITEMS", "CategoryBands", "FeatureBands", "item_numbers", "item_paths"]
