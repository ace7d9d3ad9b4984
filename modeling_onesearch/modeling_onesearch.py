"""OneSearch's models: transformers' BART (encoder-decoder) and Qwen3 (decoder-only), and what differs.

What differs from `BartForConditionalGeneration`:
* a plain tied `lm_head` without logits bias;
* the softmax of a SID token runs over its level's slice of the vocabulary, in the loss and in `search`;
* the loss divides by `num_items_in_batch`, so gradient accumulation and data parallelism give the loss of one large batch;
* the implicit long view: vectors made of long item sequences stand among the prompt's embeddings (`long_view_codes`);
* `search` and the item index (`sid_index.safetensors`), saved and loaded beside the weights.

Parameter names are BART's, so any BART checkpoint initialises the model (`from_bart`).
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import fields

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationMixin, PretrainedConfig
from transformers.cache_utils import Cache, EncoderDecoderCache
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPast,
    CausalLMOutputWithPast,
    Seq2SeqLMOutput,
    Seq2SeqModelOutput,
)
from transformers.modeling_utils import PreTrainedModel
from transformers.models.bart.modeling_bart import (
    BartDecoder,
    BartEncoder,
    BartModel,
    BartPreTrainedModel,
    BartScaledWordEmbedding,
    shift_tokens_right,
)
from transformers.models.qwen3.modeling_qwen3 import Qwen3ForCausalLM, Qwen3Model, Qwen3PreTrainedModel

from .configuration_onesearch import LongViewFields, OneSearchConfig, OneSearchQwen3Config
from .decoding_onesearch import BartBeamDecoder, Qwen3BeamDecoder
from .long_view_onesearch import LongViewMixin
from .packing_onesearch import PackedAttention, PackedCausalAttention, Packing
from .search_onesearch import IGNORED, SidModelMixin

LAYER_OUTPUTS = ("output_hidden_states", "output_attentions")
"""Requests for states of all layers, which come as they were padded."""


class OneSearchPreTrainedModel(BartPreTrainedModel):
    """Names the configuration; everything else is BART's."""

    config: OneSearchConfig
    config_class = OneSearchConfig


class OneSearchEncoder(LongViewMixin, OneSearchPreTrainedModel, BartEncoder):
    """BART's encoder with the long view's vectors in the places of its placeholders, and without padding in all but the attention."""

    def __init__(self, config: OneSearchConfig):
        super().__init__(config)
        for layer in self.layers:  # a new module would draw random numbers, and a seed would not give BART's weights
            layer.self_attn.__class__ = PackedAttention
        scale = config.init_std * self.embed_tokens.embed_scale
        self._add_long_view(config.d_model, config.encoder_attention_heads, config.dropout, scale)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        long_view_codes: torch.LongTensor | None = None,
        **kwargs,
    ) -> BaseModelOutput:
        """See [`~transformers.BartModel`]'s encoder; `long_view_codes` as in [`OneSearchForConditionalGeneration`]."""
        inputs = self._placed(input_ids, inputs_embeds, long_view_codes)
        may_pack = _is_plain(self.config, kwargs) and not (self.training and self.layerdrop)
        packing = Packing.of(attention_mask) if may_pack else None
        if packing is None:
            return super().forward(attention_mask=attention_mask, **inputs, **kwargs)
        kwargs = {name: value for name, value in kwargs.items() if name not in ("return_dict", *LAYER_OUTPUTS)}
        embeddings = self._embedded(inputs)
        mask = create_bidirectional_mask(self.config, embeddings, attention_mask)
        hidden = packing.pack(embeddings + self.embed_positions(embeddings[:, :, 0]))  # (1, tokens, width)
        hidden = nn.functional.dropout(self.layernorm_embedding(hidden), self.dropout, self.training)
        for layer in self.layers:
            hidden = layer(hidden, mask, packing=packing, **kwargs)
        return BaseModelOutput(packing.unpack(hidden))


