"""OneSearch's encoder-decoder backbone: transformers' BART, with the long view among the prompt's embeddings and batches without padding.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn
from transformers.cache_utils import Cache
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqModelOutput
from transformers.models.bart.modeling_bart import (
    BartDecoder,
    BartEncoder,
    BartModel,
    BartPreTrainedModel,
    BartScaledWordEmbedding,
)

from .configuration_onesearch import OneSearchConfig
from .history_onesearch import PromptViews
from .long_view_onesearch import LongViewMixin
from .packing_onesearch import LAYER_OUTPUTS, PackedSdpaMixin, packing_of
from .places_onesearch import PositionsMixin, check_length

CAUSAL_CALL = (
    "Trainers for causal models (TRL's SFTTrainer, DPOTrainer and GRPOTrainer) make such calls, and the model would learn nothing from "
    "them. Train an encoder-decoder with SidSFTTrainer of onesearch or with Seq2SeqTrainer of transformers"
)
"""End of the errors about a causal call."""


class OneSearchPreTrainedModel(PackedSdpaMixin, BartPreTrainedModel):
    """Names the configuration; everything else is BART's."""

    config: OneSearchConfig
    config_class = OneSearchConfig


class OneSearchEncoder(PositionsMixin, LongViewMixin, OneSearchPreTrainedModel, BartEncoder):
    """BART's encoder with these differences: the long view's vectors stand in the places of its placeholders, positions are counted over
    the tokens and not over the padding before them, and padding takes part in nothing but the attention."""

    if TYPE_CHECKING:
        config: OneSearchConfig
        embed_tokens: BartScaledWordEmbedding

    def __init__(self, config: OneSearchConfig) -> None:
        super().__init__(config)
        width, heads = cast(int, config.d_model), cast(int, config.encoder_attention_heads)
        scale = cast(float, config.init_std) * cast(float, self.embed_tokens.embed_scale)
        self._add_views(width, heads, config.dropout or 0.0, scale)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        long_view_codes: torch.Tensor | None = None,
        history_items: torch.Tensor | None = None,
        history_vectors: torch.Tensor | None = None,
        query_vectors: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutput:
        """See the encoder of [`~transformers.BartModel`]; `long_view_codes`, `history_items`, `history_vectors` and `query_vectors` as in
        [`OneSearchForConditionalGeneration`].

        Raises:
            ValueError: the prompts have more places than `max_position_embeddings`.
        """
        embeddings = self.embed_prompt(
            input_ids, inputs_embeds, PromptViews(long_view_codes, history_items, history_vectors, query_vectors)
        )
        check_length("prompts", embeddings.shape[1], self.max_source_positions)
        embeddings = self._from_first_token(embeddings, attention_mask)
        drops_layers = self.training and self.layerdrop
        packing = None if drops_layers else packing_of(self.config, attention_mask, kwargs)
        if packing is None:
            return super().forward(attention_mask=attention_mask, inputs_embeds=embeddings, **kwargs)
        kwargs = {name: value for name, value in kwargs.items() if name not in ("return_dict", *LAYER_OUTPUTS)}
        mask = create_bidirectional_mask(self.config, embeddings, attention_mask)
        hidden = packing.pack(embeddings + self.embed_positions(embeddings[:, :, 0]))  # (1, rows, width)
        hidden = nn.functional.dropout(self.layernorm_embedding(hidden), self.dropout or 0.0, self.training)
        for layer in self.layers:
            hidden = layer(hidden, mask, packing=packing, **kwargs)
        return BaseModelOutput(packing.unpack(hidden))


class OneSearchModel(OneSearchPreTrainedModel, BartModel):
    """The backbone: encoder and decoder over one shared embedding. Inputs and outputs are those of [`~transformers.BartModel`], and
    those of `PromptViews`. The decoder's inputs must be given: BART's default, the prompt shifted right, means nothing here."""

    def __init__(self, config: OneSearchConfig) -> None:
        config.check()  # `from_pretrained(..., encoder_layers=…)` changes a configuration after its own check
        super(BartModel, self).__init__(config)  # BartModel's own would make a second encoder
        width = cast(int, config.d_model)
        scale = math.sqrt(width) if config.scale_embedding else 1.0
        self.shared = BartScaledWordEmbedding(config.vocab_size, width, cast(int, config.pad_token_id), embed_scale=scale)
        self.encoder = OneSearchEncoder(config)
        self.decoder = BartDecoder(config)
        self.post_init()

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.LongTensor | None = None,
        decoder_attention_mask: torch.LongTensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        decoder_inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        long_view_codes: torch.LongTensor | None = None,
        history_items: torch.LongTensor | None = None,
        history_vectors: torch.Tensor | None = None,
        query_vectors: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> Seq2SeqModelOutput:
        """See [`~transformers.BartModel`]; `long_view_codes`, `history_items`, `history_vectors` and `query_vectors` as in
        [`OneSearchForConditionalGeneration`].

        Raises:
            ValueError: there are no decoder inputs, as when a trainer for causal models calls the model, or the inputs have more places
                than `max_position_embeddings`.
        """
        decoder_inputs = decoder_input_ids if decoder_input_ids is not None else decoder_inputs_embeds
        if decoder_inputs is None:
            raise ValueError(f"the encoder-decoder got no decoder_input_ids, decoder_inputs_embeds or labels. {CAUSAL_CALL}")
        check_length("decoder inputs", decoder_inputs.shape[1], self.config.max_position_embeddings)
        views = PromptViews(long_view_codes, history_items, history_vectors, query_vectors)
        if any(view is not None for view in views) and encoder_outputs is None:  # BartModel would pass them to the decoder, too
            encoder_outputs = self.encoder(
                input_ids=input_ids,
                attention_mask=attention_mask,
                inputs_embeds=inputs_embeds,
                **views._asdict(),
                **{**kwargs, "return_dict": True},
            )
        return super().forward(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )


__all__ = ["CAUSAL_CALL", "OneSearchEncoder", "OneSearchModel", "OneSearchPreTrainedModel"]
