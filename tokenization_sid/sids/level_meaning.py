"""What each level of the SIDs tells of category, brand and attributes: the claim of the papers that codes run from coarse to fine.

A prefix tells the value of an item if the *other* items under it have that value most often. If the item itself counted, every SID of a
single item would tell everything; so it tells no more than the prefix before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onesearch.data.market import Market
from onesearch.data.schema import ATTRIBUTE_TYPES
from onesearch.data.session_pairs import category_ids

from .prefixes import prefix_ids


def item_values(market: Market) -> dict[str, np.ndarray]:
    """Values of the items that codes may tell, of each kind.

    Returns:
        Kind → number of each item's value, int64 ``(items,)``, -1 without one: ``coarse category`` (the first of the path),
        ``category`` (the whole path), ``brand``, and each of `ATTRIBUTE_TYPES` with the first of an item's values. Kinds of which the
        items have fewer than two values are left out.
    """
    column = market.items.data.column
    attributes = column("attributes").combine_chunks()
    found = {"coarse category": category_ids(column("categories"), 1)[0], "category": category_ids(column("categories"))[0]}
    found["brand"] = _numbers(column("brand").combine_chunks())
    for kind in ATTRIBUTE_TYPES:
        values = category_ids(pc.struct_field(attributes, kind), 1)[0]
        found.setdefault(kind, values)
        if kind == "brand" and (found["brand"] < 0).all():
            found["brand"] = values
    return {name: values for name, values in found.items() if len(np.unique(values[values >= 0])) > 1}


def level_meaning(
    codes: np.ndarray, codebook_sizes: Sequence[int], values: Mapping[str, np.ndarray]
) -> dict[str, dict[str, Any]]:
    """Measure how well the prefixes of SIDs tell the values of the items.

    The value of an item is guessed as the most frequent value of the other items under its prefix; of equally frequent values, the one
    that is more frequent in the catalogue. An item that is alone under its prefix keeps the guess of the next shorter prefix; the empty
    prefix, all other items of the catalogue, is the guess without codes.

    Args:
        codes: ``(items, levels)``.
        codebook_sizes: codebook size of each level.
        values: kind → number of each item's value, ``(items,)``, -1 without one; see `item_values`.

    Returns:
        For each kind, over the items with a value:

        * ``items``, ``values``: numbers of items and of distinct values.
        * ``without_codes``: share of right guesses without codes.
        * ``accuracy``: share of right guesses with the prefixes of length 1, 2, …
        * ``told``: (accuracy − without_codes) / (1 − without_codes): 0 if a prefix tells nothing, 1 if it tells all. It may fall where few
            other items are left to guess from.
    """
    prefixes = prefix_ids(codes, codebook_sizes)
    found = {}
    for name, own in values.items():
        known = np.flatnonzero(own >= 0)
        numbers = np.unique(own[known], return_inverse=True)[1]
        counts = np.bincount(numbers)
        rank = np.argsort(np.argsort(counts, kind="stable"))
        right = _guess(np.zeros(len(numbers), dtype=np.int64), numbers, rank).right
        base, accuracy = float(right.mean()), []
        for ids in prefixes:
            guessed = _guess(ids[known], numbers, rank)
            right = np.where(guessed.alone, right, guessed.right)
            accuracy.append(float(right.mean()))
        found[name] = {
            "items": len(known),
            "values": len(counts),
            "without_codes": base,
            "accuracy": accuracy,
            "told": [(share - base) / (1 - base) for share in accuracy],
        }
    return found


def table(meaning: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown table of `level_meaning`: a row per kind of value, the share that each prefix tells."""
    if not meaning:
        return "the items have no category, brand or attribute with more than one value"
    levels = len(next(iter(meaning.values()))["told"])
    heads = ["1", *(f"1–{level}" for level in range(2, levels + 1))]
    lines = [
        "| told by level | items | values | guessed without codes | " + " | ".join(heads) + " |",
        "|---" * (4 + levels) + "|",
    ]
    for name, row in meaning.items():
        shares = " | ".join(f"{100 * share:.1f} %" for share in row["told"])
        lines.append(f"| {name} | {row['items']:,} | {row['values']:,} | {100 * row['without_codes']:.1f} % | {shares} |")
    return "\n".join(lines)


class _Guessed(NamedTuple):
    """Guesses of the items' values from the other items under the same prefix, each ``(items,)``.

    Attributes:
        right: whether the guess is the item's value.
        alone: whether there is no other item under the prefix, and so no guess.
    """

    right: np.ndarray
    alone: np.ndarray


def _guess(ids: np.ndarray, values: np.ndarray, rank: np.ndarray) -> _Guessed:
    """Guess the value of each item, all items of one prefix and value at once.

    A value scores count · values + rank, so that equal counts are ordered by the frequency in the catalogue. An item's own value has one
    item less, and is guessed if it still has the best score of the prefix.

    Args:
        ids: prefix of each item, ``(items,)``.
        values: value of each item, from 0 without gaps, ``(items,)``.
        rank: place of each value in the catalogue by frequency, the most frequent last, ``(values,)``.
    """
    number = len(rank)
    pairs, cell, counts = np.unique(ids.astype(np.int64) * number + values, return_inverse=True, return_counts=True)
    prefixes, own = np.divmod(pairs, number)
    score = counts * number + rank[own]
    order = np.lexsort((score, prefixes))
    prefixes, score = prefixes[order], score[order]
    first, last = np.searchsorted(prefixes, prefixes), np.searchsorted(prefixes, prefixes, side="right") - 1
    rival = np.where(np.arange(len(pairs)) == last, last - 1, last)  # the best other value of the cell's prefix
    has_rival = rival >= first
    best_other = np.where(has_rival, score[np.maximum(rival, 0)], -1)
    many = counts[order] > 1
    right, alone = np.empty(len(pairs), dtype=bool), np.empty(len(pairs), dtype=bool)
    right[order], alone[order] = many & (score - number > best_other), ~many & ~has_rival
    return _Guessed(right[cell], alone[cell])


def _numbers(column: pa.Array) -> np.ndarray:
    """Number of each text, int64, -1 for null and for an empty text."""
    texts = pc.if_else(pc.equal(pc.fill_null(column, ""), ""), None, column)
    return np.asarray(pc.fill_null(texts.dictionary_encode().indices, -1), dtype=np.int64)


__all__ = ["item_values", "level_meaning", "table"]
