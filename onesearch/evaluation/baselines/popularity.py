"""Best sellers: of the catalogue, and of the category that a query asks for."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import Request

from ..retrievers import Ranking
from .text import BM25Retriever
from .training import TrainingLog, make_ranking, query_key, read_training_log

Category = tuple[str, ...]

_TEXT_HITS = 20


class PopularityRetriever:
    """The same ranking for everybody: training purchases, then training clicks, then catalogue order.

    Args:
        market: catalogue and sessions; only the training split is read.
        log: counts of the training split, if they are already at hand.
    """

    name = "popularity"

    def __init__(self, market: Market, *, log: TrainingLog | None = None):
        log = log or read_training_log(market)
        self.item_ids = log.item_ids
        self._order = log.popularity_order()
        self._scores = (log.purchases + log.clicks / (1 + log.clicks.sum()))[self._order]

    def retrieve(self, requests: Sequence[Request], top_k: int) -> list[Ranking]:
        """Rank by popularity."""
        return [make_ranking(self.item_ids, self._order[:top_k], self._scores[:top_k])] * len(requests)


class CategoryTree:
    """Items by category path, each path and each of its prefixes in order of popularity.

    Args:
        market: ``categories`` of an item run from coarse to fine; the whole list is its leaf.
        order: rows in order of popularity, ``(items,)``.
    """

    def __init__(self, market: Market, order: np.ndarray):
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
        """Leaves whose path has exactly the words of `query`."""
        return self._named.get(_words(query), [])


class PopularityInCategoryRetriever:
    """Best sellers of the category that the query asks for; then of its parents; then of the catalogue.

    The categories of a query are the leaves of the items purchased (else clicked) under it in training, with their shares.
    A query that training does not know takes the leaf with exactly its words (artificial category-path queries), else the
    majority leaf of BM25's top 20. Within several leaves an item ranks by share of its leaf × its share of the leaf's
    purchases.

    Args:
        market: catalogue and sessions; only the training split is read.
        text: BM25 over the same catalogue, for unknown queries; built if absent.
        log: counts of the training split, if they are already at hand.
        cache: answers kept for repeated queries.
    """

    name = "popularity_in_category"

    def __init__(self, market: Market, *, text: BM25Retriever | None = None, log: TrainingLog | None = None, cache: int = 4096):
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
        """Rank by tier and popularity; scores are 1 / rank, for counts of different tiers do not compare."""
        rankings = []
        for request in requests:
            rows = self.ranked_rows(request.query, top_k)
            rankings.append(make_ranking(self.item_ids, rows, 1.0 / np.arange(1, len(rows) + 1)))
        return rankings

    def category_shares(self, query: str) -> dict[Category, float]:
        """Leaves that `query` asks for, largest share first; empty if nothing is known of it."""
        purchased, clicked = self.log.by_query.get(query_key(query), ((), ()))
        counts: Mapping[Category, int] = Counter(self.tree.leaf_of[row] for row in purchased or clicked)
        if not counts:
            counts = {leaf: len(self.tree.in_leaf[leaf]) for leaf in self.tree.named(query)}
        if not counts:
            hits, _ = self._text.search_rows(query, _TEXT_HITS)
            counts = dict(Counter(self.tree.leaf_of[row] for row in hits).most_common(1))
        total = sum(counts.values())
        return {leaf: count / total for leaf, count in sorted(counts.items(), key=lambda pair: -pair[1])}

    def rows_in(self, shares: Mapping[Category, float], limit: int) -> list[int]:
        """The `limit` best rows of all leaves in `shares`, by share of the leaf × share of its purchases."""
        score: dict[int, float] = {}
        for leaf, share in shares.items():
            rows = self.tree.in_leaf[leaf][:limit]
            weights = self.log.purchases[rows] * (share / max(1, self._leaf_purchases[leaf]))
            score.update(zip(rows, weights.tolist()))
        return sorted(score, key=lambda row: (-score[row], self._position[row]))[:limit]

    def _ranked_rows(self, query: str, top_k: int) -> list[int]:
        shares = self.category_shares(query)
        rows = dict.fromkeys(self.rows_in(shares, top_k))
        leaf = next(iter(shares), ())
        for level in reversed(range(len(leaf))):
            if len(rows) < top_k:
                rows.update(dict.fromkeys(self.tree.under[leaf[:level]][:top_k]))
        rows.update(dict.fromkeys(self.order[:top_k].tolist()))
        return list(rows)[:top_k]


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower().replace("'", "")))
