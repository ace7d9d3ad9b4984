"""Popularity rankings: of the whole catalogue, and of the category that a query asks for."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import Request
from onesearch.data.text import query_key

from ..retrievers import Ranking
from .text import BM25Retriever
from .training import QueryRows, TrainingLog, make_ranking, read_training_log

Category = tuple[str, ...]
"""A category path from coarse to fine."""

_TEXT_HITS = 20
"""Number of BM25 hits whose majority category an unknown query gets; our choice."""


class PopularityRetriever:
    """Ranks all items by training purchases, then training clicks, then catalogue order: the same ranking for every request.

    Args:
        market: catalogue and sessions; only the training split is read.
        log: counts of the training split; computed if absent.
    """

    name = "popularity"

    def __init__(self, market: Market, *, log: TrainingLog | None = None) -> None:
        log = log or read_training_log(market)
        self.item_ids = log.item_ids
        self._order = log.popularity_order()
        self._scores = (log.purchases + log.clicks / (1 + log.clicks.sum()))[self._order]

    def retrieve(self, requests: Sequence[Request], top_k: int) -> list[Ranking]:
        """Rank items by popularity."""
        return [make_ranking(self.item_ids, self._order[:top_k], self._scores[:top_k])] * len(requests)


class CategoryTree:
    """Items by category. The leaf of an item is its whole category path.

    Args:
        market: catalogue.
        order: item rows in order of popularity, ``(items,)``.

    Attributes:
        leaf_of: leaf of each item, by row.
        in_leaf: rows of the items of each leaf, in order of popularity.
        under: rows of the items under each category path and each of its prefixes, in order of popularity.
    """

    def __init__(self, market: Market, order: np.ndarray) -> None:
        self.leaf_of: list[Category] = [tuple(path or ()) for path in market.items.data.column("categories").to_pylist()]
        self.in_leaf: dict[Category, list[int]] = defaultdict(list)
        self.under: dict[Category, list[int]] = defaultdict(list)
        self._named: dict[frozenset[str], list[Category]] = defaultdict(list)
        for row in order.tolist():
            leaf = self.leaf_of[row]
            self.in_leaf[leaf].append(row)
            for level in range(len(leaf) + 1):
                self.under[leaf[:level]].append(row)
        for leaf in self.in_leaf:
            self._named[_words(" ".join(leaf))].append(leaf)

    def named(self, query: str) -> list[Category]:
        """Return the leaves whose path has exactly the words of `query`."""
        return self._named.get(_words(query), [])


class PopularityInCategoryRetriever:
    """Ranks the popular items of the query's category first, then those of its parent categories, then those of the catalogue.

    The leaf categories of a query are, in this order:

    1. the leaves of the items purchased (without purchases: clicked) under the query in training, with their shares;
    2. for a query that training lacks, the leaves whose path has exactly its words, as artificial category-path queries do;
    3. otherwise the most frequent leaf among the 20 best items by BM25.

    With several leaves, an item ranks by the share of its leaf × the share of the item in the leaf's purchases.

    Args:
        market: catalogue and sessions; only the training split is read.
        text: BM25 over the same catalogue, for queries that training lacks; built if absent.
        log: counts of the training split; computed if absent.
        cache: number of queries whose rankings are kept.
    """

    name = "popularity_in_category"

    def __init__(
        self, market: Market, *, text: BM25Retriever | None = None, log: TrainingLog | None = None, cache: int = 4096
    ) -> None:
        self.log = log or read_training_log(market)
        self.item_ids = self.log.item_ids
        self.order = self.log.popularity_order()
        self.tree = CategoryTree(market, self.order)
        self._text = text or BM25Retriever(market)
        self._position = np.empty(len(self.order), dtype=np.int64)
        self._position[self.order] = np.arange(len(self.order))
        self._leaf_purchases: Counter[Category] = Counter()
        for leaf, count in zip(self.tree.leaf_of, self.log.purchases.tolist()):
            self._leaf_purchases[leaf] += count
        self.ranked_rows = lru_cache(maxsize=cache)(self._ranked_rows)

    def retrieve(self, requests: Sequence[Request], top_k: int) -> list[Ranking]:
        """Rank items by category and popularity. Scores are 1 / rank, because counts of different categories do not compare."""
        rankings = []
        for request in requests:
            rows = self.ranked_rows(request.query, top_k)
            rankings.append(make_ranking(self.item_ids, rows, 1.0 / np.arange(1, len(rows) + 1)))
        return rankings

    def category_shares(self, query: str) -> dict[Category, float]:
        """Return the leaves that `query` asks for with their shares, largest first; empty if no step finds a leaf."""
        known = self.log.by_query.get(query_key(query), QueryRows([], []))
        counts: Mapping[Category, int] = Counter(self.tree.leaf_of[row] for row in known.purchased or known.clicked)
        if not counts:
            counts = {leaf: len(self.tree.in_leaf[leaf]) for leaf in self.tree.named(query)}
        if not counts:
            hits, _ = self._text.search_rows(query, _TEXT_HITS)
            counts = dict(Counter(self.tree.leaf_of[row] for row in hits).most_common(1))
        total = sum(counts.values())
        return {leaf: count / total for leaf, count in sorted(counts.items(), key=lambda pair: -pair[1])}

    def rows_in(self, shares: Mapping[Category, float], limit: int) -> list[int]:
        """Return the best item rows of several leaves.

        Args:
            shares: share of each leaf.
            limit: largest number of rows.
        """
        score: dict[int, float] = {}
        for leaf, share in shares.items():
            rows = self.tree.in_leaf[leaf][:limit]
            weights = self.log.purchases[rows] * (share / max(1, self._leaf_purchases[leaf]))
            score.update(zip(rows, weights.tolist()))
        return sorted(score, key=lambda row: (-score[row], self._position[row]))[:limit]

    def _ranked_rows(self, query: str, top_k: int) -> list[int]:
        """Item rows for a query, best first."""
        shares = self.category_shares(query)
        rows = dict.fromkeys(self.rows_in(shares, top_k))
        leaf = next(iter(shares), ())
        for level in reversed(range(len(leaf))):
            if len(rows) < top_k:
                rows.update(dict.fromkeys(self.tree.under[leaf[:level]][:top_k]))
        rows.update(dict.fromkeys(self.order[:top_k].tolist()))
        return list(rows)[:top_k]


def _words(text: str) -> frozenset[str]:
    """The words of a text in lower case, without apostrophes."""
    return frozenset(re.findall(r"\w+", text.lower().replace("'", "")))
