"""Batches without their padding: but for the attention itself, the real tokens go through the layers in one row.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from transformers.cache_utils import Cache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bart import modeling_bart as bart
from transformers.models.qwen3 import modeling_qwen3 as qwen3
from transformers.utils import is_torchdynamo_compiling

WORTHWHILE = 0.9
"""Share of real tokens below which packing pays. Ours."""


class Packing:
    """Where the tokens of a batch stand.

    Args:
        mask: (batch, length), 0 where padded.
    """

    def __init__(self, mask: torch.Tensor):
        self.shape = tuple(mask.shape)
        self.places = mask.flatten().nonzero()[:, 0]  # (tokens,) in batch · length

    @classmethod
    def of(cls, mask: torch.Tensor | None) -> Packing | None:
        """None where nothing is gained: few places are padding. Nor can it be compiled: the number of tokens varies."""
        if mask is None or mask.dim() != 2 or is_torchdynamo_compiling():
            return None
        packing = cls(mask)
        return packing if 0 < len(packing.places) < WORTHWHILE * mask.numel() else None

    def pack(self, states: torch.Tensor) -> torch.Tensor:
        """(batch, length, width) → (1, tokens, width)."""
        return states.flatten(0, 1).index_select(0, self.places)[None]

    def unpack(self, states: torch.Tensor) -> torch.Tensor:
        """(1, tokens, width) → (batch, length, width), 0 where padded."""
        batch, length = self.shape
        return states.new_zeros(batch * length, states.shape[2]).index_copy(0, self.places, states[0]).view(batch, length, -1)

    def attend(
        self,
        attention: nn.Module,
        eager: Callable,
        states: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        mask: torch.Tensor | None,
        dropout: float,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Attention within each row of the batch, by the model's `attn_implementation`.

        Args:
            attention: whose heads these are; eager: its plain implementation; mask: that of the batch as it was padded.
            states: queries, keys and values, (1, tokens, heads, head size) each.

        Returns:
            (1, tokens, width), and the weights where the implementation returns them.
        """
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(attention.config._attn_implementation, eager)
        query, key, value = (  # (batch, heads, length, head size)
            self.unpack(part.flatten(2)).unflatten(-1, part.shape[2:]).transpose(1, 2) for part in states
        )
        dropout = dropout if attention.training else 0.0
        mixed, weights = attend(attention, query, key, value, mask, dropout=dropout, scaling=attention.scaling, **kwargs)
        return self.pack(mixed.flatten(2)), weights  # mixed: (batch, length, heads, head size)


class PackedAttention(bart.BartAttention):
    """BART's self-attention, which projects real tokens alone when given a `packing`."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        packing: Packing | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """With `packing`: hidden_states (1, tokens, width); `attention_mask` is that of the batch as it was padded."""
        if packing is None:
            return super().forward(hidden_states, attention_mask=attention_mask, **kwargs)
        parts = (self.q_proj, self.k_proj, self.v_proj)
        states = tuple(part(hidden_states).unflatten(-1, (-1, self.head_dim)) for part in parts)
        mixed, weights = packing.attend(self, bart.eager_attention_forward, states, attention_mask, self.dropout, **kwargs)
        return self.out_proj(mixed), weights


class PackedCausalAttention(qwen3.Qwen3Attention):
    """The same of Qwen3's attention."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        position_embeddings: tuple[torch.Tensor, torch.Tensor],
        attention_mask: torch.Tensor | None,
        past_key_values: Cache | None = None,
        packing: Packing | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """With `packing`: hidden_states and position_embeddings (1, tokens, width); no cache."""
        if packing is None:
            return super().forward(hidden_states, position_embeddings, attention_mask, past_key_values, **kwargs)
        query, key, value = (
            part(hidden_states).unflatten(-1, (-1, self.head_dim)) for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = qwen3.apply_rotary_pos_emb(self.q_norm(query), self.k_norm(key), *position_embeddings, unsqueeze_dim=2)
        kwargs["sliding_window"] = self.sliding_window
        mixed, weights = packing.attend(
            self, qwen3.eager_attention_forward, (query, key, value), attention_mask, self.attention_dropout, **kwargs
        )
        return self.o_proj(mixed), weights


__all__ = ["PackedAttention", "PackedCausalAttention", "Packing"]