class OneSearchModel(OneSearchPreTrainedModel, BartModel):
    """The backbone: encoder and decoder over one shared embedding. Inputs and outputs are [`~transformers.BartModel`]'s, and
    `long_view_codes`."""

    def __init__(self, config: OneSearchConfig):
        super(BartModel, self).__init__(config)  # its own would make a second encoder
        scale = math.sqrt(config.d_model) if config.scale_embedding else 1.0
        self.shared = BartScaledWordEmbedding(config.vocab_size, config.d_model, config.pad_token_id, embed_scale=scale)
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
        **kwargs,
    ) -> Seq2SeqModelOutput:
        """See [`~transformers.BartModel`]; `long_view_codes` as in [`OneSearchForConditionalGeneration`]."""
        if long_view_codes is not None and encoder_outputs is None:  # the parent would hand them to the decoder, too
            encoder_outputs = self.encoder(
                input_ids=input_ids,
                attention_mask=attention_mask,
                inputs_embeds=inputs_embeds,
                long_view_codes=long_view_codes,
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


class OneSearchForConditionalGeneration(SidModelMixin, OneSearchPreTrainedModel, GenerationMixin):
    """A query with its history in, the Semantic IDs of items out (OneSearch, arXiv 2509.03236, section "Unified encoder-decoder").

    Example:

    ```python
    >>> from onesearch import OneSearchConfig, OneSearchForConditionalGeneration

    >>> model = OneSearchForConditionalGeneration(OneSearchConfig(vocab_size=600, d_model=32, encoder_layers=1, decoder_layers=1,
    ...     encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64,
    ...     sid_codebook_sizes=[64, 32, 16], sid_offset=488))

    ```"""

    base_model_prefix = "model"
    _tied_weights_keys = {"lm_head.weight": "model.shared.weight"}

    def __init__(self, config: OneSearchConfig):
        super().__init__(config)
        self.model = OneSearchModel(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self._finish(OneSearchModel)

    @classmethod
    def from_bart(
        cls,
        checkpoint: str | os.PathLike,
        vocab_size: int,
        sid_codebook_sizes: Sequence[int],
        sid_offset: int,
        sid_fingerprint: str | None = None,
        **kwargs,
    ) -> OneSearchForConditionalGeneration:
        """Start from the weights of a BART checkpoint whose tokenizer was extended by SID tokens.

        Args:
            checkpoint: a folder or Hub id that [`~transformers.BartForConditionalGeneration`] loads.
            vocab_size: `len(tokenizer)` of the extended tokenizer; new rows are drawn around the mean of the old ones.
            sid_codebook_sizes, sid_offset, sid_fingerprint: see [`OneSearchConfig`].
            kwargs: fields of [`LongViewFields`] for a long view, which starts with random weights and needs
                `set_long_view_centroids`; all others are passed to BART's `from_pretrained`.

        Raises:
            ValueError: the checkpoint has a logits bias that is not zero, which a plain tied head cannot hold, or more rows than
                `vocab_size`.
        """
        layout = _long_view_fields(kwargs)
        bart = AutoModelForSeq2SeqLM.from_pretrained(checkpoint, **kwargs)
        _check_origin(bart, "bart", checkpoint, vocab_size, sid_offset)
        if bart.final_logits_bias.count_nonzero():
            raise ValueError(f"{checkpoint} has a non-zero final_logits_bias, which OneSearch's tied head does not hold")
        bart.resize_token_embeddings(vocab_size)
        known = {**_settings(bart), **layout, "forced_eos_token_id": None}
        config = OneSearchConfig(
            **known, sid_codebook_sizes=list(sid_codebook_sizes), sid_offset=sid_offset, sid_fingerprint=sid_fingerprint
        )
        model = cls(config)
        _take_over(model.model, bart.model)
        model._prompt_reader().match_long_view_scale()
        return model.to(bart.dtype)

    # Training

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.LongTensor | None = None,
        decoder_attention_mask: torch.LongTensor | None = None,
        encoder_outputs: BaseModelOutput | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        decoder_inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        use_cache: bool | None = None,
        long_view_codes: torch.LongTensor | None = None,
        **kwargs,
    ) -> Seq2SeqLMOutput:
        """Run encoder and decoder, as [`~transformers.BartForConditionalGeneration`] does.

        Args:
            labels: (batch, length) targets; -100 is ignored. SID targets are scored over their level's slice, others over the whole
                vocabulary.
            num_items_in_batch: targets in the whole optimiser step, over all processes; the loss is the sum of the negative
                log-likelihoods over this number. Default: the targets of this call.
            long_view_codes: (batch, `long_view_sequences`, items, `long_view_levels`) codes, counted from 0 within each level, of the items
                in each long sequence, -1 throughout where there is no item. A prompt with `long_view_tokens` copies of
                `long_view_token_id` gets their vectors there; without the argument, those of a user of whom nothing is known.

        Raises:
            ValueError: `long_view_codes` do not fit the model or the prompts, or a prompt has another number of placeholders.

        Returns:
            `logits` (batch, length, vocabulary) are left out while training with labels: nothing needs them, and they are the largest
            tensor by far.
        """
        if labels is not None:
            use_cache = False
            if decoder_input_ids is None and decoder_inputs_embeds is None:
                decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            long_view_codes=long_view_codes,
            **{**kwargs, "return_dict": True},
        )
        loss = None
        if labels is not None:
            loss = self.sid_loss(outputs.last_hidden_state, labels, num_items_in_batch)
        skip_logits = labels is not None and self.training
        return Seq2SeqLMOutput(
            loss=loss,
            logits=None if skip_logits else self.lm_head(outputs.last_hidden_state),
            past_key_values=outputs.past_key_values,
            decoder_hidden_states=outputs.decoder_hidden_states,
            decoder_attentions=outputs.decoder_attentions,
            cross_attentions=outputs.cross_attentions,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            encoder_hidden_states=outputs.encoder_hidden_states,
            encoder_attentions=outputs.encoder_attentions,
        )

    def prepare_decoder_input_ids_from_labels(self, labels: torch.LongTensor) -> torch.LongTensor:
        """Labels shifted right behind the decoder's start token, as BART does."""
        return shift_tokens_right(labels, self.config.pad_token_id, self.config.decoder_start_token_id)

    def _beam_decoder(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, long_view_codes: torch.Tensor | None = None
    ) -> BartBeamDecoder:
        return BartBeamDecoder(self.model, input_ids, attention_mask, self.config.decoder_start_token_id, long_view_codes)

    def _prompt_reader(self) -> LongViewMixin:
        return self.model.encoder


