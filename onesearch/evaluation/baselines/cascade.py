"""The kind of system that OneSearch replaces: recall by text, category and query log, then one ranking over what was recalled.

Unlike the other baselines it reads the user's history, so it is the one to beat. It is linear and small on purpose, but not
held back: `tune` sets its weights on validation requests.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
from functools import lru_cache

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import Request

from ..retrievers import Ranking
from .popularity import PopularityInCategoryRetriever
from .text import BM25Retriever
from .training import TrainingLog, best_rows, make_ranking, query_key, read_training_log

_CLICK_SHARE = 0.3
_RARE_REPEAT = 0.01
_GRID = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_TUNED_CUTOFF = 10

MAX_HISTORY = 20
"""Most recent items of a user that vote; KuaiSearch gives as many."""


@dataclass(frozen=True, slots=True)
class CascadeWeights:
    """Weights of the ranking features; only their ratios matter.

    The defaults are ours, near what tuning on Amazon Beauty's validation split gives. Its queries are category paths; where
    users write their own words, `text` deserves more: call `CascadeRetriever.tune`.

    Args:
        transition: how often the item and the user's recent items met in training histories.
        brand: share of the item's brand in the user's recent items.
        text: BM25 score, divided by the query's best.
        category: share of the item's leaf among what was bought (else clicked) under the query.
        query: purchases and clicks of the item under this very query, divided by the query's largest.
        popularity: logarithm of purchases and clicks, divided by the catalogue's largest.
    """

    transition: float = 1.0
    brand: float = 0.3
    text: float = 0.03
    category: float = 1.0
    query: float = 0.1
    popularity: float = 0.03


@dataclass(frozen=True)
class Transitions:
    """Which items follow or precede which in training histories, as compressed rows.

    Args:
        starts: ``(items + 1,)``; entries of row i are ``starts[i]:starts[i + 1]``.
        columns, weights: ``(entries,)``.
    """

    starts: np.ndarray
    columns: np.ndarray
    weights: np.ndarray

    @classmethod
    def count(cls, log: TrainingLog, window: int, decay: float) -> Transitions:
        """Count pairs up to `window` positions apart in one user's history, both ways, each worth ``decay ** (gap − 1)``.

        A row is divided by the root of its sum: a frequent item says less per pair, yet is trusted more than a rare one.
        """
        items = len(log.item_ids)
        keys, worth = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
        for gap in range(1, min(window, max(0, len(log.rows) - 1)) + 1):
            same = (log.users[gap:] == log.users[:-gap]) & (log.rows[gap:] != log.rows[:-gap])
            before, after = log.rows[:-gap][same], log.rows[gap:][same]
            keys += [before * items + after, after * items + before]
            worth += [np.full(2 * len(before), decay ** (gap - 1))]
        pairs, inverse = np.unique(np.concatenate(keys), return_inverse=True)
        weights = np.bincount(inverse, weights=np.concatenate(worth), minlength=len(pairs))
        origin = pairs // items
        total = np.bincount(origin, weights=weights, minlength=items)
        starts = np.concatenate([[0], np.cumsum(np.bincount(origin, minlength=items))])
        return cls(starts, pairs % items, weights / np.sqrt(total[origin]))


class CascadeRetriever:
    """Recall, then rank with a linear combination of six features (`CascadeWeights`).

    * Recall: BM25's best, the best sellers of the query's categories, and what training bought or clicked under the same query;
      several hundred in all. Where fewer than `top_k` remain, popular items follow.
    * Rank: the user's last items vote for what they met in training histories, the latest with weight 1, the one before with
      `decay`, and so on; text, category, query log and popularity are the back-off for what no vote reaches.
    * Items already in the history are left out if repeats make up less than 1 % of the training histories.

    Args:
        market: catalogue and sessions; only the training split is read.
        text: BM25 over the same catalogue; built if absent.
        log: counts of the training split, if they are already at hand.
        weights: of the features.
        recall_text, recall_category: at most so many items come from BM25 and from the categories.
        history: how many of the latest items vote.
        decay: weight of a vote relative to the next more recent one.
        window, window_decay: largest gap of a pair counted in training histories, and the factor per further position.
        cache: queries whose recalled items are kept.
    """

    name = "cascade"

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
    ):
        self.log = log or read_training_log(market)
        self.item_ids = self.log.item_ids
        self.weights = weights or CascadeWeights()
        self._text = text or BM25Retriever(market)
        self._categories = PopularityInCategoryRetriever(market, text=self._text, log=self.log)
        self._recall = (recall_text, recall_category)
        self._votes = decay ** np.arange(history)
        self._transitions = Transitions.count(self.log, window, window_decay)
        self._brands = _brand_numbers(market)
        self._exclude_history = self.log.repeat_share() < _RARE_REPEAT
        seen = np.log1p(self.log.purchases + _CLICK_SHARE * self.log.clicks)
        self._popularity = seen / max(seen.max(), 1e-9)
        self._item_votes = np.zeros(len(self.item_ids))
        self._brand_votes = np.zeros(self._brands.max() + 2)
        self._recalled = lru_cache(maxsize=cache)(self._recall_query)

    def retrieve(self, requests: Sequence[Request], top_k: int) -> list[Ranking]:
        """Recall and rank; equal scores in order of popularity."""
        weights = np.array(astuple(self.weights))
        rankings = []
        for request in requests:
            rows, features = self._candidates(request)
            scores = features @ weights
            best = best_rows(scores, top_k)
            rankings.append(self._fill(rows[best], scores[best], request, top_k))
        return rankings

    def tune(self, requests: Sequence[Request], passes: int = 2) -> CascadeWeights:
        """Set the weights to those with the best NDCG@10 on `requests`, one weight at a time, and return them.

        Args:
            requests: of the validation split, never of the test; some 2,000 suffice. Targets are purchases, else clicks.
            passes: rounds over the weights.

        Raises:
            ValueError: no request has a target.
        """
        examples = [example for request in requests if (example := self._example(request))]
        if not examples:
            raise ValueError(
                f"none of the {len(requests)} requests has a purchase or click in the catalogue; there is nothing to tune on"
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

    def _candidates(self, request: Request) -> tuple[np.ndarray, np.ndarray]:
        """Recalled rows, ``(candidates,)``, in order of popularity, and their features, ``(candidates, 6)``."""
        rows, of_query = self._recalled(query_key(request.query))
        past = [self.log.row_of[item] for item in request.history[-MAX_HISTORY:] if item in self.log.row_of]
        items, brands = self._vote(past, rows)
        features = np.column_stack([items, brands, of_query])
        if not (self._exclude_history and past):
            return rows, features
        fresh = ~np.isin(rows, past)
        return rows[fresh], features[fresh]

    def _recall_query(self, query: str) -> tuple[np.ndarray, np.ndarray]:
        """What the query alone decides: recalled rows and their text, category, query and popularity, ``(candidates, 4)``."""
        hits, text_scores = self._text.search_rows(query, self._recall[0])
        shares = self._categories.category_shares(query)
        in_category = self._categories.rows_in(shares, self._recall[1])
        purchased, clicked = self.log.by_query.get(query, ((), ()))
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
        return rows, np.column_stack(features)

    def _vote(self, past: Sequence[int], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Votes of the latest items for `rows`: by transition and by brand, both ``(candidates,)``."""
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

    def _fill(self, rows: np.ndarray, scores: np.ndarray, request: Request, top_k: int) -> Ranking:
        """Append popular items below the last recalled one until there are `top_k`."""
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

    def _example(self, request: Request) -> tuple[np.ndarray, np.ndarray, float] | None:
        """Features, positions of the targets among the candidates, ideal DCG; None without a target in the catalogue."""
        targets = [self.log.row_of[item] for item in request.purchased or request.clicked if item in self.log.row_of]
        if not targets:
            return None
        rows, features = self._candidates(request)
        ideal = (1 / np.log2(np.arange(2, min(len(set(targets)), _TUNED_CUTOFF) + 2))).sum()
        return features, np.flatnonzero(np.isin(rows, targets)), float(ideal)

    def _quality(self, examples: Sequence[tuple[np.ndarray, np.ndarray, float]], weights: CascadeWeights) -> float:
        """Mean NDCG@10; candidates are in tie-breaking order."""
        values = np.array(astuple(weights))
        total = 0.0
        for features, targets, ideal in examples:
            scores = features @ values
            for target in targets:
                rank = (scores > scores[target]).sum() + (scores[:target] == scores[target]).sum()
                total += 1 / np.log2(rank + 2) / ideal if rank < _TUNED_CUTOFF else 0.0
        return total / len(examples)


def _brand_numbers(market: Market) -> np.ndarray:
    """Number of each item's brand, ``(items,)``; −1 without one."""
    brands = [(brand or "").strip().lower() for brand in market.items.data.column("brand").to_pylist()]
    number = {brand: i for i, brand in enumerate(dict.fromkeys(filter(None, brands)))}
    return np.array([number.get(brand, -1) for brand in brands], dtype=np.int64)
