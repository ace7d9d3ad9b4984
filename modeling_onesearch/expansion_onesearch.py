"""From beams to items: a few array operations rank the items of all SIDs that a batch of queries found.

Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .catalogue_state_onesearch import CatalogueState
from .columns_onesearch import gather


class FoundItems(NamedTuple):
    """Items of one query, best first.

    Args:
        rows: (items,) int64, rows of the catalogue.
        beams: (items,) int64, the beam that found each item.
        scores: (items,) float64, the score of each item.
    """

    rows: np.ndarray
    beams: np.ndarray
    scores: np.ndarray


class _Bucket(NamedTuple):
    """Items of some SIDs, SID by SID, inside one the most popular first.

    Args:
        rows: (items,) int64, rows of the catalogue.
        owners: (items,) int64, ascending, the place of each item's SID.
    """

    rows: np.ndarray
    owners: np.ndarray


def found_items(
    state: CatalogueState,
    mask: np.ndarray | None,
    leaves: np.ndarray,
    scores: np.ndarray,
    top_k: int,
    items_per_sid: int,
    rank_by: str,
) -> list[FoundItems]:
    """The best items of each query; `SidIndex.hits` documents arguments and order.

    1. List the items of all SIDs, SID by SID, with the log of their share in it.
    2. Keep the first `items_per_sid` of each SID.
    3. Sort the items of each query by score; equal scores keep the order of the beams.

    Args:
        state: the catalogue.
        mask: (rows,) bool, the items that may be found; None for all.
        leaves: (queries, beams) numbers of SIDs, -1 for none.
        scores: (queries, beams) log-probabilities, best first, -inf for none.
        top_k: the largest number of items per query.
        items_per_sid: the largest number of items of a SID.
        rank_by: see `RANKINGS`.
    """
    queries, beams = leaves.shape
    there = np.flatnonzero(((leaves >= 0) & (scores > -np.inf)).ravel())  # places in queries · beams
    bucket = _items_of(state, leaves.ravel()[there], mask)
    counts = np.bincount(bucket.owners, minlength=len(there))
    first = np.cumsum(counts) - counts
    owners = there[bucket.owners]
    values = scores.ravel()[owners].astype(np.float64)
    if rank_by == "item" and len(owners):
        values = values + _log_shares(state, bucket, counts, first)
    kept = np.arange(len(owners)) - first[bucket.owners] < items_per_sid
    rows, owners, values = bucket.rows[kept], owners[kept], values[kept]
    order = np.lexsort((-values, owners // beams)) if beams else np.zeros(0, dtype=np.int64)
    ends = np.searchsorted(owners, np.arange(queries + 1) * beams)
    found = []
    for begin, end in zip(ends[:-1].tolist(), ends[1:].tolist()):
        best = order[begin : min(end, begin + top_k)]
        found.append(FoundItems(rows[best], owners[best] % beams, values[best]))
    return found


def _items_of(state: CatalogueState, leaves: np.ndarray, mask: np.ndarray | None) -> _Bucket:
    """The items of some SIDs (n,), as `CatalogueState.rows_in_sid` lists those of one."""
    tables, updates, added = state.tables, state.updates, state.added
    base = len(tables.bucket_starts) - 1
    inside = np.where(leaves < base, leaves, 0)
    begin = tables.bucket_starts[inside].astype(np.int64)
    lengths = np.where(leaves < base, tables.bucket_starts[inside + 1] - begin, 0)
    rows, owners = tables.bucket_rows[_spans(begin, lengths)].astype(np.int64), np.repeat(np.arange(len(leaves)), lengths)
    if updates.removed is not None:
        kept = ~updates.removed[rows]
        rows, owners = rows[kept], owners[kept]
    if len(added.leaves):
        begin, end = np.searchsorted(added.leaves, leaves), np.searchsorted(added.leaves, leaves, side="right")
        rows = np.concatenate([rows, added.rows[_spans(begin, end - begin)]])
        owners = np.concatenate([owners, np.repeat(np.arange(len(leaves)), end - begin)])
        order = np.lexsort((rows, -gather(tables.popularity, updates.popularity, rows), owners))
        rows, owners = rows[order], owners[order]
    if mask is not None:
        kept = mask[rows]
        rows, owners = rows[kept], owners[kept]
    return _Bucket(rows, owners)


def _log_shares(state: CatalogueState, bucket: _Bucket, counts: np.ndarray, first: np.ndarray) -> np.ndarray:
    """`log_shares` of every item in its own SID, (items,).

    Args:
        state: the catalogue.
        bucket: the items.
        counts: (SIDs,) number of items of each SID.
        first: (SIDs,) place of the first one.
    """
    popularity = gather(state.tables.popularity, state.updates.popularity, bucket.rows)
    weights = np.maximum(popularity.astype(np.float64), 0.0) + 1.0
    sums = np.zeros(len(counts))
    sums[counts > 0] = np.add.reduceat(weights, first[counts > 0])
    return np.log(weights / sums[bucket.owners])


def _spans(begin: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The places `begin[i] … begin[i] + lengths[i] - 1` of all spans, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(begin - ends + lengths, lengths)


__all__ = ["FoundItems", "found_items"]
