"""What an encoder knows of behaviour it has not seen: recall of whole-catalogue search and cosines of pairs, on held-out sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from onesearch.data.market import Market
from onesearch.data.requests import SPLITS, build_requests, split_sessions
from onesearch.data.session_pairs import query_rows, session_items

from .configs import PAIR_KINDS, MiningConfig
from .pairs import cosines, mine_pairs

CUTOFFS = (10, 100)
SCORES_AT_ONCE = 20_000_000


def measure(
    market: Market, queries: list[str], query_vectors: np.ndarray, item_vectors: np.ndarray, split: str = "validation"
) -> dict[str, Any]:
    """Recall and alignment on the sessions of one split.

    Args:
        queries: texts of the rows of `query_vectors`.
        query_vectors, item_vectors: unit rows, (queries, dimension) and (items, dimension).

    Returns:
        ``recall``: per kind of target ``recall@10``, ``recall@100`` and the number of ``requests``. ``alignment``: per kind of pair the
        mean cosine of ``positive`` pairs, of as many ``random`` ones (left rows shuffled) and how many ``pairs`` there are; None without.
    """
    found: dict[str, Any] = {"recall": {}, "alignment": {}}
    rows = query_rows(market, queries)
    for kind, column in (("purchase", "purchased"), ("click", "clicked")):
        sessions, items = session_items(market, split, (column,))
        usable = rows[sessions] >= 0
        found["recall"][kind] = recall(sessions[usable], rows[sessions[usable]], items[usable], query_vectors, item_vectors)
    sides = {"q2q": (query_vectors, query_vectors), "i2i": (item_vectors, item_vectors), "q2i": (query_vectors, item_vectors)}
    pairs = held_out_pairs(market, queries, split)
    for kind in PAIR_KINDS:
        found["alignment"][kind] = _alignment(pairs[kind], *sides[kind])
    return found


def recall(
    requests: np.ndarray,
    query_rows: np.ndarray,
    items: np.ndarray,
    query_vectors: np.ndarray,
    item_vectors: np.ndarray,
    cutoffs: Sequence[int] = CUTOFFS,
) -> dict[str, float]:
    """Mean over requests of the share of their items among the K nearest of the whole catalogue.

    Args:
        requests, query_rows, items: (targets,) each, aligned: which request, its query's row, the row of an item it led to.

    Returns:
        ``recall@K`` per cutoff and the number of ``requests``. Of equal scores the earlier item counts as nearer.
    """
    ranks = target_ranks(query_rows, items, query_vectors, item_vectors)
    _, place, sizes = np.unique(requests, return_inverse=True, return_counts=True)
    found: dict[str, float] = {"requests": len(sizes)}
    for cutoff in cutoffs:
        shares = np.bincount(place, weights=ranks < cutoff, minlength=len(sizes)) / sizes
        found[f"recall@{cutoff}"] = float(shares.mean()) if len(sizes) else 0.0
    return found


def target_ranks(query_rows: np.ndarray, items: np.ndarray, query_vectors: np.ndarray, item_vectors: np.ndarray) -> np.ndarray:
    """(targets,) place of each item in the order of the whole catalogue by inner product, counted from 0."""
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
    """Positive pairs of one split, (pairs, 2) rows per kind: queries that led to one item, the last item of a user's history with the next
    one, queries with the items they led to.
    """
    pairs = mine_pairs(market, queries, MiningConfig(), split)
    item_ids = market.items.data.column("item_id").to_pylist()
    row = dict(zip(item_ids, range(len(item_ids))))
    requests = build_requests(market, split, max_history=1)
    chains = {
        (row[last], row[item])
        for request in requests
        for last in request.history
        for item in (*request.clicked, *request.purchased)
        if item != last and last in row and item in row
    }
    return {**pairs, "i2i": np.array(sorted(chains), dtype=np.int64).reshape(-1, 2)}


def held_out_queries(market: Market) -> set[str]:
    """Queries that are asked in the validation or the test sessions."""
    held = pa.array(split_sessions(market) != SPLITS.index("train"))
    return set(market.sessions.data.column("query").combine_chunks().filter(held).to_pylist())


def _alignment(pairs: np.ndarray, left: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    if not len(pairs):
        return {"pairs": 0, "positive": None, "random": None}
    shuffled = np.stack([np.random.default_rng(0).permutation(pairs[:, 0]), pairs[:, 1]], axis=1)
    means = {name: float(cosines(rows, left, right).mean()) for name, rows in (("positive", pairs), ("random", shuffled))}
    return {"pairs": len(pairs), **means}


def table(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Before and after side by side, one measure per line."""
    lines = [f"{'':28}{'before':>10}{'after':>10}"]
    for kind, values in before["recall"].items():
        for name in (f"recall@{cutoff}" for cutoff in CUTOFFS):
            lines.append(f"{f'{kind} {name}':28}{values[name]:10.4f}{after['recall'][kind][name]:10.4f}")
    for kind, values in before["alignment"].items():
        if values["pairs"]:
            for name in ("positive", "random"):
                lines.append(f"{f'{kind} cosine, {name} pairs':28}{values[name]:10.4f}{after['alignment'][kind][name]:10.4f}")
    return "\n".join(lines)
