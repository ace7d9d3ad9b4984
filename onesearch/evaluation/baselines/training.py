"""What the baselines learn from: counts over the training split, and nothing after it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import SPLITS, split_sessions

from ..retrievers import Ranking


@dataclass(frozen=True)
class TrainingLog:
    """Counts over the training sessions. Items outside the catalogue cannot be ranked and are left out.

    Args:
        item_ids: of the catalogue, ``(items,)``, objects.
        row_of: item id → row.
        purchases, clicks: counts per item, ``(items,)``.
        by_query: query key → purchased rows and clicked rows under this query, with repetitions.
        users, rows: every interaction in user order, oldest first, ``(interactions,)``: number of the user, row of the item.
    """

    item_ids: np.ndarray
    row_of: dict[str, int]
    purchases: np.ndarray
    clicks: np.ndarray
    by_query: dict[str, tuple[list[int], list[int]]]
    users: np.ndarray
    rows: np.ndarray

    def popularity_order(self) -> np.ndarray:
        """Rows by purchases, then clicks, then catalogue order, ``(items,)``."""
        return np.lexsort((-self.clicks, -self.purchases))

    def repeat_share(self) -> float:
        """Share of the interactions with an item that the same user had before."""
        if not len(self.rows):
            return 0.0
        return 1 - len(np.unique(self.users * len(self.item_ids) + self.rows)) / len(self.rows)


def query_key(query: str) -> str:
    """Form under which a query is counted: lower case, single spaces."""
    return " ".join(query.lower().split())


def read_training_log(market: Market) -> TrainingLog:
    """Count the training sessions of `market`.

    Raises:
        ValueError: the catalogue is empty.
    """
    item_ids = np.array(market.items.data.column("item_id").to_pylist(), dtype=object)
    if not len(item_ids):
        raise ValueError("the market has no items; there is nothing to rank")
    row_of = {item: row for row, item in enumerate(item_ids)}
    by_query: dict[str, tuple[list[int], list[int]]] = {}
    histories: dict[str, list[int]] = defaultdict(list)
    for user_id, query, clicked, purchased in _training_sessions(market):
        bought = [row_of[item] for item in purchased if item in row_of]
        seen = [row_of[item] for item in clicked if item in row_of]
        under_query = by_query.setdefault(query_key(query), ([], []))
        under_query[0].extend(bought)
        under_query[1].extend(seen)
        histories[user_id].extend([row for row in seen if row not in bought] + bought)
    lengths = [len(rows) for rows in histories.values()]
    return TrainingLog(
        item_ids=item_ids,
        row_of=row_of,
        purchases=_count((rows[0] for rows in by_query.values()), len(item_ids)),
        clicks=_count((rows[1] for rows in by_query.values()), len(item_ids)),
        by_query=by_query,
        users=np.repeat(np.arange(len(lengths), dtype=np.int64), lengths),
        rows=np.array([row for rows in histories.values() for row in rows], dtype=np.int64),
    )


def make_ranking(item_ids: np.ndarray, rows: np.ndarray | Sequence[int], scores: np.ndarray) -> Ranking:
    """Ranking of catalogue rows that are already in order."""
    return Ranking(tuple(item_ids[rows].tolist()), tuple(np.asarray(scores, dtype=float).tolist()))


def best_rows(scores: np.ndarray, top_k: int) -> np.ndarray:
    """Positions of the `top_k` largest scores, best first; equal scores stay in their order."""
    if top_k < len(scores):
        threshold = np.partition(scores, len(scores) - top_k)[len(scores) - top_k]
        kept = np.flatnonzero(scores >= threshold)
    else:
        kept = np.arange(len(scores))
    return kept[np.argsort(-scores[kept], kind="stable")][:top_k]


def _count(groups: object, items: int) -> np.ndarray:
    rows = [row for group in groups for row in group]
    return np.bincount(np.array(rows, dtype=np.int64), minlength=items)


def _training_sessions(market: Market) -> list[tuple[str, str, list[str], list[str]]]:
    training = np.flatnonzero(split_sessions(market) == SPLITS.index("train"))
    table = market.sessions.data.table.take(training)
    columns = (table.column(name).to_pylist() for name in ("user_id", "query", "clicked", "purchased"))
    return list(zip(*columns))
