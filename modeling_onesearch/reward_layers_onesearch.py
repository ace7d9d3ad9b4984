"""The layers of OneSearch's reward model; `modeling_reward_onesearch.py` says how they work together.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .configuration_reward_onesearch import EVENT_KINDS, GAP_BUCKETS, TOWERS, OneSearchRewardConfig

if TYPE_CHECKING:
    _Base = nn.Module
else:
    _Base = object


class RewardLayers(_Base):
    """The layers by the names that they have in a checkpoint; stands before a class of modules among the parents."""

    feature_mean: Tensor
    feature_scale: Tensor

    def _add_layers(self, config: OneSearchRewardConfig) -> None:
        """Add the layers, with random weights."""
        size = config.hidden_size
        self.items = ItemEncoder(config)
        self.query = nn.Sequential(nn.Linear(config.vector_size, size), nn.LayerNorm(size))
        self.kinds = nn.Embedding(len(EVENT_KINDS), size)
        self.gaps = nn.Embedding(GAP_BUCKETS, size)
        self.history = HistoryAttention(config)
        self.register_buffer("feature_mean", torch.zeros(len(config.features)))
        self.register_buffer("feature_scale", torch.ones(len(config.features)))
        self.user = nn.Sequential(nn.Linear(3 * size, size), nn.GELU(), nn.Linear(size, size))
        self.towers = Towers(7 * size, len(config.features) + 1, config)
        self.dropout = nn.Dropout(config.dropout)


class ItemEncoder(nn.Module):
    """State of an item from its text vector, its codes, its facets and, if it was seen often enough, its own embedding."""

    def __init__(self, config: OneSearchRewardConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.vector = nn.Linear(config.vector_size, size)
        self.codes = nn.ModuleList(nn.Embedding(count + 1, size, padding_idx=0) for count in config.codebook_sizes)
        self.facets = nn.EmbeddingBag(max(config.num_facets, 1), size, mode="sum")
        self.ids = nn.Embedding(config.num_ids + 1, size, padding_idx=0)
        self.norm = nn.LayerNorm(size)

    def forward(self, vectors: Tensor, codes: Tensor, facets: Tensor, facet_offsets: Tensor, ids: Tensor) -> Tensor:
        """States, float ``(items, hidden_size)``; the arguments are those of `OneSearchRewardModel.forward`."""
        state = self.vector(vectors) + self.facets(facets, facet_offsets) + self.ids(ids)
        for level, table in enumerate(self.codes):
            state = state + table(codes[:, level] + 1)
        return self.norm(state)


class HistoryAttention(nn.Module):
    """Two multi-head attentions from candidates to events: to those that are like the candidate, and to the latest ones.

    The projections of both lie in one matrix each, so that a search runs few operations. A candidate without any allowed event gets zeros.
    """

    def __init__(self, config: OneSearchRewardConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads = config.attention_heads
        self.query, self.key, self.value = (StackedLinear(size, 2 * [size]) for _ in range(3))
        self.out = nn.ModuleList(nn.Linear(size, size) for _ in range(2))

    def forward(self, candidates: Tensor, events: Tensor, allowed: Tensor) -> list[Tensor]:
        """Attend.

        Args:
            candidates: ``(requests, candidates, hidden)``.
            events: ``(requests, events, hidden)``.
            allowed: whether each attention may go from a candidate to an event, ``(requests, 2, candidates, events)``.

        Returns:
            What each attention found, ``(requests, candidates, hidden)`` each.
        """
        shape = (2, self.heads, -1)
        projected = (self.query(candidates), self.key(events), self.value(events))
        query, key, value = (part.unflatten(-1, shape).permute(0, 2, 3, 1, 4).flatten(0, 1) for part in projected)
        mask = allowed.flatten(0, 1)[:, None]  # (requests × 2, 1, candidates, events)
        found = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        found = torch.where(mask.any(-1, keepdim=True), found, 0.0).transpose(1, 2).flatten(-2)
        return [out(part) for out, part in zip(self.out, found.unflatten(0, (-1, 2)).unbind(1))]


class Towers(nn.Module):
    """The three outputs: for each a hidden layer over everything, and a linear layer over the cross features alone.

    The layers of all towers lie in one matrix each; no tower reads the hidden layer of another.
    """

    def __init__(self, width: int, features: int, config: OneSearchRewardConfig) -> None:
        super().__init__()
        self.hidden = StackedLinear(width + features, len(TOWERS) * [config.tower_size])
        self.dropout = nn.Dropout(config.dropout)
        self.out = StackedLinear(config.tower_size, len(TOWERS) * [1])
        self.wide = StackedLinear(features, len(TOWERS) * [1])

    def forward(self, state: Tensor, cross: Tensor) -> Tensor:
        """Log-odds, ``(requests, candidates, 3)``."""
        hidden = self.dropout(nn.functional.gelu(self.hidden(state))).unflatten(-1, (len(TOWERS), -1))
        return (hidden * self.out.weight).sum(-1) + self.out.bias + self.wide(cross)


class StackedLinear(nn.Linear):
    """Several linear layers of one input as one: their outputs stand side by side. Each gets the initial weights of its own size.

    Args:
        inputs: width of the input.
        outputs: width of each layer's output.
    """

    def __init__(self, inputs: int, outputs: list[int]) -> None:
        super().__init__(inputs, sum(outputs))
        self.sizes = outputs


__all__ = ["HistoryAttention", "ItemEncoder", "RewardLayers", "StackedLinear", "Towers"]
