"""OneSearch's decoder-only backbone: transformers' Qwen3, with the long view among the prompt's embeddings and batches without padding.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from transformers.cache_utils import Cache
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.qwen3.modeling_qwen3 import Qwen3Model, Qwen3PreTrainedModel
from transformers.utils import is_torchdynamo_compiling

from .configuration_onesearch import OneSearchQwen3Config
from .history_onesearch import PromptViews
from .long_view_onesearch import LongViewMixin
from .packing_onesearch import PackedSdpaMixin, packing_of


class OneSearchQwen3PreTrainedModel(PackedSdpaMixin, Qwen3PreTrainedModel):
    """Names the configuration; everything else is Qwen3's."""

    config: OneSearchQwen3Config
    config_class = OneSearchQwen3Config


class OneSearchQwen3Model(LongViewMixin, OneSearchQwen3PreTrainedModel, Qwen3Model):
    """The backbone. Inputs and outputs are those of [`~transformers.Qwen3Model`], and `PromptViews`."""

    if TYPE_CHECKING:
        config: OneSearchQwen3Config

    def __init__(self, config: OneSearchQwen3Config) -> None:
        config.check()  # `from_pretrained(..., num_hidden_layers=…)` changes a configuration after its own check
        super().__init__(config)
        self._add_views(config.hidden_size, config.num_attention_heads, 0.0, cast(float, config.initializer_range))

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        long_view_codes: torch.LongTensor | None = None,
        history_items: torch.LongTensor | None = None,
        history_vectors: torch.Tensor | None = None,
        query_vectors: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """See [`~transformers.Qwen3Model`]; `long_view_codes`, `history_items`, `history_vectors` and `query_vectors` as in
        [`OneSearchForConditionalGeneration`]."""
        # A compiled call checks no placeholders, and the length of a static cache is a tensor, on which a graph cannot branch.
        is_start = is_torchdynamo_compiling() or past_key_values is None or not past_key_values.get_seq_length()
        embeddings = self.embed_prompt(
            input_ids, inputs_embeds, PromptViews(long_view_codes, history_items, history_vectors, query_vectors), is_start
        )
        given: dict[str, Any] = {
            "position_ids": position_ids,
            "past_key_values": past_key_values,
            "use_cache": use_cache,
            **kwargs,
        }
        may_pack = use_cache is False and past_key_values is None and not self.has_sliding_layers
        packing = packing_of(self.config, attention_mask, kwargs) if may_pack else None
        if packing is None or attention_mask is None:
            return super().forward(attention_mask=attention_mask, inputs_embeds=embeddings, **given)
        mask = create_causal_mask(self.config, embeddings, attention_mask, past_key_values=None, position_ids=position_ids)
        positions: torch.Tensor | None = position_ids
        if positions is None:
            positions = torch.arange(attention_mask.shape[1], device=embeddings.device)
        given["position_ids"] = packing.pack(positions.expand_as(attention_mask)[..., None])[..., 0]  # (1, rows)
        given["attention_mask"] = {"full_attention": mask}
        outputs = super().forward(inputs_embeds=packing.pack(embeddings), packing=packing, **given)
        outputs.last_hidden_state = packing.unpack(outputs.last_hidden_state)
        return outputs


__all__ = ["OneSearchQwen3Model", "OneSearchQwen3PreTrainedModel"]
