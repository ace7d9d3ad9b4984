"""Values of each attribute type that the items of a catalogue have, from all columns that name one.

``attributes`` comes first. Where an item has none of a type there, its ``brand`` is its brand, its leaf category its entity and the band of
its price its price. A tag has the type under which other values of the catalogue have its text most often, else ``modifier``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onesearch.data.columns import flat_lists
from onesearch.data.schema import ATTRIBUTE_TYPES

from .matching import normalise
from .phrases import bilingual_halves
from .price_bands import PriceBands

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

TAG_TYPE = "modifier"
"""Type of a tag whose text no other value of the catalogue has."""


@dataclass(frozen=True)
class AttributeValues:
    """Values of one attribute type; an entry is one value of one item.

    Args:
        texts: distinct normalised values.
        items: (entries,) row of the item.
        rows: (entries,) row of the value in `texts`.
    """

    texts: list[str]
    items: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, items: np.ndarray, values: Sequence[str]) -> AttributeValues:
        """Values (entries,) of the items (entries,); blank ones are left out."""
        plain = [normalise(value) for value in values]
        texts = list(dict.fromkeys(text for text in plain if text))
        row_of = {text: row for row, text in enumerate(texts)}
        rows = np.array([row_of.get(text, -1) for text in plain], dtype=np.int64)
        return cls(texts, np.asarray(items, dtype=np.int64)[rows >= 0], rows[rows >= 0])

    @classmethod
    def read(cls, items: pa.Table, kind: str) -> AttributeValues:
        """Values of the attribute type `kind` in the column ``attributes``."""
        rows, entries = flat_lists(pc.struct_field(items.column("attributes").combine_chunks(), kind))
        return cls.of(rows, entries.to_pylist())

    def with_more(self, items: np.ndarray, values: Sequence[str]) -> AttributeValues:
        """These values and further ones, (entries,) each."""
        before = [self.texts[row] for row in self.rows.tolist()]
        return AttributeValues.of(np.concatenate([self.items, np.asarray(items, dtype=np.int64)]), [*before, *values])

    def own(self, texts: Sequence[str]) -> np.ndarray:
        """(texts,) bool: whether a text is a value of this type, or half of a bilingual one."""
        mine = set(self.texts) | {half for text in self.texts for half in bilingual_halves(text)}
        return np.array([text in mine for text in texts], dtype=bool)

    def carriers(self, occurrences: csr_matrix, items: int) -> csr_matrix:
        """Which item carries which text in one of its values.

        Args:
            occurrences: (values of this type, texts) of ones: the texts that occur in each value.
            items: number of items.

        Returns:
            (items, texts) of ones.
        """
        from scipy.sparse import csr_matrix

        of_items = csr_matrix((np.ones(len(self.rows)), (self.items, self.rows)), shape=(items, len(self.texts)))
        carries = (of_items @ occurrences).tocsr()
        carries.data[:] = 1
        return carries


@dataclass(frozen=True)
class CatalogueValues:
    """Values of all types.

    Args:
        items: number of items.
        by_kind: values of each of the 18 types, in the order of `ATTRIBUTE_TYPES`.
        bands: price bands of the items without a price among their attributes.
    """

    items: int
    by_kind: dict[str, AttributeValues]
    bands: PriceBands

    @classmethod
    def read(cls, items: pa.Table, language: str | None = None) -> CatalogueValues:
        """Values of an items table; `language` chooses the words for price bands."""
        by_kind = {kind: AttributeValues.read(items, kind) for kind in ATTRIBUTE_TYPES}
        bands = PriceBands.fit(items, language)
        for kind, column in _columns(items, bands).items():
            wanted = np.array([value is not None for value in column], dtype=bool)
            wanted[by_kind[kind].items] = False
            rows = np.flatnonzero(wanted)
            by_kind[kind] = by_kind[kind].with_more(rows, [column[row] or "" for row in rows.tolist()])
        for kind, (tagged, tags) in _typed_tags(items, by_kind).items():
            by_kind[kind] = by_kind[kind].with_more(np.array(tagged), tags)
        return cls(len(items), by_kind, bands)

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        """Every (type, value) of the catalogue; columns of `matrix`."""
        return [(kind, text) for kind, part in self.by_kind.items() for text in part.texts]

    def matrix(self) -> csr_matrix:
        """(items, pairs) of ones where an item has a value."""
        starts = np.cumsum([0, *(len(part.texts) for part in self.by_kind.values())])
        columns = [part.rows + start for part, start in zip(self.by_kind.values(), starts.tolist())]
        rows = np.concatenate([part.items for part in self.by_kind.values()])
        from scipy.sparse import csr_matrix

        found = csr_matrix((np.ones(len(rows)), (rows, np.concatenate(columns))), shape=(self.items, len(self.pairs)))
        found.data[:] = 1
        return found

    def of_items(self) -> list[list[tuple[str, str]]]:
        """Values of each item as (type, value)."""
        found: list[list[tuple[str, str]]] = [[] for _ in range(self.items)]
        for kind, part in self.by_kind.items():
            for item, row in zip(part.items.tolist(), part.rows.tolist()):
                found[item].append((kind, part.texts[row]))
        return found


def column_texts(items: pa.Table, bands: PriceBands) -> list[list[str]]:
    """Normalised values that the columns of each item give beside its attributes: brand, leaf category, price band and tags.

    An item that has a price among its attributes has no band.
    """
    columns = [*_columns(items, bands).values()]
    priced = set(AttributeValues.read(items, "price").items.tolist())
    tags = items.column("tags").to_pylist()
    found = []
    for row, (brand, leaf, band) in enumerate(zip(*columns)):
        values = [brand, leaf, None if row in priced else band, *(tags[row] or ())]
        found.append([normalise(value) for value in values if value])
    return found


def _columns(items: pa.Table, bands: PriceBands) -> dict[str, list[str | None]]:
    """Type → the value that its column gives each item."""
    paths = items.column("categories").to_pylist()
    return {
        "brand": items.column("brand").to_pylist(),
        "entity": [path[-1] if path else None for path in paths],
        "price": bands.of_items(items),
    }


def _typed_tags(items: pa.Table, by_kind: Mapping[str, AttributeValues]) -> dict[str, tuple[list[int], list[str]]]:
    """Tags by type: rows of their items, and their texts."""
    counts: dict[str, Counter[str]] = {}
    for kind, part in by_kind.items():
        for row in part.rows.tolist():
            counts.setdefault(part.texts[row], Counter())[kind] += 1
    rows, tags = flat_lists(items.column("tags"))
    found: dict[str, tuple[list[int], list[str]]] = {}
    for row, tag in zip(rows.tolist(), tags.to_pylist()):
        known = counts.get(normalise(tag))
        kind = known.most_common(1)[0][0] if known else TAG_TYPE
        of_kind = found.setdefault(kind, ([], []))
        of_kind[0].append(row)
        of_kind[1].append(tag)
    return found


__all__ = ["AttributeValues", "CatalogueValues", "column_texts"]
