"""Changes of the catalogue that the server passes on to whoever owns the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class CatalogueWriter(Protocol):
    """Adds items to the files of a catalogue and removes items from them. The server reads the files again afterwards."""

    def add(self, items: Sequence[Mapping[str, Any]], known: str) -> None:
        """Add items.

        Args:
            items: rows of the items table, each optionally with `codes`.
            known: ``raise`` refuses items that are in the catalogue already, ``skip`` leaves them out.
        """

    def remove(self, item_ids: Sequence[str], unknown: str) -> None:
        """Remove items.

        Args:
            item_ids: the items.
            unknown: ``raise`` refuses items that the catalogue does not have, ``skip`` leaves them out.
        """


__all__ = ["CatalogueWriter"]
