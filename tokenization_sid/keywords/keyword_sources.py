"""Clicked pairs of the training sessions, from which keywords are mined. The values of the items are in `catalogue_values.py`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix

from onesearch.data.market import Market
from onesearch.data.session_pairs import session_items, sessions_per_item

from .matching import normalise
from .phrases import phrases_of

MAX_QUERIES = 200_000
"""Upper bound of the distinct training queries that are read, those with the most clicked pairs first. Our choice."""

_PAIRS_AT_ONCE = 200_000


@dataclass(frozen=True)
class ClickLog:
    """Behaviour of the training split. A clicked pair is a query and an item that was clicked or bought after it.

    Args:
        item_views: (items,) 1 plus the number of sessions that showed the item or in which it was clicked or bought.
        queries: distinct normalised queries.
        pair_queries: (pairs,) row of the query of each distinct clicked pair.
        pair_items: (pairs,) row of its item.
        pair_counts: (pairs,) float64 number of its occurrences.
    """

    item_views: np.ndarray
    queries: list[str]
    pair_queries: np.ndarray
    pair_items: np.ndarray
    pair_counts: np.ndarray

    @classmethod
    def read(cls, market: Market) -> ClickLog:
        """Behaviour of a market's training sessions."""
        views = 1.0 + sessions_per_item(market, "train", ("impressed", "clicked", "purchased"))
        sessions, items = session_items(market, "train", ("clicked", "purchased"))
        asked = market.sessions.data.column("query").combine_chunks().take(pa.array(sessions))
        found = _numbered(asked)
        kept = _most_clicked(found.rows)
        pairs, counts = np.unique(found.rows[kept] * len(market.items) + items[kept], return_counts=True)
        pair_queries, pair_items = np.divmod(pairs, max(len(market.items), 1))
        return cls(views, found.texts, pair_queries, pair_items, counts.astype(float))

    def phrases(self, min_pairs: int) -> set[str]:
        """Phrases of queries (`phrases_of`) with at least `min_pairs` clicked pairs."""
        clicks = np.bincount(self.pair_queries, self.pair_counts, minlength=len(self.queries))
        counts: Counter[str] = Counter()
        for row in np.flatnonzero(clicks).tolist():
            counts.update(dict.fromkeys(phrases_of(self.queries[row]), clicks[row]))
        return {phrase for phrase, count in counts.items() if count >= min_pairs}

    def support(self, named: csr_matrix, carries: csr_matrix) -> np.ndarray:
        """Number of clicked pairs whose query names a text that the item carries.

        Args:
            named: (queries, texts) of ones.
            carries: (items, texts) of ones.

        Returns:
            (texts,) float64.
        """
        support = np.zeros(named.shape[1])
        for start in range(0, len(self.pair_counts), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            both = named[self.pair_queries[part]].multiply(carries[self.pair_items[part]])
            support += both.T @ self.pair_counts[part]
        return support


def incidence(rows: Sequence[Iterable[int]], columns: int) -> csr_matrix:
    """Matrix (rows, columns) of ones at the columns of each row."""
    lists = [list(of_row) for of_row in rows]
    ends = np.cumsum([0, *(len(of_row) for of_row in lists)])
    flat = np.fromiter((column for of_row in lists for column in of_row), dtype=np.int64, count=int(ends[-1]))
    return csr_matrix((np.ones(len(flat)), flat, ends), shape=(len(lists), columns))


class _Numbered(NamedTuple):
    """Distinct normalised texts of a column, and the row of each of its entries in them, -1 for a blank one."""

    texts: list[str]
    rows: np.ndarray


def _numbered(column: pa.Array) -> _Numbered:
    encoded = column.dictionary_encode()
    plain = [normalise(text) for text in encoded.dictionary.to_pylist()]
    texts = list(dict.fromkeys(text for text in plain if text))
    if not plain:
        return _Numbered(texts, np.empty(0, dtype=np.int64))
    row_of = {text: row for row, text in enumerate(texts)}
    rows = np.array([row_of.get(text, -1) for text in plain], dtype=np.int64)
    return _Numbered(texts, rows[np.asarray(encoded.indices, dtype=np.int64)])


def _most_clicked(rows: np.ndarray) -> np.ndarray:
    """(entries,) bool: whether an entry belongs to one of the `MAX_QUERIES` most frequent queries, for query rows (entries,)."""
    counts = np.bincount(rows[rows >= 0])
    if len(counts) <= MAX_QUERIES:
        return rows >= 0
    chosen = np.zeros(len(counts), dtype=bool)
    chosen[np.argsort(-counts, kind="stable")[:MAX_QUERIES]] = True
    return (rows >= 0) & chosen[rows]


__all__ = ["ClickLog", "incidence"]
