"""A small model that reads only what a market's tables show: a conditional logit over the items of the category that the query names."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import Request, build_requests
from onesearch.simulator import SimulatorConfig
from onesearch.simulator.vocabulary import build_vocabulary
from onesearch.simulator.words import AUDIENCES

SIGNS = (
    "query",
    "popularity",
    "words of recent items",
    "category of recent items",
    "words of recent queries",
    "category of recent queries",
    "words of older items",
)
"""What a candidate is judged by; `Reader.example` computes the signs in this order."""


class Example(NamedTuple):
    """Candidates of one request, their values for `SIGNS` ``(candidates, signs)``, and which of them were bought."""

    candidates: np.ndarray
    signs: np.ndarray
    bought: np.ndarray


class Reader:
    """Reads queries with the words of the simulator, and items with their attributes; it knows no latent state."""

    def __init__(self, market: Market, config: SimulatorConfig) -> None:
        vocabulary = build_vocabulary(config.resolved())
        self.canonical = dict(zip(vocabulary.synonyms, vocabulary.words))
        self.canonical |= {leaf.synonym: leaf.noun for leaf in vocabulary.leaves}
        self.rows = {item: row for row, item in enumerate(market.items["item_id"])}
        paths = [tuple(part.lower() for part in path) for path in market.items["categories"]]
        self.places = {name: {path[2] for path in paths if name in path[1:]} for path in paths for name in path[1:]}
        self.of_leaf = {
            leaf: np.array([row for row, path in enumerate(paths) if path[2] == leaf]) for leaf in {p[2] for p in paths}
        }
        self.leaf = np.unique([path[2] for path in paths], return_inverse=True)[1]
        kept = (
            "color",
            "style",
            "brand",
            "function",
            "material",
            "pattern",
            "season",
            "modifier",
            "scene",
            "audience",
            "price",
        )
        words = [{text.lower() for kind in kept for text in row[kind]} for row in market.items["attributes"]]
        self.number = {word: number for number, word in enumerate(sorted(set().union(*words) | set(AUDIENCES)))}
        self.words = np.zeros((len(words), len(self.number)), dtype=np.float32)
        for row, own in enumerate(words):
            self.words[row, [self.number[word] for word in own]] = 1.0
        clicks = Counter(item for request in build_requests(market, "train") for item in request.clicked)
        self.popularity = np.log1p([clicks[item] for item in self.rows])

    def read(self, query: str) -> tuple[set[str], set[int]]:
        """Leaf categories that a query names, and the numbers of the attribute words in it."""
        words = [self.canonical.get(word, word) for word in query.split()]
        leaves: set[str] = set()
        for word in words:
            leaves |= self.places.get(word, set())
        return leaves, {self.number[word] for word in words if word in self.number}

    def example(self, request: Request, items: int = 10, queries: int = 5) -> Example | None:
        """Signs of one request; None if its query names no category or if the bought items lie elsewhere."""
        leaves, asked = self.read(request.query)
        if not leaves:
            return None
        candidates = np.concatenate([self.of_leaf[leaf] for leaf in sorted(leaves)])
        bought = np.isin(candidates, [self.rows[item] for item in request.purchased])
        if not bought.any():
            return None
        everything = np.array([self.rows[item] for item in request.history], dtype=int)
        history, older = everything[-items:], everything[:-items]
        told, narrow = set(), leaves
        for query in request.context.queries[
            : -queries - 1 : -1
        ]:  # the latest queries, as far back as they name the same category
            named, words = self.read(query)
            if not named & narrow:
                break
            told |= words
            narrow = narrow & named
        own = self.words[candidates]
        same = self.leaf[candidates, None] == self.leaf[history]
        signs = (
            own[:, sorted(asked)].sum(axis=1),
            self.popularity[candidates],
            ((own @ self.words[history].T) * same).sum(axis=1),
            same[:, -3:].sum(axis=1),
            own[:, sorted(told - asked)].sum(axis=1),
            np.isin(candidates, np.concatenate([self.of_leaf[leaf] for leaf in sorted(narrow)])),
            own @ self.words[older].sum(axis=0) / max(len(older), 1),
        )
        return Example(candidates, np.stack(signs, axis=1).astype(np.float64), bought)


def fit(examples: list[Example], columns: list[int], steps: int = 60) -> np.ndarray:
    """Weights of the signs `columns` by Newton's method on the conditional logit, ``(columns,)``."""
    weights = np.zeros(len(columns))
    for _ in range(steps):
        gradient, curvature = -0.1 * weights, 0.1 * np.eye(len(columns))
        for example in examples:
            signs = example.signs[:, columns]
            logits = signs @ weights
            chances = np.exp(logits - logits.max())
            chances /= chances.sum()
            mean = chances @ signs
            gradient += signs[example.bought].mean(axis=0) - mean
            curvature += (signs * chances[:, None]).T @ signs - np.outer(mean, mean)
        step = np.linalg.solve(curvature, gradient)
        weights += step
        if np.abs(step).max() < 1e-4:
            break
    return weights


def hits(examples: list[Example], columns: list[int], weights: np.ndarray, cutoff: int = 10) -> np.ndarray:
    """Whether a bought item is among the best `cutoff` of each example, ``(examples,)``."""
    found = []
    for example in examples:
        best = np.argsort(-(example.signs[:, columns] @ weights), kind="stable")[:cutoff]
        found.append(example.bought[best].any())
    return np.array(found)


def interval(differences: np.ndarray, draws: int = 2000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean, over requests."""
    rng = np.random.default_rng(0)
    means = [differences[rng.integers(0, len(differences), len(differences))].mean() for _ in range(draws)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
