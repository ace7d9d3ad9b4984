"""Facets of items: every known value of an item's brand, category, price band, tags and 18 attribute types, numbered.

A user's taste is read from facets: how many items of the history share the candidate's brand, colour, style and so on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onesearch.data.columns import flat_lists
from onesearch.data.schema import ATTRIBUTE_TYPES
from onesearch.data.session_pairs import category_ids
from onesearch.tokenization_sid.embedding.bands import CategoryBands, item_numbers, item_paths
from onesearch.tokenization_sid.ragged import Ragged, offsets_of

from .counts import occurrences

PRICE_BANDS = 8
"""Number of bands of the price within a category (`CategoryBands`); our choice."""

MOST_VALUES = 8
"""Largest number of values that an item has of one kind; the rest is left out (our choice)."""

LEAST_ITEMS = 3
"""Number of items that share a facet, such as a brand, from which on the vectors of a history's items read it; our choice."""


class Values(NamedTuple):
    """Values of one kind: row of the item and number of the value of each entry, both ``(entries,)``, and the text of each number."""

    rows: np.ndarray
    numbers: np.ndarray
    texts: list[str]


@dataclass(frozen=True, eq=False)
class ItemFacets:
    """Facets of the items of a catalogue.

    Args:
        kinds: name of each kind, for instance ``brand`` or ``color``.
        kind_of: number of each facet's kind, ``(facets,)``.
        of_items: facet numbers of each item, ascending, ``items`` rows.
        leaf: number of each item's leaf category, -1 without one, ``(items,)``.
        values: text of each facet, such as a brand's name in lower case, so that later items can be given the same facets.
        prices: edges of the bands of the price, for the same reason.
    """

    kinds: tuple[str, ...]
    kind_of: np.ndarray
    of_items: Ragged
    leaf: np.ndarray
    values: tuple[str, ...]
    prices: CategoryBands = field(default_factory=lambda: CategoryBands({}))

    def frequent(self, least: int) -> ItemFacets:
        """Those facets that at least `least` items have, numbered anew in the same order. A value of one item alone, such as the number of
        its model, tells nothing of other items."""
        counts = np.bincount(self.of_items.values, minlength=len(self.kind_of))
        kept = np.flatnonzero(counts >= least)
        number = np.full(len(self.kind_of), -1, dtype=np.int64)
        number[kept] = np.arange(len(kept))
        facets = number[self.of_items.values]
        owner = np.repeat(np.arange(len(self.of_items)), self.of_items.lengths)[facets >= 0]
        of_items = Ragged(facets[facets >= 0], offsets_of(np.bincount(owner, minlength=len(self.of_items))))
        values = tuple(self.values[place] for place in kept.tolist())
        return ItemFacets(self.kinds, self.kind_of[kept], of_items, self.leaf, values, self.prices)

    def shares(self) -> dict[str, float]:
        """Share of the items that have a facet of each kind; 0 for a kind with a single value, which tells no items apart."""
        owner = np.repeat(np.arange(len(self.of_items)), self.of_items.lengths)
        kind = self.kind_of[self.of_items.values]
        pairs = np.unique(owner * len(self.kinds) + kind) % max(len(self.kinds), 1)
        having = np.bincount(pairs, minlength=len(self.kinds)) / max(len(self.of_items), 1)
        values = np.bincount(self.kind_of, minlength=len(self.kinds))
        return {name: float(share) if count > 1 else 0.0 for name, share, count in zip(self.kinds, having, values)}

    def with_items(self, items: pa.Table) -> ItemFacets:
        """The same facets with further items behind the known ones. Values that no known item has are left out.

        Args:
            items: columns as in `onesearch.data.schema.TABLES`.
        """
        number_of = {
            (self.kinds[kind], value): facet for facet, (kind, value) in enumerate(zip(self.kind_of.tolist(), self.values))
        }
        own: list[set[int]] = [set() for _ in range(len(items))]
        leaf, names = category_ids(items.column("categories"))
        for kind, found in _values(items, leaf, names, self.prices).items():
            facets = [number_of.get((kind, text)) for text in found.texts]
            for row, number in zip(found.rows.tolist(), found.numbers.tolist()):
                facet = facets[number]
                if facet is not None:
                    own[row].add(facet)
        leaf_of = {value: facet for (kind, value), facet in number_of.items() if kind == "category"}
        leaves = [-1 if number < 0 else leaf_of.get(names[number], -1) for number in leaf.tolist()]
        values = np.concatenate([self.of_items.values, *(np.array(sorted(row), dtype=np.int64) for row in own)])
        lengths = np.concatenate([self.of_items.lengths, np.array([len(row) for row in own], dtype=np.int64)])
        every = np.concatenate([self.leaf, np.array(leaves, dtype=np.int64)])
        return ItemFacets(self.kinds, self.kind_of, Ragged(values, offsets_of(lengths)), every, self.values, self.prices)


