"""The reward model of a run: trained on its market and its generator's beams, and saved in the checkpoint."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import Request, build_requests
from onesearch.evaluation.evaluator import sample_requests
from onesearch.files import RunFolder, atomic_folder
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.serving.loading import load_parts
from onesearch.serving.reranker import Reranker, Scored
from onesearch.serving.searcher import Searcher
from onesearch.serving.text_index import TEXT_INDEX_NAME, TextIndex, require_text_search
from onesearch.tokenization_sid.embedding.embeddings import distinct_queries, load_embeddings, load_encoder
from onesearch.views.reward.ranking import RankingWeights, fit_weights
from onesearch.views.reward.reward_folder import FOLDER_NAME, RewardParts, save_reward

from .reward_config import RewardConfig
from .reward_trainer import Vectors, train_reward

if TYPE_CHECKING:
    from onesearch.modeling_onesearch.hits_onesearch import Hit

logger = logging.getLogger(__name__)


class Beams(NamedTuple):
    """Hits of the generator: row of the session and row of the item of each, both ``(hits,)``."""

    sessions: np.ndarray
    items: np.ndarray


def train_reward_run(run: RunFolder, config: RewardConfig) -> None:
    """Train the reward model of a run's checkpoint and save it in ``checkpoint/reward/``, whole or not at all.

    Steps:
        1. Search some training requests, whose hits are hard negatives.
        2. Train on the training split; see `train_reward`.
        3. Choose the weights of the ranking on candidates of validation requests, those of the beam or of beam and text as the checkpoint's
           settings say; without any request they are those of `RankingWeights`.
        4. Save a text index of the market's items, unless the config leaves it out. Texts that were appended later are not in it.
        5. Save the model with a memory of the training split, and set ``rerank`` in the checkpoint's search settings.

    Args:
        run: folder with a market, embeddings and a checkpoint.
        config: sizes and training.

    Raises:
        FileNotFoundError: an earlier step of the run is missing.
        ValueError: no training search was answered with a click or a purchase; or no item has a text for the text index.
        MissingExtraError: the text index needs the extra ``evaluation``.
    """
    if config.text_index:
        require_text_search("the text index of the reward model (reward.text_index: false leaves it out)")
    market = Market.load(run.require("market", "onesearch data"))
    if not build_requests(market, "train"):
        raise ValueError(
            "no training search was answered with a click or a purchase, so there is nothing that a reward model could learn from; "
            "the checkpoint searches without one"
        )
    text_index = TextIndex.of(market) if config.text_index else None
    searcher = _generator(run)
    vectors = Vectors(load_embeddings(run, "items"), load_embeddings(run, "queries"), distinct_queries(market))
    item_ids = market.items.data.column("item_id").to_pylist()
    codes = searcher.index.codes_of(item_ids).astype(np.int64)
    beams = _beams(searcher, market, item_ids, config) if config.negatives.beam else None
    with tempfile.TemporaryDirectory() as scratch:
        trained = train_reward(market, codes, tuple(searcher.index.codebook_sizes), vectors, config, scratch, beams)
    inputs = trained.inputs
    parts = RewardParts(
        trained.model, inputs.table, item_ids, inputs.memory, RankingWeights(), load_encoder(run), config.without
    )
    search = SearchConfig.from_pretrained(run.checkpoint)
    searcher.text_index = text_index or searcher.text_index
    parts = parts._replace(weights=ranking_weights(parts, searcher, market, config, search.candidates))
    logger.info("reward model: %s", parts.weights)
    if text_index is not None:
        text_index.save(run.checkpoint / TEXT_INDEX_NAME)
    with atomic_folder(run.checkpoint / FOLDER_NAME, replaces=["reward.json"]) as folder:
        save_reward(parts, folder)
    replace(search, rerank=True).save_pretrained(run.checkpoint)


def _generator(run: RunFolder) -> Searcher:
    """The search of a run's checkpoint without its reward model and its texts. A reward model that is there is not even read."""
    parts = load_parts(run.require("checkpoint", "onesearch train"), {}, with_reward=False)
    config = replace(parts.model.search_config, rerank=False, candidates="beam", text_weight=0.0, dense_weight=0.0)
    return Searcher(
        parts.model,
        parts.tokenizer,
        config,
        query_encoder=parts.query_encoder,
        defaults=parts.defaults,
        history_table=parts.history_table,
        dense=parts.dense,
    )


def _beams(searcher: Searcher, market: Market, item_ids: list[str], config: RewardConfig) -> Beams:
    """Hits of at most `config.searches` training requests."""
    requests = _some(build_requests(market, "train"), config.searches)
    row_of = {item_id: row for row, item_id in enumerate(item_ids)}
    session_of = {session: row for row, session in enumerate(market.sessions.data.column("session_id").to_pylist())}
    found = searcher.hits(requests, searcher.config.num_beams)
    sessions = np.repeat([session_of[request.session_id] for request in requests], [len(hits) for hits in found])
    items = [row_of[hit.item_id] for hits in found for hit in hits]
    return Beams(sessions.astype(np.int64), np.array(items, dtype=np.int64))


class _Recorder(Reranker):
    """Keeps what the reward model makes of the candidates of a search, and their order as it is."""

    def __init__(self, parts: RewardParts) -> None:
        super().__init__(parts)
        self.scored: list[tuple[Scored, np.ndarray]] = []

    def rerank(
        self, requests: Sequence[Request], hits: Sequence[Sequence[Hit]], top_k: int, explain: bool = False
    ) -> list[list[Hit]]:
        """Score the hits, note which of them were wanted, and return them in the order in which they came."""
        scored = self.score(requests, hits)
        wanted = np.zeros(scored.rows.shape, dtype=bool)
        for place, (request, found) in enumerate(zip(requests, hits)):
            targets = set(request.purchased or request.clicked)
            wanted[place, : len(found)] = [hit.item_id in targets for hit in found]
        self.scored.append((scored, wanted))
        return [list(found) for found in hits]


def ranking_weights(
    parts: RewardParts, searcher: Searcher, market: Market, config: RewardConfig, candidates: str = "beam"
) -> RankingWeights:
    """The weights that rank the candidates of validation requests best.

    Args:
        parts: the reward model and what it reads.
        searcher: search of the generator, with a text index for candidates of it.
        market: its validation requests are searched.
        config: number of these requests.
        candidates: where the candidates come from, as in `SearchConfig`: those that will be served.
    """
    requests = _some(build_requests(market, "validation"), config.searches)
    if not requests:
        return parts.weights
    recorder = _Recorder(parts)
    arm = searcher.arm("validation", rerank=True, candidates=candidates)
    arm.reranker = recorder
    arm.hits(requests, searcher.config.num_beams * searcher.config.items_per_sid)
    width = max(wanted.shape[1] for _, wanted in recorder.scored)
    columns = [(scored.terms, wanted, scored.rows >= 0) for scored, wanted in recorder.scored]
    terms, wanted, known = (np.concatenate([_widened(part, width) for part in column]) for column in zip(*columns))
    return fit_weights(terms, wanted, known, unused=[group for group in parts.without if group == "log_p"])


def _widened(values: np.ndarray, width: int) -> np.ndarray:
    """Values with zeros for further candidates, ``(requests, candidates, ...)`` → ``(requests, width, ...)``."""
    return np.pad(values, [(0, 0), (0, width - values.shape[1]), *[(0, 0)] * (values.ndim - 2)])


def _some(requests: list[Request], most: int) -> list[Request]:
    return sample_requests(requests, most)[0] if requests else []


__all__ = ["ranking_weights", "train_reward_run"]
