"""How well an encoder agrees with behaviour of held-out sessions: recall over the whole catalogue, and cosines of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from onesearch.data.market import Market
from onesearch.data.requests import SPLITS, request_rows, split_sessions
from onesearch.data.session_pairs import query_rows, session_items
from onesearch.data.user_logs import UserLogs

from .configs import PAIR_KINDS, MiningConfig
from .pairs import cosines, distinct_rows, mine_pairs

CUTOFFS = (10, 100)
"""Numbers K of nearest items for which recall is measured."""

SCORES_AT_ONCE = 20_000_000
"""Number of query–item scores that are held at a time; it bounds the memory."""


def measure(
    market: Market, queries: list[str], query_vectors: np.ndarray, item_vectors: np.ndarray, split: str = "validation"
) -> dict[str, Any]:
    """Measure recall and alignment on the sessions of one split.

    Args:
        market: sessions and catalogue.
        queries: texts of the rows of `query_vectors`.
        query_vectors: (queries, dimension) unit vectors.
        item_vectors: (items, dimension) unit vectors, in the order of the items table.
        split: ``train``, ``validation`` or ``test``.

    Returns:
        ``recall``: for ``purchase`` and ``click`` the ``recall@10``, ``recall@100`` and number of ``requests``. ``alignment``: for each
        kind of pair the mean cosine of the ``positive`` pairs, that of equally many ``random`` pairs (left rows shuffled), and the
        number of ``pairs``; the means are None without pairs.
    """
    found: dict[str, Any] = {"recall": {}, "alignment": {}}
    rows = query_rows(market, queries)
    for kind, column in (("purchase", "purchased"), ("click", "clicked")):
        sessions, items = session_items(market, split, (column,))
        usable = rows[sessions] >= 0
        found["recall"][kind] = recall(sessions[usable], rows[sessions[usable]], items[usable], query_vectors, item_vectors)
    pairs = held_out_pairs(market, queries, split)
    for kind in PAIR_KINDS:
        found["alignment"][kind] = _alignment(pairs[kind], *pair_sides(kind, query_vectors, item_vectors))
    return found


def pair_sides(kind: str, query_vectors: np.ndarray, item_vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of the left and of the right rows of one of `PAIR_KINDS`, out of (queries, dimension) and (items, dimension)."""
    sides = {"q": query_vectors, "i": item_vectors}
    left, right = kind.split("2")
    return sides[left], sides[right]


def recall(
    requests: np.ndarray,
    query_rows: np.ndarray,
    items: np.ndarray,
    query_vectors: np.ndarray,
    item_vectors: np.ndarray,
    cutoffs: Sequence[int] = CUTOFFS,
) -> dict[str, float]:
    """Share of a request's items among the K nearest of the whole catalogue, averaged over requests.

    Args:
        requests: (targets,) request of each target.
        query_rows: (targets,) row of its query.
        items: (targets,) row of the item.
        query_vectors: (queries, dimension).
        item_vectors: (items, dimension).
        cutoffs: numbers K.

    Returns:
        ``recall@K`` for each cutoff, and the number of ``requests``. Of equal scores the earlier item counts as nearer.
    """
    ranks = target_ranks(query_rows, items, query_vectors, item_vectors)
    _, place, sizes = np.unique(requests, return_inverse=True, return_counts=True)
    found: dict[str, float] = {"requests": len(sizes)}
    for cutoff in cutoffs:
        shares = np.bincount(place, weights=ranks < cutoff, minlength=len(sizes)) / sizes
        found[f"recall@{cutoff}"] = float(shares.mean()) if len(sizes) else 0.0
    return found


def target_ranks(query_rows: np.ndarray, items: np.ndarray, query_vectors: np.ndarray, item_vectors: np.ndarray) -> np.ndarray:
    """Rank of each target in the whole catalogue by inner product, counted from 0.

    Args:
        query_rows: (targets,) row of the query.
        items: (targets,) row of the item.
        query_vectors: (queries, dimension).
        item_vectors: (items, dimension).

    Returns:
        (targets,) int64. Of equal scores the earlier item comes first.
    """
    ranks = np.empty(len(items), dtype=np.int64)
    step = max(1, SCORES_AT_ONCE // max(len(item_vectors), 1))
    place = np.arange(len(item_vectors))
    for start in range(0, len(items), step):
        cut = slice(start, start + step)
        scores = query_vectors[query_rows[cut]] @ item_vectors.T
        own = np.take_along_axis(scores, items[cut, None], axis=1)
        before = (scores == own) & (place < items[cut, None])
        ranks[cut] = (scores > own).sum(axis=1) + before.sum(axis=1)
    return ranks


def held_out_pairs(market: Market, queries: list[str], split: str = "validation") -> dict[str, np.ndarray]:
    """Positive pairs of one split to measure cosines on.

    ``q2q`` and ``q2i`` are those of `mine_pairs`. ``i2i`` pairs the last item of a user's history with the next item.

    Args:
        market: sessions and catalogue.
        queries: texts whose positions are the rows of queries.
        split: ``train``, ``validation`` or ``test``.

    Returns:
        For each of `PAIR_KINDS` (pairs, 2) int64 rows.
    """
    pairs = mine_pairs(market, queries, MiningConfig(), split)
    logs, requests = UserLogs(market), request_rows(market, split)
    begin, end = logs.touched.last(requests, 1)
    has_past = begin < end
    last = np.full(len(market.sessions), -1, dtype=np.int64)  # row of the item before each request, (sessions,)
    last[requests[has_past]] = logs.touched.values[begin[has_past]]
    sessions, items = logs.own("clicked", "purchased")
    chains = np.stack([last[sessions], items], axis=1)
    chains = chains[(chains[:, 0] >= 0) & (chains[:, 0] != chains[:, 1])]
    return {**pairs, "i2i": distinct_rows(chains)}


def held_out_queries(market: Market) -> set[str]:
    """Queries that are asked in the validation or the test sessions."""
    held = pa.array(split_sessions(market) != SPLITS.index("train"))
    return set(market.sessions.data.column("query").combine_chunks().filter(held).to_pylist())


def _alignment(pairs: np.ndarray, left: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    """Mean cosine of `pairs` (pairs, 2) and of equally many random pairs."""
    if not len(pairs):
        return {"pairs": 0, "positive": None, "random": None}
    shuffled = np.stack([np.random.default_rng(0).permutation(pairs[:, 0]), pairs[:, 1]], axis=1)
    means = {name: float(cosines(rows, left, right).mean()) for name, rows in (("positive", pairs), ("random", shuffled))}
    return {"pairs": len(pairs), **means}


def table(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Two results of `measure` side by side, one measure per line."""
    lines = [f"{'':28}{'before':>10}{'after':>10}"]
    for kind, values in before["recall"].items():
        for name in (f"recall@{cutoff}" for cutoff in CUTOFFS):
            lines.append(f"{f'{kind} {name}':28}{values[name]:10.4f}{after['recall'][kind][name]:10.4f}")
    for kind, values in before["alignment"].items():
        if values["pairs"]:
            for name in ("positive", "random"):
                lines.append(f"{f'{kind} cosine, {name} pairs':28}{values[name]:10.4f}{after['alignment'][kind][name]:10.4f}")
    return "\n".join(lines)


__all__ = ["held_out_pairs", "held_out_queries", "measure", "pair_sides", "recall", "table", "target_ranks"]
