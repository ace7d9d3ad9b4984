"""A cascade: recall by text, category and query log, then one linear ranking of the recalled items.

OneSearch replaces a system of this kind. `tune` fits the weights on validation requests. `boosted.py` ranks the same items by trees.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import Request
from onesearch.data.text import query_key

from ..retrievers import Ranking
from .popularity import PopularityInCategoryRetriever
from .text import BM25Retriever
from .training import QueryRows, TrainingLog, best_rows, make_ranking, read_training_log
from .transitions import Transitions

_CLICK_SHARE = 0.3
"""A click counts as this share of a purchase; our choice."""

_GRID = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Values that `tune` tries for each weight."""

_TUNED_CUTOFF = 10
"""Cutoff of the NDCG that `tune` maximises."""

MAX_HISTORY = 20
"""Number of latest items of a history that are read; KuaiSearch publishes 20."""


@dataclass(frozen=True, slots=True)
class CascadeWeights:
    """Weights of the ranking features. Only their ratios matter; raising one makes its feature decide more often.

    The defaults are our choice, close to the result of tuning on the validation split of Amazon Beauty, whose queries are category
    paths. For queries that users typed, `text` should be larger: call `CascadeRetriever.tune`.

    Args:
        transition: weight of the transitions between the user's latest items and the item in training histories.
        brand: weight of the share of the item's brand in the user's latest items.
        text: weight of the BM25 score, divided by the best score of the query.
        category: weight of the share of the item's leaf category among the items bought (or clicked) under the query.
        query: weight of the item's purchases and clicks under the same query, divided by the largest of the query.
        popularity: weight of the logarithm of purchases and clicks, divided by the largest of the catalogue.
    """

    transition: float = 1.0
    brand: float = 0.3
    text: float = 0.03
    category: float = 1.0
    query: float = 0.1
    popularity: float = 0.03


class _Recalled(NamedTuple):
    """Items recalled for a query: the part that does not depend on the user.

    Args:
        rows: item rows in order of popularity, ``(candidates,)``.
        features: text, category, query and popularity features, ``(candidates, 4)``.
    """

    rows: np.ndarray
    features: np.ndarray


class _Example(NamedTuple):
    """One request for tuning.

    Args:
        features: features of the candidates, ``(candidates, 6)``.
        targets: positions of the targets among the candidates, ``(targets,)``.
        ideal: DCG of the best possible order.
    """

    features: np.ndarray
    targets: np.ndarray
    ideal: float


