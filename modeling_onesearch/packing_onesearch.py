"""Batches without their padding: apart from the attention itself, the real tokens go through the layers in one row.

Attention layers find their function by its name in transformers' `AttentionInterface`. The models here run `onesearch_sdpa` wherever
`sdpa` is asked for: the same function, which also takes a `packing`. Any other implementation runs padded batches.
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import is_torchdynamo_compiling

from .places_onesearch import Packing

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    _Base = PreTrainedModel
else:
    _Base = object

WORTHWHILE = 0.9
"""Share of real tokens below which a batch is packed; our choice."""

PACKED_SDPA = "onesearch_sdpa"
"""Name of the attention function that takes packed batches."""

LAYER_OUTPUTS = ("output_hidden_states", "output_attentions")
"""Arguments that ask for the states of all layers, which are returned padded."""


def packing_of(config: PreTrainedConfig, mask: torch.Tensor | None, asked: Mapping[str, Any]) -> Packing | None:
    """The packing of a batch.

    Args:
        config: configuration of the model.
        mask: (batch, length), 0 where padded.
        asked: keyword arguments of the model's `forward`.

    Returns:
        None where the batch stays padded: few places are padding, the attention implementation takes no packing, the caller asked for the
        states of all layers or for a tuple, or the model is being compiled (the number of tokens varies).
    """
    if mask is None or mask.dim() != 2 or config._attn_implementation != PACKED_SDPA or is_torchdynamo_compiling():
        return None
    extras = any(asked.get(name, getattr(config, name, False)) for name in LAYER_OUTPUTS)
    if extras or not asked.get("return_dict", config.return_dict):
        return None
    places = mask.flatten().nonzero()[:, 0]
    if not 0 < len(places) < WORTHWHILE * mask.numel():
        return None
    return Packing.of((mask.shape[0], mask.shape[1]), places)


def packed_sdpa(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    packing: Packing | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """transformers' `sdpa`, within each row of a packed batch.

    Args:
        module: the attention layer.
        query: (batch, heads, length, head size), or (1, heads, tokens, head size) of a packed batch.
        key: as `query`.
        value: as `query`.
        attention_mask: mask of the padded batch.
        packing: places of the tokens of a packed batch.
        kwargs: further arguments of `sdpa`.

    Returns:
        (batch, length, heads, head size), or (1, tokens, heads · head size); and None in place of the weights.
    """
    attend = ALL_ATTENTION_FUNCTIONS["sdpa"]
    if packing is None:
        return attend(module, query, key, value, attention_mask, **kwargs)
    padded = []
    for states in (query, key, value):
        heads, _, size = states.shape[1:]
        padded.append(packing.unpack(states.transpose(1, 2).flatten(2)).unflatten(-1, (heads, size)).transpose(1, 2))
    mixed, weights = attend(module, *padded, attention_mask, **kwargs)
    return packing.pack(mixed.flatten(2)), weights


class PackedSdpaMixin(_Base):
    """Stands before a model's class among the parents: `sdpa`, transformers' default, becomes the function that takes packed batches."""

    def get_correct_attn_implementation(self, requested_attention: str | None, is_init_check: bool = False) -> str:
        """As in transformers, which calls it from `__init__`, `from_pretrained` and `set_attn_implementation`."""
        name = super().get_correct_attn_implementation(requested_attention, is_init_check)
        return PACKED_SDPA if name == "sdpa" else name


AttentionInterface.register(PACKED_SDPA, packed_sdpa)
AttentionMaskInterface.register(PACKED_SDPA, ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])

__all__ = ["PACKED_SDPA", "PackedSdpaMixin", "packing_of"]
