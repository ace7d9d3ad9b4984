"""The baselines of a run: fitted on its training split, and the cascades' last stages on validation requests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import Request, build_requests, training_market
from onesearch.evaluation.evaluator import sample_requests
from onesearch.evaluation.retrievers import Retriever
from onesearch.files import RunFolder

from .recipe import EvaluationConfig

if TYPE_CHECKING:
    from onesearch.evaluation.baselines.boosted import CandidateFeatures
    from onesearch.evaluation.baselines.cascade import CascadeRetriever
    from onesearch.evaluation.baselines.sasrec import SASRecRetriever

logger = logging.getLogger(__name__)

TUNING_REQUESTS = 2000
"""Upper bound of the validation requests that the cascades are fitted on; our choice."""

Embed = Callable[[Sequence[str]], np.ndarray]
"""Makes text vectors ``(texts, size)`` of texts."""


def text_baselines(run: RunFolder, market: Market) -> list[Retriever]:
    """BM25 and dense retrieval, which need no behaviour.

    Args:
        run: folder with embeddings of the items.
        market: its market.

    Raises:
        MissingExtraError: the extra ``evaluation`` is not installed.
    """
    from onesearch.evaluation.baselines.dense import DenseRetriever
    from onesearch.evaluation.baselines.text import BM25Retriever
    from onesearch.tokenization_sid.embedding.embeddings import load_embeddings, load_encoder
    from onesearch.tokenization_sid.embedding.text_encoder import embed_texts

    encoder = load_encoder(run)

    def embed(queries: Sequence[str]) -> np.ndarray:
        return embed_texts(encoder, list(queries))

    item_ids = market.items.data.column("item_id").to_pylist()
    return [BM25Retriever(market), DenseRetriever(item_ids, load_embeddings(run, "items"), embed)]


def run_baselines(run: RunFolder, market: Market, config: EvaluationConfig) -> list[Retriever]:
    """BM25 and dense retrieval; with training sessions also those that learn from behaviour.

    Those are popularity, popularity in the category, item-to-item transitions, SASRec, and the linear and the boosted cascade. The boosted
    one is left out where it cannot be trained fairly: without validation requests, and in an evaluation on the validation split.

    Args:
        run: folder with embeddings of the items.
        market: its market.
        config: what is fitted.

    Raises:
        MissingExtraError: the extra ``evaluation`` is not installed.
    """
    from onesearch.evaluation.baselines import cascade as linear
    from onesearch.evaluation.baselines.dense import DenseRetriever
    from onesearch.evaluation.baselines.popularity import PopularityInCategoryRetriever, PopularityRetriever
    from onesearch.evaluation.baselines.sasrec import SASRecRetriever
    from onesearch.evaluation.baselines.text import BM25Retriever
    from onesearch.evaluation.baselines.training import read_training_log
    from onesearch.evaluation.baselines.transitions import TransitionRetriever
    from onesearch.tokenization_sid.embedding.embeddings import load_embeddings, load_encoder
    from onesearch.tokenization_sid.embedding.text_encoder import embed_texts

    encoder = load_encoder(run)
    vectors = load_embeddings(run, "items")
    item_ids = market.items.data.column("item_id").to_pylist()
    text = BM25Retriever(market)
    log = read_training_log(market)

    def embed(queries: Sequence[str]) -> np.ndarray:
        return embed_texts(encoder, list(queries))

    dense = DenseRetriever(item_ids, vectors, embed)
    if not build_requests(market, "train"):
        return [text, dense]
    found: list[Retriever] = [
        text,
        dense,
        PopularityRetriever(market, log=log),
        PopularityInCategoryRetriever(market, text=text, log=log),
        TransitionRetriever(market, log=log),
    ]
    sasrec = SASRecRetriever(market, log=log) if config.sasrec else None
    found += [sasrec] if sasrec else []
    cascade = linear.CascadeRetriever(market, text=text, log=log)
    found.append(cascade)
    if config.tune_cascade:
        found += _fitted(cascade, sasrec, behaviour_features(market, vectors, embed), market, config.split)
    return found


def _fitted(
    cascade: CascadeRetriever, sasrec: SASRecRetriever | None, features: CandidateFeatures, market: Market, split: str
) -> list[Retriever]:
    """Tune the linear cascade on validation requests, and return the boosted one if it can be trained fairly."""
    from onesearch.evaluation.baselines.boosted import BoostedCascadeRetriever

    held_out = build_requests(market, "validation")
    if not held_out:
        return []
    requests = sample_requests(held_out, TUNING_REQUESTS)[0]
    cascade.tune(requests)
    if split == "validation":
        logger.info("the boosted cascade is left out: it is trained on the validation split, which is measured here")
        return []
    return [BoostedCascadeRetriever(cascade, requests, features=features, sasrec=sasrec)]


def behaviour_features(market: Market, vectors: np.ndarray, embed: Embed) -> CandidateFeatures:
    """The reward model's cross features of requests and candidates, with a memory of the training split alone.

    Args:
        market: catalogue and sessions.
        vectors: text vectors of the items, ``(items, size)``.
        embed: makes text vectors of queries in the same space.
    """
    from onesearch.data.user_logs import UserLogs
    from onesearch.tokenization_sid.embedding.text_encoder import unit_rows
    from onesearch.views.reward.facets import item_facets
    from onesearch.views.reward.inputs import ItemTable, RewardInputs
    from onesearch.views.reward.memory import BehaviourMemory
    from onesearch.views.reward.reward_requests import RewardRequests

    past = training_market(market)
    facets = item_facets(market.items.data.table)
    memory = BehaviourMemory.of(past, UserLogs(past), facets.leaf)
    items = len(vectors)
    table = ItemTable(unit_rows(vectors), np.zeros((items, 0), dtype=np.int64), facets, np.zeros(items, dtype=np.int64))
    inputs = RewardInputs(table, memory)
    known: dict[str, np.ndarray] = {}

    def embed_once(queries: Sequence[str]) -> np.ndarray:
        new = [query for query in dict.fromkeys(queries) if query not in known]
        if new:
            known.update(zip(new, unit_rows(embed(new))))
        return np.stack([known[query] for query in queries])

    requests = RewardRequests(market.items.data.column("item_id").to_pylist(), memory, embed_once)

    def features(asked: Sequence[Request], candidates: np.ndarray) -> np.ndarray:
        return inputs.features(requests.columns(asked, candidates))

    return features


__all__ = ["TUNING_REQUESTS", "behaviour_features", "run_baselines", "text_baselines"]
