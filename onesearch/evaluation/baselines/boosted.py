"""A cascade whose last stage is gradient-boosted trees (LightGBM LambdaMART): the strongest system of the classical kind here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import NamedTuple

import numpy as np

from onesearch.data.requests import Request
from onesearch.extras import require

from ..retrievers import Ranking
from .cascade import CascadeRetriever
from .listwise import fit_linear_ranking
from .sasrec import SASRecRetriever
from .training import best_rows

CandidateFeatures = Callable[[Sequence[Request], np.ndarray], np.ndarray]
"""Features of n requests and candidate rows ``(n, candidates)``, -1 for padding: float32 ``(n, candidates, features)``."""

_CLICK, _PURCHASE = 1, 2
"""Grades that LambdaMART learns; their gains are 1 and 3. Our choice."""

_BATCH = 64
"""Requests that are ranked at a time."""


@dataclass(frozen=True, slots=True)
class BoostingConfig:
    """Sizes and training of `BoostedCascadeRetriever`. All values are our choice; none was tuned on a test split.

    Args:
        ranked: number of recalled items that the trees rank, the best by the linear cascade; the others follow in its order.
        negatives: number of other candidates per training request, drawn at random; raising it takes more time and memory.
        penalty: weight of half the squared length of the linear ranking's weights; raise it for few requests.
        trees: number of trees that are added to the linear ranking.
        learning_rate: weight of each tree; lower it when you raise `trees`.
        leaves: leaves of a tree.
        least_in_leaf: smallest number of candidates in a leaf; raise it for few requests.
        feature_share: share of the features that each tree may use.
        seed: seeds the negatives and the features of each tree.

    Raises:
        ValueError: a value is out of range.
    """

    ranked: int = 300
    negatives: int = 100
    penalty: float = 0.003
    trees: int = 50
    learning_rate: float = 0.03
    leaves: int = 8
    least_in_leaf: int = 50
    feature_share: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("ranked", "negatives", "trees", "least_in_leaf"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.leaves < 2:
            raise ValueError(f"leaves={self.leaves} must be at least 2")
        if not self.penalty > 0:
            raise ValueError(f"penalty={self.penalty} must be above 0")
        if not 0 < self.feature_share <= 1 or not self.learning_rate > 0:
            raise ValueError(
                f"feature_share={self.feature_share} must be above 0 and at most 1, learning_rate={self.learning_rate} above 0"
            )


class _Candidates(NamedTuple):
    """Recalled items of a request in the order of the linear cascade.

    Attributes:
        rows: item rows, ``(candidates,)``.
        features: the cascade's six features and their weighted sum, float32 ``(candidates, 7)``.
    """

    rows: np.ndarray
    features: np.ndarray


class BoostedCascadeRetriever:
    """Recalls items as `CascadeRetriever` does, and ranks them by a linear ranking and LambdaMART (Burges, MSR-TR-2010-82).

    The ranking reads the cascade's features and score, those of `features`, and the SASRec score, relative to the request's best candidate.
    A softmax regression on all of them comes first, and the trees go on from its scores: trees alone are constant beyond the values seen in
    training, while histories and counts keep growing. On the demo, trees alone are as good within the error (HR@10 0.597 and 0.603). Both
    parts are trained on validation requests, which only the cascade's six weights were fitted on: on training requests the counts and the
    SASRec score would already know the targets.

    Args:
        cascade: recall and first ranking; tune it first.
        requests: requests of the validation split, never of the test split. Purchases have grade 2, clicks without one grade 1.
        features: further features; the same as the reward model's, for a fair comparison.
        sasrec: model whose score is a feature.
        config: sizes and training; None takes the defaults.

    Raises:
        MissingExtraError: lightgbm is not installed.
        ValueError: no target of any request is among its recalled items.
    """

    name = "cascade"

    def __init__(
        self,
        cascade: CascadeRetriever,
        requests: Sequence[Request],
        *,
        features: CandidateFeatures | None = None,
        sasrec: SASRecRetriever | None = None,
        config: BoostingConfig | None = None,
    ) -> None:
        require("evaluation", "lightgbm", needed_by="BoostedCascadeRetriever")
        self.item_ids = cascade.item_ids
        self.config = config or BoostingConfig()
        self._cascade, self._features, self._sasrec = cascade, features, sasrec
        self._fit(requests)

    def retrieve(self, requests: Sequence[Request], top_k: int) -> list[Ranking]:
        """Recall and rank items. Items with equal scores stay in the order of the linear cascade."""
        rankings = []
        for start in range(0, len(requests), _BATCH):
            part = requests[start : start + _BATCH]
            recalled = [self._recall(request) for request in part]
            ranked = [self._cut(candidates) for candidates in recalled]
            values = self._describe(part, ranked)
            scores = self._linear.score(values) + np.asarray(self._trees.predict(values)) if len(values) else np.zeros(0)
            ends = np.cumsum([len(candidates.rows) for candidates in ranked])
            for request, candidates, own in zip(part, recalled, np.split(scores, ends[:-1])):
                rankings.append(self._rank(request, candidates.rows, own, top_k))
        return rankings

    def _rank(self, request: Request, rows: np.ndarray, scores: np.ndarray, top_k: int) -> Ranking:
        """The ranking of a request whose first recalled rows have scores; the others follow in their order."""
        best = best_rows(scores, len(scores))
        behind = np.arange(len(scores), len(rows))
        below = scores.min(initial=0.0) - 1.0 - np.arange(len(behind))
        rows, scores = rows[np.concatenate([best, behind])], np.concatenate([scores[best], below])
        return self._cascade.fill(rows[:top_k], scores[:top_k], request, top_k)

    def _recall(self, request: Request) -> _Candidates:
        rows, features = self._cascade.candidates(request)
        scores = features @ np.array(astuple(self._cascade.weights))
        order = best_rows(scores, len(rows))
        return _Candidates(rows[order], np.column_stack([features, scores])[order].astype(np.float32))

    def _cut(self, candidates: _Candidates) -> _Candidates:
        """The candidates that the trees rank."""
        return _Candidates(*(part[: self.config.ranked] for part in candidates))

    def _describe(self, requests: Sequence[Request], candidates: Sequence[_Candidates]) -> np.ndarray:
        """All features of the candidates of all requests in a row, float32 ``(pairs, features)``."""
        width = max((len(part.rows) for part in candidates), default=0)
        rows = np.full((len(requests), width), -1, dtype=np.int64)
        for place, part in enumerate(candidates):
            rows[place, : len(part.rows)] = part.rows
        known = rows >= 0
        parts = [np.concatenate([part.features for part in candidates])]
        if self._features is not None and known.any():
            parts.append(self._features(requests, rows)[known])
        if self._sasrec is not None and known.any():
            scores = np.where(known, self._sasrec.score([request.history for request in requests], rows), -np.inf)
            parts.append((scores - scores.max(axis=1, keepdims=True, initial=-1e9))[known][:, None])
        return np.concatenate(parts, axis=1).astype(np.float32)

    def _fit(self, requests: Sequence[Request]) -> None:
        """Train the linear ranking, and the trees from its scores on."""
        import lightgbm

        rng = np.random.default_rng([self.config.seed, 15])
        values: list[np.ndarray] = []
        grades: list[np.ndarray] = []
        for start in range(0, len(requests), _BATCH):
            drawn = [(request, self._draw(request, rng)) for request in requests[start : start + _BATCH]]
            drawn = [(request, candidates) for request, candidates in drawn if len(candidates.rows)]
            if drawn:
                values.append(self._describe([request for request, _ in drawn], [candidates for _, candidates in drawn]))
            grades += [self._grades(request, candidates.rows) for request, candidates in drawn]
        if not values:
            raise ValueError(
                f"none of the {len(requests)} requests has a purchase or click among its recalled items; there is nothing to learn"
            )
        config = self.config
        settings = {
            "objective": "lambdarank",
            "learning_rate": config.learning_rate,
            "num_leaves": config.leaves,
            "min_data_in_leaf": config.least_in_leaf,
            "feature_fraction": config.feature_share,
            "lambda_l2": 1.0,
            "seed": config.seed,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }
        known, labels = np.concatenate(values), np.concatenate(grades)
        sizes = np.array([len(part) for part in grades])
        self._linear = fit_linear_ranking(known, 2.0**labels - 1, sizes, config.penalty)
        examples = lightgbm.Dataset(known, labels, group=sizes, init_score=self._linear.score(known))
        self._trees = lightgbm.train(settings, examples, num_boost_round=config.trees)

    def _draw(self, request: Request, rng: np.random.Generator) -> _Candidates:
        """The recalled targets of a request and some other candidates; nothing without a recalled target."""
        candidates = self._cut(self._recall(request))
        wanted = self._grades(request, candidates.rows) > 0
        others = np.flatnonzero(~wanted)
        taken = rng.choice(others, min(self.config.negatives, len(others)), replace=False)
        kept = np.sort(np.concatenate([np.flatnonzero(wanted), taken])) if wanted.any() else taken[:0]
        return _Candidates(candidates.rows[kept], candidates.features[kept])

    def _grades(self, request: Request, rows: np.ndarray) -> np.ndarray:
        """Grade of each candidate, int64 ``(candidates,)``."""
        row_of = self._cascade.log.row_of
        purchased, clicked = (
            [row_of[item] for item in items if item in row_of] for items in (request.purchased, request.clicked)
        )
        return np.where(np.isin(rows, purchased), _PURCHASE, np.where(np.isin(rows, clicked), _CLICK, 0))


__all__ = ["BoostedCascadeRetriever", "BoostingConfig", "CandidateFeatures"]
