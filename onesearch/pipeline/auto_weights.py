"""Weights of the text match and of the dense term, chosen on requests whose hits are known."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from onesearch.data.requests import Request
from onesearch.serving.dense_index import prompt_states
from onesearch.serving.searcher import Searcher
from onesearch.serving.text_match import LOG_P_SHARE

TEXT_WEIGHTS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Weights of the text match that are tried; the largest gives BM25's order."""

POPULARITIES = (0.0, 0.03, 0.1, 0.3, 1.0)
"""Weights of an item's popularity in its text match that are tried."""

DENSE_WEIGHTS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""Weights γ of the dense term that are tried; the largest gives the order of dense retrieval."""

LEAST = 1e-6
"""Weight at which hits are collected: the search finds the items of a term that has a weight, and so small a one keeps the scores."""

CUTOFF = 10
"""Length of the lists whose quality is compared."""


class Terms(NamedTuple):
    """Terms of the score of one request's hits.

    Attributes:
        own: score of the generator or of the reward model, ``(hits,)``.
        match: text match, ``(hits,)``; zeros without text recall.
        popularity: popularity of the items, ``(hits,)``; zeros without text recall.
        cosine: cosine with the query, ``(hits,)``; zeros without the dense term.
        targets: whether each hit was bought, and whether it was clicked: one array ``(hits,)`` for each kind that the request has.
    """

    own: np.ndarray
    match: np.ndarray
    popularity: np.ndarray
    cosine: np.ndarray
    targets: list[np.ndarray]


class Fitted(NamedTuple):
    """An order with its weights.

    Attributes:
        arm: search with the order's settings.
        quality: mean of HR@10 and MRR@10 over all clicks and purchases of the requests: each kind counts by the number of requests that
            have it.
    """

    arm: Searcher
    quality: float


def fitted(name: str, searcher: Searcher, requests: Sequence[Request], candidates: str, rerank: bool) -> Fitted:
    """An order with the weights that rank the items that it finds best. Each request is searched once.

    Args:
        name: name of the order.
        searcher: search with a text index or dense index, as the candidates ask for.
        requests: requests whose clicked and bought items are known.
        candidates: where the items come from; see `SearchConfig`.
        rerank: rank by the reward model, which has a relevance term of its own in place of the dense one.
    """
    arm = searcher.arm(name, candidates=candidates, rerank=rerank, text_weight=0.0)
    with_text, with_dense = arm.config.with_text, arm.config.with_dense and not rerank
    text = TEXT_WEIGHTS if rerank else TEXT_WEIGHTS[1:]  # without a reward model, text recall needs a weight
    terms = collected(arm, requests)
    share = LOG_P_SHARE if with_text and not rerank else 1.0
    tried = product(
        text if with_text else (0.0,), POPULARITIES if with_text else (0.0,), DENSE_WEIGHTS if with_dense else (0.0,)
    )
    found = {weights: quality_of(terms, *weights, share) for weights in tried}
    best = max(found, key=lambda weights: (found[weights], [-weight for weight in weights]))
    gamma = {"dense_weight": best[2]} if with_dense else {}
    return Fitted(arm.arm(name, text_weight=best[0], text_popularity=best[1], **gamma), found[best])


def collected(arm: Searcher, requests: Sequence[Request]) -> list[Terms]:
    """Terms of all items that an order finds.

    Args:
        arm: the order; its own weights do not count.
        requests: requests whose clicked and bought items are known.
    """
    config = arm.config
    with_text, with_dense = config.with_text, config.with_dense and not config.rerank
    least = LEAST if with_text and not config.rerank else 0.0
    search = arm.arm(arm.name, text_weight=least, text_popularity=0.0, **({"dense_weight": LEAST} if with_dense else {}))
    if with_text and search.text_index is None:
        raise ValueError("the checkpoint has no text index; build it before its orders are compared")
    most = config.num_beams * config.items_per_sid + 2 * config.text_items
    vectors = _query_vectors(search, requests) if with_dense else None
    terms = []
    for place, (request, hits) in enumerate(zip(requests, search.hits(requests, most))):
        ids = [hit.item_id for hit in hits]
        own, nothing = np.array([hit.score for hit in hits]), np.zeros(len(hits))
        match = popularity = nothing
        if with_text and search.text_index is not None:
            match, popularity = search.text_index.match(request.query, ids), search.text_index.popular(ids)
        cosine = nothing if vectors is None or search.dense is None else search.dense.cosines(vectors[place], ids)
        if least:
            own = (own - least * match) / LOG_P_SHARE
        wanted = [set(items) for items in (request.purchased, request.clicked) if items]
        targets = [np.array([item in items for item in ids], dtype=bool) for items in wanted]
        terms.append(Terms(own - LEAST * cosine, match, popularity, cosine, targets))
    return terms


def quality_of(terms: Sequence[Terms], text_weight: float, popularity: float, dense_weight: float, share: float) -> float:
    """Mean over requests and kinds of targets of the mean of hit rate and reciprocal rank at `CUTOFF`.

    Args:
        terms: terms of each request's hits.
        text_weight: weight of the text match.
        popularity: weight of the popularity in the text match.
        dense_weight: weight of the dense term.
        share: factor of the own score with the dense term beside the text match.
    """
    total, count = 0.0, 0
    for own, match, popular, cosine, targets in terms:
        scores = share * (own + dense_weight * cosine) + text_weight * (match + popularity * popular)
        top = np.argsort(-scores, kind="stable")[:CUTOFF]
        for wanted in targets:
            ranks = np.flatnonzero(wanted[top])
            total += (1 + 1 / (ranks[0] + 1)) / 2 if len(ranks) else 0.0
        count += len(targets)
    return total / max(count, 1)


def _query_vectors(searcher: Searcher, requests: Sequence[Request]) -> np.ndarray:
    """Vectors h of the requests' queries in the dense index, ``(requests, size)``."""
    dense, vectors = searcher.dense, []
    if dense is None:
        raise ValueError("the checkpoint has no dense index; build it before its orders are compared")
    for start in range(0, len(requests), searcher.batch_size):
        batch = requests[start : start + searcher.batch_size]
        states = None if dense.projection is None else prompt_states(searcher.model, searcher.model_inputs(batch))
        vectors.append(dense.queries([request.query for request in batch], states))
    return np.concatenate(vectors)


__all__ = ["DENSE_WEIGHTS", "TEXT_WEIGHTS", "Fitted", "Terms", "collected", "fitted", "quality_of"]
