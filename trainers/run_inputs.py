"""Tables, codes and tokenizer of a run, which all stages of its training read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import SPLITS, Request, build_requests, request_rows, split_sessions
from onesearch.data.text import item_texts
from onesearch.files import RunFolder
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME, SidIndex
from onesearch.tokenization_sid.embedding.embeddings import distinct_queries, load_embeddings, load_encoder
from onesearch.tokenization_sid.embedding.text_encoder import unit_rows
from onesearch.tokenization_sid.quantizers.loading import load_quantizer
from onesearch.tokenization_sid.sids.code_files import load_codes
from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder
from onesearch.tokenization_sid.sids.sid_folder import check_parts, check_source
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer
from onesearch.views.default_histories import DefaultHistories
from onesearch.views.history_table import HistoryTable
from onesearch.views.reward.facets import LEAST_ITEMS, item_facets
from onesearch.views.reward.inputs import ItemTable, own_embeddings
from onesearch.views.reward.item_files import KnownItems
from onesearch.views.session_views import SessionViews

from .configs import TrainingConfig
from .distillation.data import given_keywords, query_keywords
from .models import build_tokenizer
from .sft.data.examples import ExampleBuilder
from .soft.lists import TeacherLists
from .tasks import TASKS

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ENOUGH_PURCHASES = 100
"""Number of validation requests with a purchase below which clicks choose the weights of an early end; our choice."""


@dataclass(frozen=True)
class RunInputs:
    """Inputs of a training, the same for all stages.

    Args:
        index: item index with the Semantic IDs of the catalogue.
        centroids: (codebook size, dimension) of each residual level; empty if prompts have no long view.
        tokenizer: tokenizer for the codes of the index.
        builder: makes the examples.
        held_out: requests of the validation split in which something was bought; those with a click where purchases are too few.
        query_encoder: computes Semantic IDs and vectors of queries; None if prompts show none.
        defaults: default histories of users without a history; None if prompts show none.
        lists: lists of a teacher over items; None without one. `load_inputs` leaves them out.
        history_table: what is known of the items of histories as vectors; None if prompts show items as tokens.
        encoder: text encoder of these items; None if their vectors are not read.
    """

    index: SidIndex
    centroids: Sequence[np.ndarray]
    tokenizer: SidTokenizer
    builder: ExampleBuilder
    held_out: Sequence[Request]
    query_encoder: SidEncoder | None
    defaults: DefaultHistories | None
    lists: TeacherLists | None = None
    history_table: HistoryTable | None = None
    encoder: SentenceTransformer | None = None


def load_inputs(run: RunFolder, config: TrainingConfig) -> RunInputs:
    """Read ``market/`` and ``sids/`` of a run. Draws no random number.

    Raises:
        FileNotFoundError: an earlier stage of the run is missing.
        ValueError: the long view or a task needs codes that the run does not have, the parts of ``sids/`` belong to different codebooks,
            or the market has changed since they were built.
    """
    market = Market.load(run.require("market", "onesearch data"))
    sids = run.require("sids", "onesearch sids build")
    check_parts(run)
    check_source(run)
    index = SidIndex.load(sids / SID_INDEX_NAME)
    layout = config.prompt
    views = _session_views(run, config, market, index)
    if layout.has_vectors:
        views.history_table = history_table(run, views)
    tokenizer = _tokenizer(config, views, index)
    keywords = _teacher_keywords(run, config, views)
    query_encoder = SidEncoder.load(run) if layout.needs_query_encoder else None
    if layout.query_vector and query_encoder is not None:
        views.query_vectors = query_encoder.vectors(views.logs.queries.tolist())
    reads_texts = layout.has_vectors and "text" in layout.item_inputs
    return RunInputs(
        index=index,
        centroids=load_quantizer(sids).level_centroids if layout.long_view_tokens else (),
        tokenizer=tokenizer,
        builder=ExampleBuilder(views, tokenizer, config.examples, run.market, keywords, query_encoder),
        held_out=_held_out(market, 1 if config.patience is None else ENOUGH_PURCHASES),
        query_encoder=query_encoder,
        defaults=views.frozen_defaults() if layout.default_history else None,
        history_table=views.history_table,
        encoder=load_encoder(run) if reads_texts else None,
    )


def history_table(run: RunFolder, views: SessionViews) -> HistoryTable:
    """What is known of the items of a run's market, for histories as vectors.

    Raises:
        FileNotFoundError: the run has no embeddings, and the layout reads text vectors.
    """
    market, layout = views.market, views.layout
    count = len(market.items)
    vectors = unit_rows(load_embeddings(run, "items")) if "text" in layout.item_inputs else np.zeros((count, 0), np.float32)
    ids = np.zeros(count, dtype=np.int64)
    if layout.item_id_events:
        training = split_sessions(market) == SPLITS.index("train")
        ids = own_embeddings(views.logs, training, layout.item_id_events)
    facets = item_facets(market.items.data.table).frequent(LEAST_ITEMS)
    table = ItemTable(vectors, views.item_sids, facets, ids)
    return HistoryTable(KnownItems(market.items.data.column("item_id").to_pylist(), table), layout)


def _held_out(market: Market, least: int) -> list[Request]:
    """The validation requests with a purchase; those with a click if fewer than `least` have one, and more have a click."""
    requests = build_requests(market, "validation")
    bought = [request for request in requests if request.purchased]
    clicked = [replace(request, purchased=()) for request in requests if request.clicked]
    return bought if len(bought) >= min(least, len(clicked)) and bought else clicked


def _session_views(run: RunFolder, config: TrainingConfig, market: Market, index: SidIndex) -> SessionViews:
    queries = distinct_queries(market)
    query_sids = None
    stages = config.stages if config.unisearch is None else ()  # UniSearch trains without stages, and its queries have no codes
    tasks = [TASKS[name] for stage in stages for name in stage.tasks]
    in_tasks = any(("query", "sid") in (task.given, task.wanted) for task in tasks)
    if config.prompt.needs_query_sids or in_tasks:
        codes = load_codes(run, "queries")
        if len(codes.codes) != len(queries):
            raise ValueError(
                f"{run.sids} holds codes of {len(codes.codes):,} queries, the market has {len(queries):,}: the market has changed; "
                f"build the SIDs again with `onesearch sids build {run.root} --rebuild`"
            )
        query_sids = np.where(codes.known[:, None], codes.codes, -1)
    return SessionViews(market, index, config.prompt, queries, query_sids)


def _tokenizer(config: TrainingConfig, views: SessionViews, index: SidIndex) -> SidTokenizer:
    """Tokenizer for the texts of all items and of the queries of the training split."""
    query_rows = np.unique(views.logs.query_rows[request_rows(views.market, "train")])
    texts = item_texts(views.market) + views.logs.queries[query_rows].tolist()
    return build_tokenizer(config.model, config.prompt, index, texts)


def _teacher_keywords(run: RunFolder, config: TrainingConfig, views: SessionViews) -> np.ndarray | None:
    """Keywords of each query for the teacher of a self-distillation."""
    if config.distillation is None:
        return None
    if config.keywords is not None:
        return given_keywords(views, config.keywords)
    return query_keywords(views, SidEncoder.load(run).core)


__all__ = ["RunInputs", "history_table", "load_inputs"]