class OneSearchQwen3PreTrainedModel(Qwen3PreTrainedModel):
    """Names the configuration; everything else is Qwen3's."""

    config: OneSearchQwen3Config
    config_class = OneSearchQwen3Config


class OneSearchQwen3Model(LongViewMixin, OneSearchQwen3PreTrainedModel, Qwen3Model):
    """The decoder-only backbone. Inputs and outputs are [`~transformers.Qwen3Model`]'s, and `long_view_codes`."""

    def __init__(self, config: OneSearchQwen3Config):
        super().__init__(config)
        for layer in self.layers:  # as in the encoder above
            layer.self_attn.__class__ = PackedCausalAttention
        self._add_long_view(config.hidden_size, config.num_attention_heads, 0.0, config.initializer_range)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        long_view_codes: torch.LongTensor | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPast:
        """See [`~transformers.Qwen3Model`]; `long_view_codes` as in [`OneSearchForConditionalGeneration`]."""
        is_start = past_key_values is None or not past_key_values.get_seq_length()
        inputs = self._placed(input_ids, inputs_embeds, long_view_codes, is_start)
        given = {"position_ids": position_ids, "past_key_values": past_key_values, "use_cache": use_cache, **kwargs}
        may_pack = use_cache is False and past_key_values is None and not self.has_sliding_layers
        packing = Packing.of(attention_mask) if may_pack and _is_plain(self.config, kwargs) else None
        if packing is None:
            return super().forward(attention_mask=attention_mask, **inputs, **given)
        embeddings = self._embedded(inputs)
        mask = create_causal_mask(self.config, embeddings, attention_mask, past_key_values=None, position_ids=position_ids)
        if position_ids is None:
            position_ids = torch.arange(attention_mask.shape[1], device=embeddings.device)
        given["position_ids"] = packing.pack(position_ids.expand_as(attention_mask)[..., None])[..., 0]  # (1, tokens)
        given["attention_mask"] = {"full_attention": mask}
        outputs = super().forward(inputs_embeds=packing.pack(embeddings), packing=packing, **given)
        outputs.last_hidden_state = packing.unpack(outputs.last_hidden_state)
        return outputs


