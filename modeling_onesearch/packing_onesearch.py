"""Prompts without their padding: but for the attention itself, the real tokens of a batch go through the encoder in one row.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.bart.modeling_bart import BartAttention, eager_attention_forward
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
        """None where nothing is gained: few places are padding. (Nor can it be compiled: the number of tokens varies.)"""
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


class PackedAttention(BartAttention):
    """BART's self-attention, which projects real tokens alone when given a `packing`; any `attn_implementation`."""

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
        query, key, value = (  # (batch, heads, length, head size)
            packing.unpack(part(hidden_states)).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        dropout = self.dropout if self.training else 0.0
        mixed, weights = attend(self, query, key, value, attention_mask, dropout=dropout, scaling=self.scaling, **kwargs)
        return self.out_proj(packing.pack(mixed.flatten(2))), weights  # mixed: (batch, length, heads, head size)


__all__ = ["PackedAttention", "Packing"]
