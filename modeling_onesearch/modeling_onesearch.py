"""OneSearch's models: transformers' BART (encoder-decoder) and Qwen3 (decoder-only), with Semantic IDs in their vocabulary.

They differ from `BartForConditionalGeneration` and `Qwen3ForCausalLM` in these points:
* a plain `lm_head` without logits bias;
* the softmax of a SID token runs over its level's slice of the vocabulary or the trie's children (`sid_softmax`), in the loss and in
  `search`;
* the loss divides by `num_items_in_batch`, so gradient accumulation and data parallelism give the loss of one large batch;
* the implicit long view: vectors made of long item sequences stand among the prompt's embeddings (`long_view_codes`);
* histories as vectors, one place per item (`history_items`, `history_vectors`), and the text vector of the query (`query_vectors`);
* `search` with an item index and search settings, which are saved and loaded beside the weights.

Parameter names are the backbone's, so any BART or Qwen3 checkpoint initialises a model (`from_bart`, `from_qwen3`).
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationMixin
from transformers.cache_utils import Cache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.bart.modeling_bart import shift_tokens_right
from transformers.models.qwen3.modeling_qwen3 import Qwen3ForCausalLM
from transformers.utils import is_torchdynamo_compiling
from transformers.utils.generic import can_return_tuple

from .bart_onesearch import CAUSAL_CALL, OneSearchEncoder, OneSearchModel, OneSearchPreTrainedModel
from .configuration_onesearch import HistoryFields, LongViewFields, OneSearchConfig, OneSearchQwen3Config, QueryVectorFields
from .decoding_onesearch import Qwen3BeamDecoder, bart_beam_decoder
from .long_view_onesearch import LongViewMixin
from .origins_onesearch import check_origin, settings_of, take_fields, take_over
from .qwen3_onesearch import OneSearchQwen3Model, OneSearchQwen3PreTrainedModel
from .scores_onesearch import IGNORED, Objective, SidCausalOutput, SidSeq2SeqOutput, TargetScores
from .sid_model_onesearch import SidModelMixin


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
    _beam_decoder = staticmethod(bart_beam_decoder)
    _backbone: type[OneSearchModel] = OneSearchModel
    _own_fields: tuple[type, ...] = (LongViewFields, HistoryFields, QueryVectorFields)

    def __init__(self, config: OneSearchConfig) -> None:
        super().__init__(config)
        self.model = self._backbone(config)
        self.lm_head = nn.Linear(cast(int, config.d_model), config.vocab_size, bias=False)
        self._finish(self._backbone)

    @classmethod
    def from_bart(
        cls,
        checkpoint: str | os.PathLike,
        vocab_size: int,
        sid_codebook_sizes: Sequence[int],
        sid_offset: int,
        sid_fingerprint: str | None = None,
        **kwargs: Any,
    ) -> OneSearchForConditionalGeneration:
        """Start from the weights of a BART checkpoint whose tokenizer was extended by SID tokens.

        Args:
            checkpoint: a folder or Hub id that [`~transformers.BartForConditionalGeneration`] loads.
            vocab_size: `len(tokenizer)` of the extended tokenizer; new rows are drawn around the mean of the old rows.
            sid_codebook_sizes: see [`OneSearchConfig`].
            sid_offset: see [`OneSearchConfig`].
            sid_fingerprint: see [`OneSearchConfig`].
            kwargs: fields of [`LongViewFields`] for a long view, which starts with random weights and needs
                `set_long_view_centroids`, of [`HistoryFields`] for histories as vectors, of [`QueryVectorFields`] for the query's
                vector, and for UniSearch of [`ItemFields`];
                all others are passed to BART's `from_pretrained`.

        Raises:
            ValueError: the checkpoint has a logits bias that is not zero, which a plain tied head cannot hold, or more rows than
                `vocab_size`.
        """
        own = take_fields(kwargs, *cls._own_fields)
        bart = AutoModelForSeq2SeqLM.from_pretrained(checkpoint, **kwargs)
        check_origin(bart, "bart", checkpoint, vocab_size, sid_offset)
        if bart.final_logits_bias.count_nonzero():
            raise ValueError(f"{checkpoint} has a non-zero final_logits_bias, which OneSearch's tied head does not hold")
        bart.resize_token_embeddings(vocab_size)
        known = {**settings_of(bart), **own, "forced_eos_token_id": None}
        known |= {"sid_codebook_sizes": list(sid_codebook_sizes), "sid_offset": sid_offset, "sid_fingerprint": sid_fingerprint}
        model = cls(cls.config_class(**known))
        take_over(model.model, bart.model)
        model.model.encoder.match_long_view_scale()
        return model.to(bart.dtype)

    # Training

    @can_return_tuple
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
        shift_labels: torch.LongTensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        use_cache: bool | None = None,
        long_view_codes: torch.LongTensor | None = None,
        history_items: torch.LongTensor | None = None,
        history_vectors: torch.FloatTensor | None = None,
        query_vectors: torch.FloatTensor | None = None,
        return_logits: bool | None = None,
        objective: Objective | None = None,
        **kwargs: Any,
    ) -> SidSeq2SeqOutput:
        """Run encoder and decoder, as [`~transformers.BartForConditionalGeneration`] does.

        Args:
            labels: (batch, length) targets; -100 is ignored. The configuration's `sid_softmax` sets the codes that each competes with.
                Without decoder inputs the decoder reads the labels, shifted right.
            shift_labels: (batch, length) targets on the positions that predict them. A decoder's labels are that already: it replaces them.
            num_items_in_batch: number of targets in the whole optimiser step, over all processes; the loss is the sum of the negative
                log-likelihoods over this number. Default: the targets of this call.
            long_view_codes: (batch, `long_view_sequences`, items, `long_view_levels`) codes, counted from 0 within each level, of the items
                in each long sequence, -1 throughout where there is no item. A prompt with `long_view_tokens` copies of
                `long_view_token_id` gets their vectors there; without the argument, those of a user of whom nothing is known.
            history_items: (batch, items, levels + 3 + facets) items of each history, oldest first, for prompts with placeholders of items
                (`history_token_id`): codes counted from 0 within each level; kind of the event, a number in `EVENT_KINDS` or -1; bucket of
                its gap, 0 if unknown; number of the item's own embedding, 0 for none; and its facets. -1 stands for no facet, and
                throughout the codes for no item.
            history_vectors: (batch, items, `history_vector_size`) text vectors of these items, zeros where unknown.
            query_vectors: (batch, `query_vector_size`) text vectors of the queries, for prompts with a placeholder of them
                (`query_vector_token_id`).
            return_logits: make the logits (batch, length, vocabulary), the largest tensor by far. Default: not while training with labels.
            objective: scores the targets in place of `score_targets`; it runs the backbone itself, as often as it needs.

        Raises:
            ValueError: `long_view_codes` or `history_items` do not fit the model or the prompts, a prompt has another number of
                placeholders, or the labels are the prompts themselves, as a trainer for causal models gives them; to train a
                model to copy its prompts, pass `decoder_input_ids`, too.

        Returns:
            With labels, `loss` and `target_scores`; a tuple with `return_dict=False`.
        """
        targets = labels if shift_labels is None else shift_labels
        if targets is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
            _refuse_causal_rows(input_ids, targets)
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(targets)
        inputs = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "decoder_input_ids": decoder_input_ids,
            "decoder_attention_mask": decoder_attention_mask,
            "encoder_outputs": encoder_outputs,
            "past_key_values": past_key_values,
            "inputs_embeds": inputs_embeds,
            "decoder_inputs_embeds": decoder_inputs_embeds,
            "use_cache": use_cache if targets is None else False,
            "long_view_codes": long_view_codes,
            "history_items": history_items,
            "history_vectors": history_vectors,
            "query_vectors": query_vectors,
            **kwargs,
            "return_dict": True,
        }
        scores: TargetScores | None
        if objective is not None and targets is not None:
            scores = objective(self, inputs, targets)
            return SidSeq2SeqOutput(loss=scores.loss(num_items_in_batch), target_scores=scores)
        outputs = self.model(**inputs)
        scores = None if targets is None else self.score_targets(outputs.last_hidden_state, targets)
        if return_logits is None:
            return_logits = targets is None or not self.training
        return SidSeq2SeqOutput(
            loss=None if scores is None else scores.loss(num_items_in_batch),
            logits=self.lm_head(outputs.last_hidden_state) if return_logits else None,
            past_key_values=outputs.past_key_values,
            decoder_hidden_states=outputs.decoder_hidden_states,
            decoder_attentions=outputs.decoder_attentions,
            cross_attentions=outputs.cross_attentions,
            encoder_last_hidden_state=outputs.encoder_last_hidden_state,
            encoder_hidden_states=outputs.encoder_hidden_states,
            encoder_attentions=outputs.encoder_attentions,
            target_scores=scores,
        )

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.LongTensor:
        """Labels shifted right behind the decoder's start token, as BART does."""
        config = self.config
        return shift_tokens_right(labels, cast(int, config.pad_token_id), cast(int, config.decoder_start_token_id))

    def _prompt_reader(self) -> LongViewMixin:
        return self.model.encoder