class OneSearchForCausalLM(SidModelMixin, OneSearchQwen3PreTrainedModel, Qwen3ForCausalLM):
    """The decoder-only counterpart on Qwen3: the prompt is continued by the SID of an item. Same catalogue, scores and search.

    Example:

    ```python
    >>> from onesearch import OneSearchForCausalLM, OneSearchQwen3Config

    >>> model = OneSearchForCausalLM(OneSearchQwen3Config(vocab_size=600, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
    ...     num_attention_heads=2, num_key_value_heads=1, head_dim=16, sid_codebook_sizes=[64, 32, 16], sid_offset=488))

    ```"""

    def __init__(self, config: OneSearchQwen3Config):
        super(Qwen3ForCausalLM, self).__init__(config)  # its own would make a second backbone
        self.model = OneSearchQwen3Model(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self._finish(OneSearchQwen3Model)

    @classmethod
    def from_qwen3(
        cls,
        checkpoint: str | os.PathLike,
        vocab_size: int,
        sid_codebook_sizes: Sequence[int],
        sid_offset: int,
        sid_fingerprint: str | None = None,
        **kwargs,
    ) -> OneSearchForCausalLM:
        """Start from the weights of a Qwen3 checkpoint whose tokenizer was extended by SID tokens.

        Args:
            checkpoint: a folder or Hub id that [`~transformers.Qwen3ForCausalLM`] loads.
            vocab_size: `len(tokenizer)` of the extended tokenizer, or the checkpoint's own if that is larger (Qwen3 pads its
                vocabulary); new rows are drawn around the mean of the old ones.
            sid_codebook_sizes, sid_offset, sid_fingerprint: see [`OneSearchQwen3Config`].
            kwargs: fields of [`LongViewFields`] for a long view, which starts with random weights and needs
                `set_long_view_centroids`; all others are passed to Qwen3's `from_pretrained`.

        Raises:
            ValueError: no Qwen3 checkpoint, or the SIDs do not fit into `vocab_size`.
        """
        layout = _long_view_fields(kwargs)
        qwen = AutoModelForCausalLM.from_pretrained(checkpoint, **kwargs)
        _check_origin(qwen, "qwen3", checkpoint, vocab_size, vocab_size)
        qwen.resize_token_embeddings(vocab_size)
        known = {**_settings(qwen), **layout}
        config = OneSearchQwen3Config(
            **known, sid_codebook_sizes=list(sid_codebook_sizes), sid_offset=sid_offset, sid_fingerprint=sid_fingerprint
        )
        model = cls(config)
        _take_over(model, qwen)
        model._prompt_reader().match_long_view_scale()
        return model.to(qwen.dtype)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        long_view_codes: torch.LongTensor | None = None,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Run the backbone, as [`~transformers.Qwen3ForCausalLM`] does.

        Args:
            labels: (batch, length), the inputs themselves with -100 where nothing is predicted; each is predicted from the position
                before it. SID targets are scored over their level's slice, others over the whole vocabulary.
            num_items_in_batch, long_view_codes: see [`OneSearchForConditionalGeneration`].

        Returns:
            `logits` are left out while training with labels.
        """
        outputs = self.model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=False if labels is not None else use_cache,
            long_view_codes=long_view_codes,
            **{**kwargs, "return_dict": True},
        )
        hidden = outputs.last_hidden_state
        loss = None
        if labels is not None:
            loss = self.sid_loss(hidden[:, :-1], labels[:, 1:], num_items_in_batch)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        return CausalLMOutputWithPast(
            loss=loss,
            logits=None if labels is not None and self.training else self.lm_head(hidden[:, kept]),
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def _beam_decoder(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, long_view_codes: torch.Tensor | None = None
    ) -> Qwen3BeamDecoder:
        return Qwen3BeamDecoder(self.model, input_ids, attention_mask, long_view_codes)

    def _prompt_reader(self) -> LongViewMixin:
        return self.model


def _is_plain(config: PretrainedConfig, asked: dict[str, object]) -> bool:
    """Whether nobody `asked` a backbone for what needs all layers' states as they were padded, or for tuples."""
    extras = any(asked.get(name, getattr(config, name, False)) for name in LAYER_OUTPUTS)
    return not extras and bool(asked.get("return_dict", config.return_dict))


def _check_origin(
    model: PreTrainedModel, expected: str, checkpoint: str | os.PathLike, vocab_size: int, sid_offset: int
) -> None:
    """ValueError unless `model` is of the expected type and its vocabulary lies below the SIDs'."""
    if model.config.model_type != expected:
        raise ValueError(
            f"{checkpoint} holds a {model.config.model_type!r} model; from_{expected} takes {expected} checkpoints"
        )
    if sid_offset < model.config.vocab_size or vocab_size < model.config.vocab_size:
        raise ValueError(
            f"sid_offset={sid_offset}, vocab_size={vocab_size}: {checkpoint} has {model.config.vocab_size} tokens of its own; "
            "extend its tokenizer with SidTokenizer.extend and pass its offset and length"
        )


def _settings(model: PreTrainedModel) -> dict[str, object]:
    """The configuration of a model whose weights are taken over, without what names its class."""
    return {key: value for key, value in model.config.to_dict().items() if key not in ("model_type", "architectures")}


def _long_view_fields(kwargs: dict[str, object]) -> dict[str, object]:
    """Takes the fields of the long view out of `kwargs`."""
    return {field.name: kwargs.pop(field.name) for field in fields(LongViewFields) if field.name in kwargs}


def _take_over(model: PreTrainedModel, origin: PreTrainedModel) -> None:
    """Load the weights of a plain backbone; a long view, which it does not have, keeps its own."""
    own = {name: tensor for name, tensor in model.state_dict().items() if "long_view" in name}
    model.load_state_dict({**own, **origin.state_dict()})


OneSearchConfig.register_for_auto_class()
OneSearchModel.register_for_auto_class("AutoModel")
OneSearchForConditionalGeneration.register_for_auto_class("AutoModelForSeq2SeqLM")
OneSearchQwen3Config.register_for_auto_class()
OneSearchQwen3Model.register_for_auto_class("AutoModel")
OneSearchForCausalLM.register_for_auto_class("AutoModelForCausalLM")

__all__ = [
    "IGNORED",
    "OneSearchEncoder",
    "OneSearchForCausalLM",
    "OneSearchForConditionalGeneration",
    "OneSearchModel",
    "OneSearchPreTrainedModel",
    "OneSearchQwen3Model",
    "OneSearchQwen3PreTrainedModel",
]
