"""What UniSearch's training starts from: tokenizer, model, examples and item inputs of a run's market."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch

from onesearch.data.market import Market
from onesearch.data.requests import build_requests, request_rows
from onesearch.data.session_pairs import category_ids
from onesearch.data.text import item_texts
from onesearch.files import RunFolder
from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex
from onesearch.modeling_onesearch.configuration_unisearch import UniSearchConfig
from onesearch.modeling_onesearch.modeling_unisearch import UniSearchForConditionalGeneration
from onesearch.tokenization_sid.embedding.latent_semantics import latent_semantic_vectors
from onesearch.tokenization_sid.sids.item_codes import item_popularity
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer
from onesearch.views.item_inputs import ItemInputs, feature_size, known_statistics
from onesearch.views.session_views import SessionViews

from ..configs import TrainingConfig
from ..models import bart_fields, build_tokenizer, longest_prompt
from ..run_inputs import RunInputs
from ..sft.data.examples import ExampleBuilder
from .examples import JointExamples, word_examples
from .interactions import accepted_interactions
from .unisearch_config import UniSearchTrainingConfig

MOVING = "moving"
"""Fingerprint of item indexes while the Semantic IDs move."""


@dataclass(frozen=True)
class JointParts:
    """Parts of a joint training.

    Args:
        market: catalogue and sessions.
        inputs: what the validation of OneSearch's training reads; its index holds no codes yet.
        model: the model, from random weights or a BART checkpoint.
        examples: accepted interactions.
        make_index: (codes, fingerprint) → item index of the market.
        categories: (items,) number of each item's category, -1 without one.
    """

    market: Market
    inputs: RunInputs
    model: UniSearchForConditionalGeneration
    examples: JointExamples
    make_index: Callable[[np.ndarray, str], SidIndex]
    categories: np.ndarray


def build_parts(run: RunFolder, config: TrainingConfig) -> JointParts:
    """Read a run's market and make the parts. Random weights come from torch's global generator.

    Raises:
        FileNotFoundError: the run has no market.
        ValueError: no interaction is strong enough to learn from, or a setting does not fit the market.
    """
    settings = config.unisearch or UniSearchTrainingConfig()
    market = Market.load(run.require("market", "onesearch data"))
    make_index = index_maker(market, settings.sizes_for(len(market.items)))
    empty = make_index(np.zeros((len(market.items), len(settings.sizes_for(len(market.items)))), dtype=np.int64), MOVING)
    views = SessionViews(market, empty, config.prompt)
    queries = views.logs.queries[np.unique(views.logs.query_rows[request_rows(market, "train")])]
    tokenizer = build_tokenizer(config.model, config.prompt, empty, item_texts(market) + queries.tolist())
    model = build_model(config, tokenizer, market, settings)
    tokenizer.model_max_length = longest_prompt(model)
    items = ItemInputs.of(market, tokenizer, model.config)
    if settings.item_start == "texts":
        start_from_texts(model, items, config.examples.seed)
    scales = [None if values is None else torch.from_numpy(values) for values in (items.features, items.statistics)]
    model.model.item_encoder.set_scales(*scales)
    any_counts = not _buys(market)
    held_out = [request for request in build_requests(market, "validation") if request.purchased or any_counts]
    inputs = RunInputs(empty, (), tokenizer, ExampleBuilder(views, tokenizer, config.examples), held_out, None, None)
    words = word_examples(item_texts(market), settings.item_words, config.examples.words, config.examples.seed)
    examples = JointExamples(views, tokenizer, accepted_interactions(market, settings), items, words)
    categories = category_ids(market.items.data.column("categories"))[0]
    return JointParts(market, inputs, model, examples, make_index, categories)


@torch.no_grad()
def start_from_texts(model: UniSearchForConditionalGeneration, items: ItemInputs, seed: int) -> None:
    """Set the token embeddings of the item encoder to vectors by latent semantic analysis of the items' texts, with the mean length of
    the embeddings. Tokens that no text has keep their embeddings.

    Args:
        model: model whose item encoder is changed in place.
        items: tokens of the items.
        seed: seed of the factorisation.
    """
    embeddings = model.model.item_encoder.bert.embeddings.word_embeddings.weight  # (vocabulary, width)
    size, width = embeddings.shape
    vectors = torch.from_numpy(latent_semantic_vectors(items.tokens, size, width, seed)).to(embeddings)
    known = torch.from_numpy(np.unique(items.tokens.values)).to(embeddings.device)
    embeddings[known] = vectors[known] * embeddings.norm(dim=1).mean()


def index_maker(market: Market, codebook_sizes: tuple[int, ...]) -> Callable[[np.ndarray, str], SidIndex]:
    """A function that makes the item index of a market from codes (items, levels) and a fingerprint."""
    item_ids = market.items.data.column("item_id").to_pylist()
    categories = [list(path or ()) for path in market.items.data.column("categories").to_pylist()]
    popularity = item_popularity(market, item_ids)

    def make(codes: np.ndarray, fingerprint: str) -> SidIndex:
        return SidIndex.build(item_ids, codes, popularity, codebook_sizes, fingerprint, categories)

    return make


def build_model(
    config: TrainingConfig, tokenizer: SidTokenizer, market: Market, settings: UniSearchTrainingConfig
) -> UniSearchForConditionalGeneration:
    """UniSearch for a tokenizer, which reads the modalities that the market's items have.

    Args:
        config: sizes of the model, or a BART checkpoint.
        tokenizer: tokenizer with one level of codes per learnable token.
        market: its items say how many features and which statistics there are.
        settings: item encoder and quantizer.

    Raises:
        ValueError: a statistic is no column of numbers.
    """
    fields: dict[str, Any] = {
        "sid_codebook_sizes": list(tokenizer.sid_codebook_sizes),
        "sid_offset": tokenizer.sid_offset,
        "item_layers": settings.item_layers or config.model.encoder_layers,
        "item_max_tokens": settings.item_tokens,
        "item_features": feature_size(market) if settings.features else 0,
        "item_statistics": known_statistics(market, settings.statistics),
        "item_causal": settings.item_causal,
        "sid_quantizer": settings.quantizer,
        "sid_input": settings.level_input,
        "sid_gradient": settings.gradient,
        "vector_bound": settings.bound,
    }
    if config.model.checkpoint is not None:
        found = UniSearchForConditionalGeneration.from_bart(config.model.checkpoint, len(tokenizer), **fields)
        return cast(UniSearchForConditionalGeneration, found)
    return UniSearchForConditionalGeneration(UniSearchConfig(**bart_fields(config.model, tokenizer), **fields))


def _buys(market: Market) -> bool:
    """Whether anything was bought: in a market of clicks, clicks are what validation measures."""
    return bool(len(market.sessions)) and any(len(row) for row in market.sessions.data.column("purchased").to_pylist())


__all__ = ["MOVING", "JointParts", "build_model", "build_parts", "index_maker"]
