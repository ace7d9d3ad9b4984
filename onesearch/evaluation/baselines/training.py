"""Counts over the training split, from which the baselines are fitted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import SPLITS, split_sessions
from onesearch.data.text import query_key

from ..retrievers import Ranking

_RARE_REPEAT = 0.01
"""Below this share of repeated interactions, items of the history are not ranked; our choice."""


class QueryRows(NamedTuple):
    """Rows of the items purchased and clicked under one query; an item occurs once per event."""

    purchased: list[int]
    clicked: list[int]


@dataclass(frozen=True)
class TrainingLog:
    """Counts over the training sessions. Items outside the catalogue are left out, because they cannot be ranked.

    Args:
        item_ids: ids of the catalogue as objects, ``(items,)``.
        row_of: row of each item id.
        purchases: number of purchases of each item, ``(items,)``.
        clicks: number of clicks on each item, ``(items,)``.
        by_query: rows purchased and clicked under each query, by `query_key`.
        users: number of the user of every interaction, user by user and from old to new, ``(interactions,)``.
        rows: row of the item of every interaction, in the same order, ``(interactions,)``.
    """

    item_ids: np.ndarray
    row_of: dict[str, int]
    purchases: np.ndarray
    clicks: np.ndarray
    by_query: dict[str, QueryRows]
    users: np.ndarray
    rows: np.ndarray

    def popularity_order(self) -> np.ndarray:
        """Return item rows by purchases, then clicks, then catalogue order, ``(items,)``."""
        return np.lexsort((-self.clicks, -self.purchases))

    def repeat_share(self) -> float:
        """Return the share of interactions with an item that the same user had interacted with before."""
        if not len(self.rows):
            return 0.0
        return 1 - len(np.unique(self.users * len(self.item_ids) + self.rows)) / len(self.rows)

    def repeats_are_rare(self) -> bool:
        """Whether repeated interactions are so few that the items of a history should not be ranked again."""
        return self.repeat_share() < _RARE_REPEAT


def read_training_log(market: Market) -> TrainingLog:
    """Count the clicks and purchases of the training sessions of `market`.

    Raises:
        ValueError: the catalogue is empty.
    """
    item_ids = np.array(market.items.data.column("item_id").to_pylist(), dtype=object)
    if not len(item_ids):
        raise ValueError("the market has no items; there is nothing to rank")
    row_of = {item: row for row, item in enumerate(item_ids)}
    by_query: dict[str, QueryRows] = {}
    histories: dict[str, list[int]] = defaultdict(list)
    for user_id, query, clicked, purchased in _training_sessions(market):
        bought = [row_of[item] for item in purchased if item in row_of]
        seen = [row_of[item] for item in clicked if item in row_of]
        under_query = by_query.setdefault(query_key(query), QueryRows([], []))
        under_query.purchased.extend(bought)
        under_query.clicked.extend(seen)
        histories[user_id].extend([row for row in seen if row not in bought] + bought)
    lengths = [len(rows) for rows in histories.values()]
    return TrainingLog(
        item_ids=item_ids,
        row_of=row_of,
        purchases=_count((rows.purchased for rows in by_query.values()), len(item_ids)),
        clicks=_count((rows.clicked for rows in by_query.values()), len(item_ids)),
        by_query=by_query,
        users=np.repeat(np.arange(len(lengths), dtype=np.int64), lengths),
        rows=np.array([row for rows in histories.values() for row in rows], dtype=np.int64),
    )


def make_ranking(item_ids: np.ndarray, rows: np.ndarray | Sequence[int], scores: np.ndarray) -> Ranking:
    """Make a ranking of catalogue rows that are already in order.

    Args:
        item_ids: ids of the catalogue, ``(items,)``.
        rows: rows of the ranked items, best first, ``(hits,)``.
        scores: their scores, ``(hits,)``.
    """
    return Ranking(tuple(item_ids[rows].tolist()), tuple(np.asarray(scores, dtype=float).tolist()))


def best_rows(scores: np.ndarray, top_k: int) -> np.ndarray:
    """Return the positions of the `top_k` largest scores, best first; equal scores stay in their order."""
    if top_k < len(scores):
        threshold = np.partition(scores, len(scores) - top_k)[len(scores) - top_k]
        kept = np.flatnonzero(scores >= threshold)
    else:
        kept = np.arange(len(scores))
    return kept[np.argsort(-scores[kept], kind="stable")][:top_k]


def _count(groups: Iterable[list[int]], items: int) -> np.ndarray:
    """How often each row occurs in all groups together, ``(items,)``."""
    rows = [row for group in groups for row in group]
    return np.bincount(np.array(rows, dtype=np.int64), minlength=items)


def _training_sessions(market: Market) -> list[tuple[str, str, list[str], list[str]]]:
    """User, query, clicked items and purchased items of every training session."""
    training = np.flatnonzero(split_sessions(market) == SPLITS.index("train"))
    table = market.sessions.data.table.take(training)
    columns = (table.column(name).to_pylist() for name in ("user_id", "query", "clicked", "purchased"))
    return list(zip(*columns))