class CascadeRetriever:
    """Recalls several hundred items, then ranks them by a linear combination of six features (`CascadeWeights`).

    * Recall: the best items by BM25, the popular items of the query's categories, and the items bought or clicked under the same
      query in training. If fewer than `top_k` items remain, popular items follow.
    * Rank: each of the user's latest items votes for the items close to it in training histories. The latest item has weight 1,
      the one before it weight `decay`, and so on. Text, category, query log and popularity rank the items without votes.
    * The history is read as far as its last 20 items; the last five of them vote.
    * Items of the history are excluded if repeated interactions are fewer than 1 % of the training interactions.

    Args:
        market: catalogue and sessions; only the training split is read.
        text: BM25 over the same catalogue; built if absent.
        log: counts of the training split; computed if absent.
        weights: weights of the features.
        recall_text: largest number of items recalled by BM25.
        recall_category: largest number of items recalled by category.
        history: number of latest items that vote.
        decay: weight of an item's vote relative to that of the next newer item.
        window: largest distance of two items in a training history that counts as a transition.
        window_decay: factor on a transition's weight per further position of distance.
        cache: number of queries whose recalled items are kept.
    """

    name = "cascade_linear"

    def __init__(
        self,
        market: Market,
        *,
        text: BM25Retriever | None = None,
        log: TrainingLog | None = None,
        weights: CascadeWeights | None = None,
        recall_text: int = 200,
        recall_category: int = 500,
        history: int = 5,
        decay: float = 0.7,
        window: int = 20,
        window_decay: float = 0.9,
        cache: int = 4096,
    ) -> None:
        self.log = log or read_training_log(market)
        self.item_ids = self.log.item_ids
        self.weights = weights or CascadeWeights()
        self._text = text or BM25Retriever(market)
        self._categories = PopularityInCategoryRetriever(market, text=self._text, log=self.log)
        self._recall = (recall_text, recall_category)
        self._votes = decay ** np.arange(history)
        self._transitions = Transitions.count(self.log, window, window_decay)
        self._brands = _brand_numbers(market)
        self._exclude_history = self.log.repeats_are_rare()
        seen = np.log1p(self.log.purchases + _CLICK_SHARE * self.log.clicks)
        self._popularity = seen / max(seen.max(), 1e-9)
        self._item_votes = np.zeros(len(self.item_ids))
        self._brand_votes = np.zeros(self._brands.max() + 2)
        self._recalled = lru_cache(maxsize=cache)(self._recall_query)

    def retrieve(self, requests: Sequence[Request], top_k: int) -> list[Ranking]:
        """Recall and rank items. Items with equal scores stay in order of popularity."""
        weights = np.array(astuple(self.weights))
        rankings = []
        for request in requests:
            rows, features = self.candidates(request)
            scores = features @ weights
            best = best_rows(scores, top_k)
            rankings.append(self.fill(rows[best], scores[best], request, top_k))
        return rankings

    def tune(self, requests: Sequence[Request], passes: int = 2) -> CascadeWeights:
        """Set the weights to those with the best NDCG@10 on `requests`, and return them.

        Coordinate search: each weight in turn takes the best of 7 values while the others stay.

        Args:
            requests: requests of the validation split, never of the test split; 2,000 are enough. Targets are the purchases of a
                request, or its clicks if it has no purchases.
            passes: number of rounds over the weights; raising it may improve the weights further.

        Raises:
            ValueError: no request has a target in the catalogue.
        """
        examples = [example for request in requests if (example := self._example(request)) is not None]
        if not examples:
            raise ValueError(
                f"all {len(requests)} requests are without a purchase or click in the catalogue; there is nothing to tune on"
            )
        best, best_value = self.weights, self._quality(examples, self.weights)
        for _ in range(passes):
            for field in fields(CascadeWeights):
                for value in _GRID:
                    weights = replace(best, **{field.name: value})
                    quality = self._quality(examples, weights)
                    if quality > best_value:
                        best, best_value = weights, quality
        self.weights = best
        return best

    def candidates(self, request: Request) -> tuple[np.ndarray, np.ndarray]:
        """Recalled rows, ``(candidates,)``, in order of popularity, and their features, ``(candidates, 6)``."""
        rows, query_features = self._recalled(query_key(request.query))
        past = [self.log.row_of[item] for item in request.history[-MAX_HISTORY:] if item in self.log.row_of]
        items, brands = self._vote(past, rows)
        features = np.column_stack([items, brands, query_features])
        if not (self._exclude_history and past):
            return rows, features
        fresh = ~np.isin(rows, past)
        return rows[fresh], features[fresh]

    def _recall_query(self, query: str) -> _Recalled:
        """Recall items for a query, and compute the features that do not depend on the user."""
        hits, text_scores = self._text.search_rows(query, self._recall[0])
        shares = self._categories.category_shares(query)
        in_category = self._categories.rows_in(shares, self._recall[1])
        purchased, clicked = self.log.by_query.get(query, QueryRows([], []))
        rows = np.unique(np.concatenate([hits, in_category, purchased, clicked]).astype(np.int64))
        rows = rows[np.argsort(-self._popularity[rows], kind="stable")]
        text = dict(zip(hits.tolist(), (text_scores / max(text_scores.max(initial=0), 1e-9)).tolist()))
        counts = Counter({row: _CLICK_SHARE * times for row, times in Counter(clicked).items()})
        counts.update(purchased)
        largest = max(counts.values(), default=1.0)
        features = (
            [text.get(row, 0.0) for row in rows.tolist()],
            [shares.get(self._categories.tree.leaf_of[row], 0.0) for row in rows.tolist()],
            [counts[row] / largest for row in rows.tolist()],
            self._popularity[rows],
        )
        return _Recalled(rows, np.column_stack(features))

    def _vote(self, past: Sequence[int], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Votes of the user's latest items.

        The two arrays of votes over all items and brands are kept and cleared after each request: only few entries change.

        Args:
            past: item rows of the history, from old to new.
            rows: item rows of the candidates, ``(candidates,)``.

        Returns:
            Votes by transition and by brand, both ``(candidates,)``.
        """
        latest = past[: -len(self._votes) - 1 : -1]
        starts = self._transitions.starts
        entries = [slice(starts[row], starts[row + 1]) for row in latest]
        for part, row, vote in zip(entries, latest, self._votes):
            self._item_votes[self._transitions.columns[part]] += vote * self._transitions.weights[part]
            self._brand_votes[self._brands[row]] += vote
        self._brand_votes[-1] = 0
        total = self._votes[: len(latest)].sum() or 1.0
        votes = self._item_votes[rows], self._brand_votes[self._brands[rows]] / total
        for part in entries:
            self._item_votes[self._transitions.columns[part]] = 0
        self._brand_votes[self._brands[latest]] = 0
        return votes

    def fill(self, rows: np.ndarray, scores: np.ndarray, request: Request, top_k: int) -> Ranking:
        """Make the ranking of a request, with popular items after the recalled ones until there are `top_k`.

        Args:
            rows: rows of the recalled items, best first, ``(hits,)``.
            scores: their scores, ``(hits,)``.
            request: the request; items of its history are left out where repeats are rare.
            top_k: length of the ranking.
        """
        if len(rows) >= top_k:
            return make_ranking(self.item_ids, rows, scores)
        recent = request.history[-MAX_HISTORY:] if self._exclude_history else ()
        past = {self.log.row_of[item] for item in recent if item in self.log.row_of}
        taken = past.union(rows.tolist())
        popular = [row for row in self._categories.order[: top_k + len(taken)].tolist() if row not in taken][
            : top_k - len(rows)
        ]
        floor = min(scores.min(initial=0.0), 0.0)
        below = floor - np.arange(1, len(popular) + 1)
        return make_ranking(self.item_ids, np.concatenate([rows, popular]).astype(np.int64), np.concatenate([scores, below]))

    def _example(self, request: Request) -> _Example | None:
        """A request as an example for tuning; None without a target in the catalogue."""
        targets = [self.log.row_of[item] for item in request.purchased or request.clicked if item in self.log.row_of]
        if not targets:
            return None
        rows, features = self.candidates(request)
        ideal = (1 / np.log2(np.arange(2, min(len(set(targets)), _TUNED_CUTOFF) + 2))).sum()
        return _Example(features, np.flatnonzero(np.isin(rows, targets)), float(ideal))

    def _quality(self, examples: Sequence[_Example], weights: CascadeWeights) -> float:
        """Mean NDCG@10 of some weights; candidates with equal scores rank in their order."""
        values = np.array(astuple(weights))
        total = 0.0
        for features, targets, ideal in examples:
            scores = features @ values
            for target in targets:
                rank = (scores > scores[target]).sum() + (scores[:target] == scores[target]).sum()
                total += 1 / np.log2(rank + 2) / ideal if rank < _TUNED_CUTOFF else 0.0
        return total / len(examples)


def _brand_numbers(market: Market) -> np.ndarray:
    """Number of each item's brand, ``(items,)``; -1 without a brand."""
    brands = [(brand or "").strip().lower() for brand in market.items.data.column("brand").to_pylist()]
    number = {brand: i for i, brand in enumerate(dict.fromkeys(filter(None, brands)))}
    return np.array([number.get(brand, -1) for brand in brands], dtype=np.int64)