class OneSearchForCausalLM(SidModelMixin, OneSearchQwen3PreTrainedModel, Qwen3ForCausalLM):
    """The decoder-only counterpart on Qwen3: the prompt is continued by the SID of an item. Same catalogue, scores and search.

    Example:

    ```python
    >>> from onesearch import OneSearchForCausalLM, OneSearchQwen3Config

    >>> model = OneSearchForCausalLM(OneSearchQwen3Config(vocab_size=600, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
    ...     num_attention_heads=2, num_key_value_heads=1, head_dim=16, sid_codebook_sizes=[64, 32, 16], sid_offset=488))

    ```"""

    _beam_decoder = Qwen3BeamDecoder

    def __init__(self, config: OneSearchQwen3Config) -> None:
        super(Qwen3ForCausalLM, self).__init__(config)  # Qwen3ForCausalLM's own would make a second backbone
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
        **kwargs: Any,
    ) -> OneSearchForCausalLM:
        """Start from the weights of a Qwen3 checkpoint whose tokenizer was extended by SID tokens.

        Args:
            checkpoint: a folder or Hub id that [`~transformers.Qwen3ForCausalLM`] loads.
            vocab_size: `len(tokenizer)` of the extended tokenizer, or the checkpoint's own if that is larger (Qwen3 pads its
                vocabulary); new rows are drawn around the mean of the old rows.
            sid_codebook_sizes: see [`OneSearchConfig`].
            sid_offset: see [`OneSearchConfig`].
            sid_fingerprint: see [`OneSearchConfig`].
            kwargs: fields of [`LongViewFields`] for a long view, which starts with random weights and needs
                `set_long_view_centroids`, of [`HistoryFields`] for histories as vectors, and of [`QueryVectorFields`]; all others
                are passed to Qwen3's `from_pretrained`.

        Raises:
            ValueError: no Qwen3 checkpoint, or the SIDs do not fit into `vocab_size`.
        """
        own = take_fields(kwargs, LongViewFields, HistoryFields, QueryVectorFields)
        qwen = AutoModelForCausalLM.from_pretrained(checkpoint, **kwargs)
        check_origin(qwen, "qwen3", checkpoint, vocab_size, vocab_size)
        qwen.resize_token_embeddings(vocab_size)
        known = {**settings_of(qwen), **own}
        known |= {"sid_codebook_sizes": list(sid_codebook_sizes), "sid_offset": sid_offset, "sid_fingerprint": sid_fingerprint}
        model = cls(OneSearchQwen3Config(**known))
        take_over(model, qwen)
        model.model.match_long_view_scale()
        return model.to(qwen.dtype)  # type: ignore[arg-type]  # transformers' wrapper of `to` hides `self` from mypy

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        shift_labels: torch.LongTensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        long_view_codes: torch.LongTensor | None = None,
        history_items: torch.LongTensor | None = None,
        history_vectors: torch.FloatTensor | None = None,
        query_vectors: torch.FloatTensor | None = None,
        return_logits: bool | None = None,
        objective: Objective | None = None,
        **kwargs: Any,
    ) -> SidCausalOutput:
        """Run the backbone, as [`~transformers.Qwen3ForCausalLM`] does.

        Args:
            labels: (batch, length), the inputs themselves with -100 where nothing is predicted; each is predicted from the position
                before it. The configuration's `sid_softmax` sets the codes that each competes with.
            shift_labels: (batch, length) targets on the positions that predict them; replaces `labels`.
            num_items_in_batch: see [`OneSearchForConditionalGeneration`].
            long_view_codes: see [`OneSearchForConditionalGeneration`].
            history_items: see [`OneSearchForConditionalGeneration`].
            history_vectors: see [`OneSearchForConditionalGeneration`].
            query_vectors: see [`OneSearchForConditionalGeneration`].
            return_logits: see [`OneSearchForConditionalGeneration`].
            objective: see [`OneSearchForConditionalGeneration`].

        Returns:
            With labels, `loss` and `target_scores`; a tuple with `return_dict=False`.
        """
        targets: torch.Tensor | None = shift_labels
        if targets is None and labels is not None:
            targets = F.pad(labels[:, 1:], (0, 1), value=IGNORED)
        inputs = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "past_key_values": past_key_values,
            "inputs_embeds": inputs_embeds,
            "use_cache": use_cache if targets is None else False,
            "long_view_codes": long_view_codes,
            "history_items": history_items,
            "history_vectors": history_vectors,
            "query_vectors": query_vectors,
            **kwargs,
            "return_dict": True,
        }
        scores: TargetScores | None
        if objective is not None and targets is not None:
            scores = objective(self, inputs, targets)
            return SidCausalOutput(loss=scores.loss(num_items_in_batch), target_scores=scores)
        outputs = self.model(**inputs)
        hidden = outputs.last_hidden_state
        scores = None if targets is None else self.score_targets(hidden, targets)
        if return_logits is None:
            return_logits = targets is None or not self.training
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        return SidCausalOutput(
            loss=None if scores is None else scores.loss(num_items_in_batch),
            logits=self.lm_head(hidden[:, kept]) if return_logits else None,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            target_scores=scores,
        )

    def _prompt_reader(self) -> LongViewMixin:
        return self.model


