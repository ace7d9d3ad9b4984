"""The tokenizer and the model that a training starts from: from scratch, or from a published backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from transformers import AutoTokenizer

from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex
from onesearch.modeling_onesearch.configuration_onesearch import OneSearchConfig, OneSearchQwen3Config
from onesearch.modeling_onesearch.modeling_onesearch import OneSearchForCausalLM, OneSearchForConditionalGeneration
from onesearch.tokenization_sid.templates import TEMPLATES, PromptLayout
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer
from onesearch.views.history_table import HistoryTable

from .configs import ModelConfig

SidModel: TypeAlias = OneSearchForConditionalGeneration | OneSearchForCausalLM
"""A model that generates Semantic IDs."""

LABEL_COPIES = 100
"""Number of times that the labels of the prompt templates are repeated among the texts that train a tokenizer. They occur in every example
and should be few tokens."""


def build_tokenizer(config: ModelConfig, layout: PromptLayout, index: SidIndex, texts: Sequence[str]) -> SidTokenizer:
    """Tokenizer for the codes of an item index.

    Args:
        config: says whether a checkpoint's tokenizer is extended by the Semantic IDs, or a new one is trained.
        layout: views that the prompts show.
        index: item index whose codes get tokens.
        texts: texts that a new tokenizer is trained on.
    """
    if config.checkpoint is not None:
        published = AutoTokenizer.from_pretrained(config.checkpoint)
        return SidTokenizer.extend(published, index.codebook_sizes, index.fingerprint, layout)
    labels = [section.label for template in TEMPLATES.values() for group in template.groups for section in group]
    words = [label for label in labels if label.isascii() and label] * LABEL_COPIES
    return SidTokenizer.train([*texts, *words], index.codebook_sizes, config.text_vocab_size, index.fingerprint, layout)


def build_model(
    config: ModelConfig,
    tokenizer: SidTokenizer,
    index: SidIndex,
    centroids: Sequence[np.ndarray] = (),
    history_table: HistoryTable | None = None,
    query_vector_size: int = 0,
) -> SidModel:
    """Model for a tokenizer, with the item index set. Random weights come from torch's global generator.

    Args:
        config: backbone and sizes.
        tokenizer: tokenizer for the codes of the index.
        index: item index of the catalogue.
        centroids: (codebook size, dimension) of each residual level; needed where the tokenizer's prompts have a long view.
        history_table: what is known of the items; needed where the prompts show items as vectors.
        query_vector_size: width of the queries' text vectors; needed where the prompts show them.

    Raises:
        ValueError: the prompts have a long view and there are no centroids, they show items as vectors and there is no table, or the
            query's vector and its width is 0.
    """
    long_view = _long_view_fields(config, tokenizer, centroids)
    fields = {
        "sid_codebook_sizes": list(index.codebook_sizes),
        "sid_offset": tokenizer.sid_offset,
        "sid_fingerprint": index.fingerprint,
        **long_view,
        **_history_fields(tokenizer, history_table),
        **_query_vector_fields(tokenizer, query_vector_size),
    }
    model: SidModel
    if config.backbone == "bart":
        model = _bart_model(config, tokenizer, fields)
    else:
        model = _qwen3_model(config, tokenizer, fields)
    if long_view:
        model.set_long_view_centroids(centroids)
    model.set_sid_index(index)
    return model


def longest_prompt(model: SidModel) -> int:
    """Number of tokens of the longest prompt that a model reads; a decoder-only model reads the Semantic ID behind it."""
    config = model.config
    behind = 0 if config.is_encoder_decoder else len(config.sid_codebook_sizes)
    return int(config.max_position_embeddings) - behind


def _long_view_fields(config: ModelConfig, tokenizer: SidTokenizer, centroids: Sequence[np.ndarray]) -> dict[str, Any]:
    """Fields of the model's configuration for the long view; empty without one."""
    layout = tokenizer.prompt
    if not layout.long_view_tokens:
        return {}
    if not len(centroids):
        raise ValueError(
            f"prompt.long_view_tokens={layout.long_view_tokens}: the long view needs the centroids of residual levels, and this quantizer "
            "has no residual level; set prompt.long_view_tokens to 0"
        )
    return {
        "long_view_token_id": tokenizer.long_view_token_id,
        "long_view_tokens": layout.long_view_tokens,
        "long_view_sequences": len(layout.long_view_sequences),
        "long_view_levels": len(centroids),
        "long_view_dim": int(centroids[0].shape[1]),
        "long_view_layers": config.long_view_layers,
    }


def _history_fields(tokenizer: SidTokenizer, table: HistoryTable | None) -> dict[str, Any]:
    """Fields of the model's configuration for histories as vectors; empty where prompts show items as tokens."""
    if not tokenizer.prompt.has_vectors:
        return {}
    if table is None:
        raise ValueError("prompt.item_form: vector needs what is known of the items; pass `history_table`")
    tokens = {
        "history_token_id": tokenizer.history_token_id,
        "history_summary_token_id": tokenizer.history_summary_token_id,
    }
    return {**table.model_fields(), **tokens}


def _query_vector_fields(tokenizer: SidTokenizer, size: int) -> dict[str, Any]:
    """Fields of the model's configuration for the query's vector; empty where prompts show none."""
    if not tokenizer.prompt.query_vector:
        return {}
    if not size:
        raise ValueError("prompt.query_vector: true needs the width of the queries' vectors; pass `query_vector_size`")
    return {"query_vector_size": size, "query_vector_token_id": tokenizer.query_vector_token_id}


def _bart_model(config: ModelConfig, tokenizer: SidTokenizer, fields: dict[str, Any]) -> OneSearchForConditionalGeneration:
    if config.checkpoint is not None:
        return OneSearchForConditionalGeneration.from_bart(config.checkpoint, len(tokenizer), **fields)
    return OneSearchForConditionalGeneration(OneSearchConfig(**bart_fields(config, tokenizer), **fields))


def bart_fields(config: ModelConfig, tokenizer: SidTokenizer) -> dict[str, Any]:
    """Fields of the configuration of an encoder-decoder from random weights."""
    return {
        "vocab_size": len(tokenizer),
        "d_model": config.d_model,
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "encoder_attention_heads": config.attention_heads,
        "decoder_attention_heads": config.attention_heads,
        "encoder_ffn_dim": config.ffn_dim,
        "decoder_ffn_dim": config.ffn_dim,
        "dropout": config.dropout,
        "max_position_embeddings": config.max_position_embeddings,
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.eos_token_id,
    }


def _qwen3_model(config: ModelConfig, tokenizer: SidTokenizer, fields: dict[str, Any]) -> OneSearchForCausalLM:
    if config.checkpoint is not None:
        return OneSearchForCausalLM.from_qwen3(config.checkpoint, len(tokenizer), **fields)
    sizes = OneSearchQwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=config.d_model,
        intermediate_size=config.ffn_dim,
        num_hidden_layers=config.encoder_layers + config.decoder_layers,
        num_attention_heads=config.attention_heads,
        num_key_value_heads=config.attention_heads,
        head_dim=config.d_model // config.attention_heads,
        attention_dropout=config.dropout,
        max_position_embeddings=config.max_position_embeddings,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **fields,
    )
    return OneSearchForCausalLM(sizes)


__all__ = ["SidModel", "bart_fields", "build_model", "build_tokenizer", "longest_prompt"]