def item_facets(items: pa.Table) -> ItemFacets:
    """Number the facets of an items table.

    Args:
        items: columns as in `onesearch.data.schema.TABLES`.
    """
    leaf, names = category_ids(items.column("categories"))
    prices = CategoryBands.fit(item_numbers(items, "price"), item_paths(items), PRICE_BANDS)
    values = {kind: found for kind, found in _values(items, leaf, names, prices).items() if len(found.rows)}
    none = np.zeros(0, dtype=np.int64)
    rows, facets, kind_of = [none], [none], [none]
    first, texts = 0, []
    for number, (row, value, names) in enumerate(values.values()):
        distinct, codes = np.unique(value, return_inverse=True)
        texts += [names[place] for place in distinct.tolist()]
        kept = _within(row) < MOST_VALUES
        rows.append(row[kept])
        facets.append(codes[kept] + first)
        kind_of.append(np.full(len(distinct), number, dtype=np.int64))
        first += len(distinct)
    of_items = _by_item(np.concatenate(rows), np.concatenate(facets), len(items), first)
    return ItemFacets(tuple(values), np.concatenate(kind_of), of_items, leaf, tuple(texts), prices)


def _values(items: pa.Table, leaf: np.ndarray, leaves: list[str], prices: CategoryBands) -> dict[str, Values]:
    """Values of each kind of facet; the columns for brand and price come before the attributes of the same name."""
    found = {
        "category": _alone(leaf, leaves),
        "brand": _texts(items.column("brand")),
        "price": _alone(_price_bands(items, prices), [str(band) for band in range(PRICE_BANDS)]),
        "tag": _lists(items.column("tags")),
    }
    attributes = items.column("attributes").combine_chunks()
    for kind in ATTRIBUTE_TYPES:
        if kind not in found or not len(found[kind].rows):
            found[kind] = _lists(pc.struct_field(attributes, kind))
    return found


def _price_bands(items: pa.Table, prices: CategoryBands) -> np.ndarray:
    """Band of each item's price within its category, -1 without a price, ``(items,)``."""
    bands = prices.of(item_numbers(items, "price"), item_paths(items))
    return np.array([-1 if band is None else band for band in bands], dtype=np.int64)


def _by_item(rows: np.ndarray, facets: np.ndarray, items: int, count: int) -> Ragged:
    """Distinct facets of each item, ascending.

    Args:
        rows: row of the item of each entry, ``(entries,)``.
        facets: facet of each entry, below `count`, ``(entries,)``.
        items: number of items.
        count: number of facets.
    """
    owner, facet = np.divmod(np.unique(rows * max(count, 1) + facets), max(count, 1))
    return Ragged(facet, offsets_of(np.bincount(owner, minlength=items)))


class FacetHistories(NamedTuple):
    """Events of n users as item rows, oldest first, n rows each.

    Attributes:
        touched: items clicked or bought.
        recent: the latest of them.
        purchased: items bought.
        shown: items listed, whether or not they were clicked.
    """

    touched: Ragged
    recent: Ragged
    purchased: Ragged
    shown: Ragged


FACET_FEATURES = ("touched", "touched_share", "recent_share", "purchased", "shown", "rate")
"""Features of each kind, see `facet_features`."""

PRIOR = 4.0
"""Impressions that the mean rate of a user weighs as much as, in the rate of a facet; our choice."""


