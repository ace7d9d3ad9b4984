"""The dense index of a run's checkpoint: vectors of the items, a trained projection, and the weight of the dense term."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import Request, build_requests
from onesearch.evaluation.evaluator import sample_requests
from onesearch.extras import MissingExtraError
from onesearch.files import RunFolder
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.serving.dense_index import FOLDER_NAME, DenseIndex, prompt_states
from onesearch.serving.searcher import Searcher

from ..sft.data.catalogue_queries import CatalogueQueries
from ..sft.data.text_targets import TextTargets
from .dense_config import DenseConfig
from .projection import DenseExamples, train_projection

logger = logging.getLogger(__name__)

WEIGHTS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
"""Values of γ that are tried; our choice. The largest gives the order of dense retrieval."""

DEFAULT_WEIGHT = 10.0
"""γ where too few validation requests say how much the dense term is worth: a tenth of a cosine counts as much as a factor e of the
probability. Our choice."""

ENOUGH = 20
"""Number of validation requests below which no weight is chosen by them."""

CUTOFF = 10
"""Length of the lists whose quality is compared."""


def train_dense_run(run: RunFolder, config: DenseConfig) -> SearchConfig:
    """Make the dense index of a run's checkpoint, and let its search use it.

    1. The items' vectors are those of the run's text encoder.
    2. Examples are requests of the training split with their bought, or else clicked, items; without any, queries made of the catalogue
       with items that BM25 finds for them. The beam search gives their negatives. The projection learns from them.
    3. The weight is that of the checkpoint's search settings; where that is 0, it is chosen on validation requests (`choose_weight`).

    Returns:
        The search settings, which are saved with the checkpoint.

    Raises:
        FileNotFoundError: an earlier step of the run is missing.
    """
    checkpoint = run.require("checkpoint", "onesearch train")
    market = Market.load(run.require("market", "onesearch data"))
    saved = SearchConfig.from_pretrained(checkpoint)
    searcher = Searcher.from_pretrained(checkpoint, rerank=False, candidates="beam", text_weight=0.0, dense_weight=0.0)
    dense = DenseIndex.of_run(run)
    examples = collect_examples(searcher, dense, market, config) if config.epochs else None
    if examples is not None:
        dense = replace(dense, projection=train_projection(examples, dense.vectors, config))
    searcher.dense = dense
    weight = saved.dense_weight or choose_weight(searcher, build_requests(market, "validation"), config)
    dense.save_pretrained(checkpoint / FOLDER_NAME)
    candidates = saved.candidates
    if config.recall and weight and not saved.with_dense:
        candidates = f"{saved.candidates}+dense"
    search = replace(saved, dense_weight=weight, candidates=candidates)
    search.save_pretrained(checkpoint)
    logger.info("dense term: weight %g, %s projection", weight, "no" if dense.projection is None else "a trained")
    return search


def collect_examples(searcher: Searcher, dense: DenseIndex, market: Market, config: DenseConfig) -> DenseExamples:
    """Prompts, their wanted items, and the best items of their beams.

    Args:
        searcher: search of the generator alone.
        dense: vectors of items and queries, without a projection.
        market: the market; its training split is read.
        config: number of examples and of negatives.
    """
    row_of = {item_id: row for row, item_id in enumerate(dense.item_ids)}
    requests = _requests(market, config)
    chosen = [request for request in requests if any(item in row_of for item in request.purchased or request.clicked)]
    targets = [next(item for item in request.purchased or request.clicked if item in row_of) for request in chosen]
    states = []
    for start in range(0, len(chosen), searcher.batch_size):
        batch = chosen[start : start + searcher.batch_size]
        states.append(prompt_states(searcher.model, searcher.model_inputs(batch, searcher.config.hidden_views)))
    negatives = np.full((len(chosen), config.negatives), -1, dtype=np.int64)
    if config.negatives:
        arm = searcher.arm("negatives", num_beams=min(config.negatives, searcher.config.num_beams))
        for place, (request, hits) in enumerate(zip(chosen, arm.hits(chosen, config.negatives))):
            wanted = {*request.purchased, *request.clicked}
            rows = [row_of.get(hit.item_id, -1) for hit in hits if hit.item_id not in wanted]
            negatives[place, : len(rows)] = rows
    return DenseExamples(
        dense.queries([request.query for request in chosen]),
        np.concatenate(states) if states else np.zeros((0, 1), dtype=np.float32),
        np.array([row_of[item] for item in targets], dtype=np.int64),
        negatives,
    )


def _requests(market: Market, config: DenseConfig) -> list[Request]:
    """Requests of the training split; made ones for a catalogue without any."""
    requests = build_requests(market, "train")
    if requests:
        return sample_requests(requests, config.searches)[0]
    made, random = CatalogueQueries(market), np.random.default_rng(config.seed)
    try:
        targets: TextTargets | None = TextTargets(market)
    except MissingExtraError as error:
        logger.warning("dense term: %s; each made query then has the item that it was made of as its target", error)
        targets = None
    item_ids = market.items.data.column("item_id").to_pylist()
    found = []
    for item in random.integers(0, len(made), config.searches).tolist():
        query = made.sample(item, random)
        if query:
            row = item if targets is None else targets.draw(query, item, random)
            found.append(Request("", "", query, clicked=(item_ids[row],)))
    return found


def choose_weight(searcher: Searcher, requests: Sequence[Request], config: DenseConfig) -> float:
    """The γ of `WEIGHTS` that ranks the found items of some requests best, by the mean of hit rate and reciprocal rank at 10.

    Args:
        searcher: search with a dense index.
        requests: validation requests; at most `DenseConfig.searches` of them are searched. Fewer than `ENOUGH` give `DEFAULT_WEIGHT`.
        config: settings.
    """
    if len(requests) < ENOUGH or searcher.dense is None:
        return DEFAULT_WEIGHT
    dense, requests = searcher.dense, sample_requests(list(requests), config.searches)[0]
    least = WEIGHTS[1]
    arm = searcher.arm("dense", candidates="beam+dense" if config.recall else "beam", dense_weight=least)
    most = arm.config.num_beams * arm.config.items_per_sid + arm.config.text_items
    quality = np.zeros(len(WEIGHTS))
    for request, hits in zip(requests, arm.hits(requests, most)):
        states = None if dense.projection is None else prompt_states(arm.model, arm.model_inputs([request]))
        cosines = dense.cosines(dense.queries([request.query], states)[0], [hit.item_id for hit in hits])
        own = np.array([hit.score for hit in hits]) - least * cosines  # the scores without the dense term
        wanted = {*(request.purchased or request.clicked)}
        for place, weight in enumerate(WEIGHTS):
            top = np.argsort(-(own + weight * cosines), kind="stable")[:CUTOFF].tolist()
            ranks = [rank for rank, row in enumerate(top, start=1) if hits[row].item_id in wanted]
            quality[place] += (1 + 1 / ranks[0]) / 2 if ranks else 0.0
    return WEIGHTS[int(np.argmax(quality))]


__all__ = ["DEFAULT_WEIGHT", "WEIGHTS", "choose_weight", "collect_examples", "train_dense_run"]
