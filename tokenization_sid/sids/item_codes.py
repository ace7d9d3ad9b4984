"""Codes of items as an item index takes them, with their popularity."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onesearch.data.market import Market
from onesearch.data.session_pairs import query_rows, session_items

from ..embedding.embeddings import distinct_queries


@dataclass(frozen=True)
class ItemCodes:
    """Codes of a catalogue or of new items.

    Args:
        item_ids: ids as in the items table.
        codes: (items, levels).
        popularity: (items,) number of purchases in the training split, where a click counts as 0.01 purchases; 0 for new items.
        codebook_sizes: codebook size of each level.
        fingerprint: fingerprint of the codebooks.
        categories: per item its category path from coarse to fine.
    """

    item_ids: list[str]
    codes: np.ndarray
    popularity: np.ndarray
    codebook_sizes: tuple[int, ...]
    fingerprint: str
    categories: list[list[str]] = field(default_factory=list)


def item_popularity(market: Market, item_ids: list[str]) -> np.ndarray:
    """Popularity in the searches of the training split: purchases, and a click as 0.01 purchases. It ranks items that share a SID.

    Args:
        market: sessions and catalogue.
        item_ids: items of the market, in the order of the result.

    Returns:
        (items,) float32.
    """
    asked = query_rows(market, distinct_queries(market)) >= 0
    counts = np.zeros(len(market.items))
    for kind, weight in (("purchased", 1.0), ("clicked", 0.01)):
        sessions, items = session_items(market, "train", (kind,))
        counts += weight * np.bincount(items[asked[sessions]], minlength=len(counts))
    column = market.items.data.column("item_id").combine_chunks()
    rows = pc.index_in(pa.array(item_ids, column.type), value_set=column)
    return counts.astype(np.float32)[np.asarray(rows, dtype=np.int64)]


__all__ = ["ItemCodes", "item_popularity"]
