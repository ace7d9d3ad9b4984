"""Find the item that a log means: by another id of the item, without leading zeros, as a float, or in other letters."""

from __future__ import annotations

import re
from collections import Counter


class ItemIds:
    """Finds items by their ids.

    An id that stands for several items stands for none. The ways are tried in the order: as it is, without ``.0``, without leading
    zeros, without capitals, the title, the last part of a web address.

    Attributes:
        used: number of lookups that each way but the first found.
    """

    def __init__(self) -> None:
        self._exact: dict[str, str | None] = {}
        self._loose: dict[str, str | None] = {}
        self._titles: dict[str, str | None] = {}
        self._items: set[str] = set()
        self.used: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._items)

    def add(self, name: str | None, item_id: str) -> None:
        """Let `name` stand for the item."""
        self._items.add(item_id)
        if name is None:
            return
        for names, key in ((self._exact, name), (self._loose, _loose(name))):
            known = names.setdefault(key, item_id)
            if known != item_id and names is self._exact and name == item_id:
                names[key] = item_id  # an item's own id wins over a second id of another
            elif known != item_id and not (names is self._exact and key == known):
                names[key] = None

    def add_title(self, title: str | None, item_id: str) -> None:
        """Let a title, in which ``_`` stands for blanks, stand for its item if no other item has it."""
        if title is not None and self._titles.setdefault(title.lower(), item_id) != item_id:
            self._titles[title.lower()] = None

    def names(self) -> set[str]:
        """All ids that stand for an item."""
        return {name for name, item_id in self._exact.items() if item_id in self._items}

    def remove(self, item_id: str) -> None:
        """Forget an item."""
        self._items.discard(item_id)

    def find(self, name: str | None) -> str | None:
        """Return the id of the item that `name` stands for; None if there is none."""
        if name is None:
            return None
        ways = (
            ("", self._exact, name),
            ("without .0", self._exact, re.sub(r"\.0+$", "", name)),
            ("without leading zeros or capitals", self._loose, _loose(name)),
            ("by their titles", self._titles, name.lower()),
            (
                "by the last part of an address",
                self._loose,
                _loose(re.sub(r"[?#].*", "", name).rstrip("/").rpartition("/")[2].removesuffix(".html")),
            ),
        )
        for way, names, key in ways:
            found = names.get(key)
            if found in self._items:
                self.used[way] += bool(way)
                return found
        return None


def _loose(name: str) -> str:
    """An id without capitals, ``.0`` and leading zeros."""
    return re.sub(r"\.0+$", "", name).lower().lstrip("0") or "0"


__all__ = ["ItemIds"]
