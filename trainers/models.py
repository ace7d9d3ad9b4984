"""The model of a run: tokenizer and weights for the codes of an item index, from scratch or from a published backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import AutoTokenizer, PreTrainedModel

from onesearch.modeling_onesearch.configuration_onesearch import OneSearchConfig, OneSearchQwen3Config
from onesearch.modeling_onesearch.index_onesearch import SidIndex
from onesearch.modeling_onesearch.modeling_onesearch import OneSearchForCausalLM, OneSearchForConditionalGeneration
from onesearch.tokenization_sid.prompts import TEMPLATES, PromptLayout
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer

from .configs import ModelConfig

LABEL_COPIES = 100
"""How often the words of the templates stand among the texts that train a tokenizer: they are in every example and should be few tokens."""


def build_tokenizer(plan: ModelConfig, layout: PromptLayout, index: SidIndex, texts: Sequence[str]) -> SidTokenizer:
    """Tokenizer for the codes of an index: the checkpoint's own extended, or one trained on `texts`."""
    if plan.checkpoint is not None:
        return SidTokenizer.extend(
            AutoTokenizer.from_pretrained(plan.checkpoint), index.codebook_sizes, index.fingerprint, layout
        )
    labels = [section.label for template in TEMPLATES.values() for group in template.groups for section in group]
    words = [label for label in labels if label.isascii() and label] * LABEL_COPIES
    return SidTokenizer.train([*texts, *words], index.codebook_sizes, plan.text_vocab_size, index.fingerprint, layout)


def build_model(
    plan: ModelConfig, tokenizer: SidTokenizer, index: SidIndex, centroids: Sequence[np.ndarray] = ()
) -> PreTrainedModel:
    """Model for a tokenizer, with the item index set.

    Args:
        centroids: (width, dimension) of each residual level, for the long view; needed where the tokenizer's prompts have one.
    """
    long_view = _long_view(plan, tokenizer, centroids)
    sids = {
        "sid_codebook_sizes": list(index.codebook_sizes),
        "sid_offset": tokenizer.sid_offset,
        "sid_fingerprint": index.fingerprint,
    }
    if plan.checkpoint is not None:
        start = OneSearchForConditionalGeneration.from_bart if plan.backbone == "bart" else OneSearchForCausalLM.from_qwen3
        model = start(plan.checkpoint, len(tokenizer), **sids, **long_view)
    elif plan.backbone == "bart":
        model = OneSearchForConditionalGeneration(_bart_config(plan, tokenizer, {**sids, **long_view}))
    else:
        model = OneSearchForCausalLM(_qwen3_config(plan, tokenizer, {**sids, **long_view}))
    if long_view:
        model.set_long_view_centroids(centroids)
    model.set_sid_index(index)
    return model


def _long_view(plan: ModelConfig, tokenizer: SidTokenizer, centroids: Sequence[np.ndarray]) -> dict[str, Any]:
    layout = tokenizer.prompt
    if not layout.long_view_tokens:
        return {}
    if not len(centroids):
        raise ValueError(
            "the long view needs the centroids of residual levels, which this quantizer has none of; set prompt.long_view_tokens to 0"
        )
    return {
        "long_view_token_id": tokenizer.long_view_token_id,
        "long_view_tokens": layout.long_view_tokens,
        "long_view_sequences": len(layout.long_view_sequences),
        "long_view_levels": len(centroids),
        "long_view_dim": int(centroids[0].shape[1]),
        "long_view_layers": plan.long_view_layers,
    }


def _bart_config(plan: ModelConfig, tokenizer: SidTokenizer, fields: dict[str, Any]) -> OneSearchConfig:
    return OneSearchConfig(
        vocab_size=len(tokenizer),
        d_model=plan.d_model,
        encoder_layers=plan.encoder_layers,
        decoder_layers=plan.decoder_layers,
        encoder_attention_heads=plan.attention_heads,
        decoder_attention_heads=plan.attention_heads,
        encoder_ffn_dim=plan.ffn_dim,
        decoder_ffn_dim=plan.ffn_dim,
        dropout=plan.dropout,
        max_position_embeddings=plan.max_position_embeddings,
        decoder_start_token_id=tokenizer.eos_token_id,
        **_special_tokens(tokenizer),
        **fields,
    )


def _qwen3_config(plan: ModelConfig, tokenizer: SidTokenizer, fields: dict[str, Any]) -> OneSearchQwen3Config:
    return OneSearchQwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=plan.d_model,
        intermediate_size=plan.ffn_dim,
        num_hidden_layers=plan.encoder_layers + plan.decoder_layers,
        num_attention_heads=plan.attention_heads,
        num_key_value_heads=plan.attention_heads,
        head_dim=plan.d_model // plan.attention_heads,
        attention_dropout=plan.dropout,
        max_position_embeddings=plan.max_position_embeddings,
        tie_word_embeddings=True,
        **_special_tokens(tokenizer),
        **fields,
    )


def _special_tokens(tokenizer: SidTokenizer) -> dict[str, int]:
    return {name: getattr(tokenizer, name) for name in ("bos_token_id", "pad_token_id", "eos_token_id")}


__all__ = ["build_model", "build_tokenizer"]
