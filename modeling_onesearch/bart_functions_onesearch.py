"""BART for a search without gradients: its layers as plain functions over their weights.

A small model spends most of a search in the calls of nested modules and not in its matrix products. The functions here compute what the
modules compute, in the same order. `plain_bart` finds the weights in a model.
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from .history_onesearch import PromptViews
from .places_onesearch import Packing, check_length
from .products_onesearch import linear


class Affine(NamedTuple):
    """Weights of a linear layer: (outputs, inputs) and (outputs,)."""

    weight: torch.Tensor
    bias: torch.Tensor

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """(..., inputs) → (..., outputs)."""
        return linear(states, self.weight, self.bias)


class Norm(NamedTuple):
    """Weights of a layer norm, (width,) each."""

    weight: torch.Tensor
    bias: torch.Tensor
    eps: float

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """(..., width) → (..., width)."""
        return torch.layer_norm(states, self.weight.shape, self.weight, self.bias, self.eps)


class Attention(NamedTuple):
    """Weights of an attention layer."""

    query: Affine
    key: Affine
    value: Affine
    out: Affine
    head_size: int
    scaling: float

    def heads(self, states: torch.Tensor) -> torch.Tensor:
        """(rows, length, width) → (rows, heads, length, head size)."""
        return states.view(*states.shape[:2], -1, self.head_size).transpose(1, 2)

    def mix(self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Weighted means of the values.

        Args:
            query: (rows, length, width).
            keys: (rows, heads, keys, head size).
            values: as `keys`.
            mask: (rows, 1, 1, keys) bool, the keys that may be read; None for all.

        Returns:
            (rows, length, width).
        """
        mixed = F.scaled_dot_product_attention(self.heads(query), keys, values, attn_mask=mask, scale=self.scaling)
        return mixed.transpose(1, 2).reshape(query.shape)


class FeedForward(NamedTuple):
    """Weights of the two linear layers after the attention, and the norm behind them."""

    first: Affine
    activation: Callable[[torch.Tensor], torch.Tensor]
    second: Affine
    norm: Norm

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """(..., width) → (..., width)."""
        return self.norm(states + self.second(self.activation(self.first(states))))


class EncoderLayer(NamedTuple):
    """Weights of a layer of the encoder."""

    attention: Attention
    norm: Norm
    feed_forward: FeedForward


class DecoderLayer(NamedTuple):
    """Weights of a layer of the decoder."""

    own: Attention
    own_norm: Norm
    cross: Attention
    cross_norm: Norm
    feed_forward: FeedForward


class PlainBart(NamedTuple):
    """The layers of a BART whose modules are the plain ones."""

    encoder: list[EncoderLayer]
    decoder: list[DecoderLayer]


def encode(
    encoder: Any,
    layers: Iterable[EncoderLayer],
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    views: PromptViews,
) -> torch.Tensor:
    """Last states of `OneSearchEncoder.forward`, (queries, length, width); those of padding are 0.

    Args:
        encoder: makes the embeddings: a `OneSearchEncoder`, or one of the same names without layers.
        layers: weights of its layers.
        input_ids: (queries, length).
        attention_mask: (queries, length), 0 where padded.
        views: long view and history of each prompt.
    """
    embeddings = encoder.embed_prompt(input_ids, None, views)
    check_length("prompts", embeddings.shape[1], encoder.max_source_positions)
    packing, mask = None, None
    if not bool(attention_mask.all()):
        embeddings = encoder._from_first_token(embeddings, attention_mask)
        packing = Packing.of((input_ids.shape[0], input_ids.shape[1]), attention_mask.flatten().nonzero()[:, 0])
        mask = attention_mask.bool()[:, None, None, :]  # (queries, 1, 1, length)
    hidden = encoder.layernorm_embedding(embeddings + encoder.embed_positions(embeddings[:, :, 0]))
    if packing is not None:
        hidden = packing.pack(hidden)  # (1, rows, width)
    for attention, norm, feed_forward in layers:
        query, key, value = attention.query(hidden), attention.key(hidden), attention.value(hidden)
        if packing is not None:
            query, key, value = packing.unpack(query), packing.unpack(key), packing.unpack(value)
        mixed = attention.mix(query, attention.heads(key), attention.heads(value), mask)
        if packing is not None:
            mixed = packing.pack(mixed)
        hidden = feed_forward(norm(hidden + attention.out(mixed)))
    return hidden if packing is None else packing.unpack(hidden)


__all__ = ["Affine", "Attention", "DecoderLayer", "EncoderLayer", "FeedForward", "Norm", "PlainBart", "encode"]
