"""The distinct category paths of a catalogue.

Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import NamedTuple

import numpy as np

from .columns_onesearch import strings_from_arrays, strings_to_arrays
from .sequences_onesearch import checked_texts
from .tensor_files_onesearch import parsed_texts


class CategoryPaths:
    """The distinct category paths of a catalogue, each from coarse to fine. An item refers to its path by the path's place.

    Args:
        paths: the paths in the order of their places.
    """

    def __init__(self, paths: Sequence[tuple[str, ...]]) -> None:
        self.paths = list(paths)

    def __getitem__(self, place: int) -> tuple[str, ...]:
        """Return the path at a place; place -1 is the empty path."""
        return self.paths[place] if place >= 0 else ()

    @property
    def names(self) -> list[str]:
        """All category names at any depth, in alphabetical order."""
        return sorted({name for path in self.paths for name in path})

    def extended(self, categories: Sequence[Sequence[str]] | None, count: int) -> ExtendedPaths:
        """Add the paths of further items.

        Args:
            categories: the path of each further item; None for items without categories.
            count: number of further items.

        Returns:
            the known and the new paths, and the place of each further item's path.
        """
        if categories is None:
            return ExtendedPaths(self, np.full(count, -1, dtype=np.int32))
        place_of = {path: place for place, path in enumerate(self.paths)}
        places = [place_of.setdefault(tuple(path), len(place_of)) if len(path) else -1 for path in categories]
        return ExtendedPaths(CategoryPaths(list(place_of)), np.array(places, dtype=np.int32).reshape(count))

    def with_any(self, names: Sequence[str]) -> list[int]:
        """Return the places of the paths that hold at least one of `names`.

        Raises:
            TypeError: `names` is not a list of texts.
            ValueError: a name is on no path; the message lists similar names.
        """
        names = checked_texts(names, "categories")
        known = self.names
        for name in names:
            if name not in known:
                close = get_close_matches(name, known, n=3) or known[:5]
                raise ValueError(
                    f"category {name!r} is on no item's path; the index has {len(known):,} categories, such as {close}"
                )
        return [place for place, path in enumerate(self.paths) if set(path) & set(names)]

    def to_arrays(self, name: str) -> dict[str, np.ndarray]:
        """Pack the paths as arrays for a file; `from_arrays` reads them back."""
        return strings_to_arrays(name, [json.dumps(path) for path in self.paths])

    @classmethod
    def from_arrays(cls, name: str, arrays: Mapping[str, np.ndarray]) -> CategoryPaths:
        """Return the paths that `to_arrays` packed under `name`; ValueError if one is no list of texts."""
        return cls([tuple(parsed_texts(text)) for text in strings_from_arrays(name, arrays)])


class ExtendedPaths(NamedTuple):
    """Category paths with those of further items.

    Args:
        paths: the known paths, then the new ones.
        places: (items,) int32, the place of each further item's path, -1 for an item without one.
    """

    paths: CategoryPaths
    places: np.ndarray


__all__ = ["CategoryPaths", "ExtendedPaths"]
