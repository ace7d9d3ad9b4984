"""The network of SASRec (Kang & McAuley, ICDM 2018, arXiv 1808.09781): causal self-attention over the item ids of a history."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

PADDING = -1
"""Item row of a place without an item."""


class SASRecModel(nn.Module):
    """Turns a history into one state per place; a state's inner products with the item embeddings are the logits of the next item.

    Histories are aligned to the left and padded on the right, so the causal mask alone keeps padding out of every real state. Norms
    come before the attention and the feed-forward layer, which trains without a warm-up; the paper puts them in the same place.

    Args:
        items: number of items.
        hidden_size: size of the item embeddings and of the states.
        layers: number of blocks.
        heads: number of attention heads; divides `hidden_size`.
        dropout: share of the values that is dropped in training.
        max_length: largest number of items in a history.
    """

    def __init__(self, items: int, hidden_size: int, layers: int, heads: int, dropout: float, max_length: int) -> None:
        super().__init__()
        self.items = nn.Embedding(items, hidden_size)
        self.positions = nn.Embedding(max_length, hidden_size)
        self.blocks = nn.ModuleList(_Block(hidden_size, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(hidden_size)
        self.dropout = nn.Dropout(dropout)
        nn.init.normal_(self.items.weight, std=hidden_size**-0.5)
        nn.init.normal_(self.positions.weight, std=0.02)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the states of histories.

        Args:
            rows: item rows from old to new, `PADDING` on the right, int64 ``(histories, length)``.

        Returns:
            States, ``(histories, length, hidden_size)``; those of padding mean nothing.
        """
        places = torch.arange(rows.shape[1])
        states = self.dropout(self.items(rows.clamp(min=0)) + self.positions(places))
        for block in self.blocks:
            states = block(states)
        return self.norm(states)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits of every item, ``(..., items)``."""
        return states @ self.items.weight.T

    def loss(self, rows: torch.Tensor, negatives: torch.Tensor | None = None) -> torch.Tensor:
        """Mean cross-entropy of the next item over all places that have one.

        Args:
            rows: as for `forward`.
            negatives: item rows that were drawn uniformly, ``(negatives,)``. The softmax is then taken over each target and these,
                whose logits grow by log(items / negatives), so that they stand for the whole catalogue. None takes all items.
        """
        known = rows[:, 1:] != PADDING
        states = self(rows[:, :-1])[known]
        targets = rows[:, 1:][known]
        if negatives is None:
            return F.cross_entropy(self.logits(states), targets)
        own = (states * self.items(targets)).sum(1, keepdim=True)
        others = states @ self.items(negatives).T + float(torch.tensor(len(self.items.weight) / len(negatives)).log())
        others = others.masked_fill(negatives == targets[:, None], float("-inf"))
        return F.cross_entropy(torch.cat([own, others], dim=1), torch.zeros_like(targets))


class _Block(nn.Module):
    """Causal self-attention and a feed-forward layer, both with a residual connection."""

    def __init__(self, hidden_size: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.feed_norm = nn.LayerNorm(hidden_size), nn.LayerNorm(hidden_size)
        self.queries_keys_values = nn.Linear(hidden_size, 3 * hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)
        self.feed = nn.Sequential(
            nn.Linear(hidden_size, hidden_size), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden_size, hidden_size)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        histories, length, size = states.shape
        parts = self.queries_keys_values(self.attention_norm(states)).view(histories, length, 3, self.heads, -1)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        states = states + self.dropout(self.output(attended.transpose(1, 2).reshape(histories, length, size)))
        return states + self.dropout(self.feed(self.feed_norm(states)))


__all__ = ["PADDING", "SASRecModel"]