def facet_features(facets: ItemFacets, histories: FacetHistories, candidates: np.ndarray) -> np.ndarray:
    """How often each user met the facets of each candidate.

    Args:
        facets: facets of the catalogue.
        histories: events of the users.
        candidates: item rows, -1 for padding, ``(users, candidates)``.

    Returns:
        float32 ``(users, candidates, len(FACET_FEATURES) × kinds)``, the kinds of the first feature first. With n(events) the number of
        events whose item shares a facet of the kind with the candidate (of several facets the most frequent one counts): log(1 + n) of
        the touched, purchased and shown items, n over the number of events of the touched and recent items, and the share of the shown
        ones that were touched, smoothed towards that of the user.
    """
    counts = _shared(facets, histories, candidates)  # (histories, users, candidates, kinds)
    touched, recent, _, shown = counts
    lengths = np.stack([np.maximum(part.lengths, 1) for part in histories]).astype(np.float32)[..., None, None]
    rate = np.minimum(lengths[0] / lengths[3], 1.0)
    features = np.empty((*candidates.shape, len(FACET_FEATURES), len(facets.kinds)), dtype=np.float32)
    features[:, :, [0, 3, 4]] = np.log1p(counts[[0, 2, 3]]).transpose(1, 2, 0, 3)
    features[:, :, 1] = touched / lengths[0]
    features[:, :, 2] = recent / lengths[1]
    features[:, :, 5] = np.log((touched + PRIOR * rate) / (shown + PRIOR) + 1e-3)
    return features.reshape(*candidates.shape, -1)


def _shared(facets: ItemFacets, histories: FacetHistories, candidates: np.ndarray) -> np.ndarray:
    """Number of events of each history that share a facet of each kind with each candidate, float32 ``(4, users, candidates, kinds)``."""
    users, width = candidates.shape
    kinds, count = len(facets.kinds), len(facets.kind_of)
    shared = np.zeros((len(histories), users * width * kinds), dtype=np.float32)
    own = facets.of_items.take(np.maximum(candidates, 0).reshape(-1))
    if not len(own.values):
        return shared.reshape(len(histories), users, width, kinds)
    place = np.arange(users * width).repeat(own.lengths)
    cells = place * kinds + facets.kind_of.take(own.values)  # ascending: an item's facets are, and so are the kinds of facets
    first = np.flatnonzero(np.concatenate([[True], cells[1:] != cells[:-1]]))
    events = facets.of_items.take(np.concatenate([part.values for part in histories]))
    rows = np.arange(len(histories) * users).repeat(np.concatenate([part.lengths for part in histories]))
    met = rows.repeat(events.lengths)
    met *= count
    met += events.values
    wanted = place // width * count + own.values if users > 1 else own.values
    wanted = (np.arange(len(histories)) * (users * count))[:, None] + wanted  # (histories, entries)
    found = occurrences(met, wanted, len(histories) * users * count)
    shared[:, cells[first]] = np.maximum.reduceat(found, first, axis=1)
    return shared.reshape(len(histories), users, width, kinds)


def _alone(numbers: np.ndarray, texts: list[str]) -> Values:
    rows = np.flatnonzero(numbers >= 0)
    return Values(rows, numbers[rows], texts)


def _texts(column: pa.ChunkedArray) -> Values:
    cleaned = pc.utf8_lower(pc.utf8_trim_whitespace(column.combine_chunks()))
    encoded = pc.if_else(pc.equal(pc.fill_null(cleaned, ""), ""), None, cleaned).dictionary_encode()
    return _alone(np.asarray(pc.fill_null(encoded.indices, -1), dtype=np.int64), encoded.dictionary.to_pylist())


def _lists(column: pa.ChunkedArray | pa.Array) -> Values:
    rows, values = flat_lists(column)
    encoded = pc.utf8_lower(pc.utf8_trim_whitespace(values)).dictionary_encode()
    return Values(rows, np.asarray(encoded.indices, dtype=np.int64), encoded.dictionary.to_pylist())


def _within(rows: np.ndarray) -> np.ndarray:
    """Place of each entry within its run of equal rows; `rows` is ascending."""
    starts = np.flatnonzero(np.concatenate([[True], rows[1:] != rows[:-1]])) if len(rows) else np.zeros(0, dtype=np.int64)
    sizes = np.diff(np.append(starts, len(rows)))
    return np.arange(len(rows)) - np.repeat(starts, sizes)


__all__ = ["FACET_FEATURES", "LEAST_ITEMS", "FacetHistories", "ItemFacets", "facet_features", "item_facets"]