def _refuse_causal_rows(input_ids: torch.Tensor | None, targets: torch.Tensor) -> None:
    """Raise ValueError if every target (batch, length) is the token in the same place of the prompts."""
    if input_ids is None or input_ids.shape != targets.shape or is_torchdynamo_compiling():
        return
    is_target = targets != IGNORED
    if bool(is_target.any()) and torch.equal(targets[is_target], input_ids[is_target]):
        raise ValueError(
            f"the labels are the prompts themselves: the encoder reads what the decoder should predict. {CAUSAL_CALL}"
        )


OneSearchConfig.register_for_auto_class()
OneSearchModel.register_for_auto_class("AutoModel")
OneSearchForConditionalGeneration.register_for_auto_class("AutoModelForSeq2SeqLM")
OneSearchQwen3Config.register_for_auto_class()
OneSearchQwen3Model.register_for_auto_class("AutoModel")
OneSearchForCausalLM.register_for_auto_class("AutoModelForCausalLM")

__all__ = [
    "IGNORED",
    "Objective",
    "OneSearchEncoder",
    "OneSearchForCausalLM",
    "OneSearchForConditionalGeneration",
    "OneSearchModel",
    "OneSearchPreTrainedModel",
    "OneSearchQwen3Model",
    "OneSearchQwen3PreTrainedModel",
    "SidCausalOutput",
    "SidSeq2SeqOutput",
]
