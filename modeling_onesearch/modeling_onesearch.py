"""OneSearch's encoder-decoder: transformers' BART, and what differs.

What differs from `BartForConditionalGeneration`:
* a plain tied `lm_head` without logits bias;
* the softmax of a SID token runs over its level's slice of the vocabulary, in the loss and in `search`;
* the loss divides by `num_items_in_batch`, so gradient accumulation and data parallelism give the loss of one large batch;
* `search` and the item index (`sid_index.safetensors`), saved and loaded beside the weights.

Parameter names are BART's, so any BART checkpoint initialises the model (`from_bart`).
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoModelForSeq2SeqLM, GenerationMixin
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput, Seq2SeqLMOutput
from transformers.models.bart.modeling_bart import BartModel, BartPreTrainedModel, shift_tokens_right
from transformers.utils import cached_file

from .configuration_onesearch import OneSearchConfig
from .generation_onesearch import MAX_ITEMS_PER_SID, SID_INDEX_NAME, Hit, SidIndex, TrieLogitsProcessor, beam_search

IGNORED = -100
"""Label of positions that do not count in the loss."""

HUB_ARGUMENTS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


class OneSearchPreTrainedModel(BartPreTrainedModel):
    """Names the configuration; everything else is BART's."""

    config: OneSearchConfig
    config_class = OneSearchConfig


class OneSearchModel(OneSearchPreTrainedModel, BartModel):
    """The backbone: encoder and decoder over one shared embedding. Inputs and outputs are [`~transformers.BartModel`]'s."""


class OneSearchForConditionalGeneration(OneSearchPreTrainedModel, GenerationMixin):
    """A query with its history in, the Semantic IDs of items out (OneSearch, arXiv 2509.03236, section "Unified encoder-decoder").

    Example:

    ```python
    >>> from onesearch import OneSearchConfig, OneSearchForConditionalGeneration

    >>> model = OneSearchForConditionalGeneration(OneSearchConfig(vocab_size=600, d_model=32, encoder_layers=1, decoder_layers=1,
    ...     encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64,
    ...     sid_widths=[64, 32, 16], sid_offset=488))

    ```"""

    base_model_prefix = "model"
    _tied_weights_keys = {"lm_head.weight": "model.shared.weight"}

    def __init__(self, config: OneSearchConfig):
        super().__init__(config)
        self.model = OneSearchModel(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.sid_index: SidIndex | None = None
        config.auto_map = {**(getattr(config, "auto_map", None) or {}), "AutoModel": "modeling_onesearch.OneSearchModel"}
        self.post_init()
        self.generation_config.update(**self._sid_generation(config))
        self.generation_config._from_model_config = False  # or the settings above would be dropped when loading

    @staticmethod
    def _sid_generation(config: OneSearchConfig) -> dict[str, object]:
        """Settings under which `generate` with `logits_processor` finds what `search` finds: one SID, renormalised over the trie."""
        length = config.sid_levels or None
        fixed = {"max_new_tokens": length, "min_new_tokens": length, "eos_token_id": None, "forced_eos_token_id": None}
        return {**fixed, "renormalize_logits": True}

    # Loading and saving

    @classmethod
    def from_bart(
        cls,
        checkpoint: str | os.PathLike,
        vocab_size: int,
        sid_widths: Sequence[int],
        sid_offset: int,
        sid_digest: str | None = None,
        **kwargs,
    ) -> OneSearchForConditionalGeneration:
        """Start from the weights of a BART checkpoint whose tokenizer was extended by SID tokens.

        Args:
            checkpoint: a folder or Hub id that [`~transformers.BartForConditionalGeneration`] loads.
            vocab_size: `len(tokenizer)` of the extended tokenizer; new rows are drawn around the mean of the old ones.
            sid_widths, sid_offset, sid_digest: see [`OneSearchConfig`].
            kwargs: passed to BART's `from_pretrained`.

        Raises:
            ValueError: the checkpoint has a logits bias that is not zero, which a plain tied head cannot hold, or more rows than
                `vocab_size`.
        """
        bart = AutoModelForSeq2SeqLM.from_pretrained(checkpoint, **kwargs)
        if bart.config.model_type != "bart":
            raise ValueError(f"{checkpoint} holds a {bart.config.model_type!r} model; from_bart takes BART checkpoints")
        if bart.final_logits_bias.count_nonzero():
            raise ValueError(f"{checkpoint} has a non-zero final_logits_bias, which OneSearch's tied head does not hold")
        if sid_offset < bart.config.vocab_size or vocab_size < bart.config.vocab_size:
            raise ValueError(
                f"sid_offset={sid_offset}, vocab_size={vocab_size}: {checkpoint} has {bart.config.vocab_size} tokens of its own; "
                "extend its tokenizer with SidTokenizer.extend and pass its offset and length"
            )
        bart.resize_token_embeddings(vocab_size)
        known = {key: value for key, value in bart.config.to_dict().items() if key not in ("model_type", "architectures")}
        known.update(vocab_size=vocab_size, forced_eos_token_id=None)
        config = OneSearchConfig(**known, sid_widths=list(sid_widths), sid_offset=sid_offset, sid_digest=sid_digest)
        model = cls(config)
        model.model.load_state_dict(bart.model.state_dict())
        return model.to(bart.dtype)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):  # noqa: ANN206 - parent's contract
        """As in transformers; also loads the item index that lies beside the weights, if there is one.

        Raises:
            ValueError: the index belongs to other codebooks than the weights, or is damaged.
        """
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        hub = {name: kwargs[name] for name in HUB_ARGUMENTS if kwargs.get(name) is not None}
        path = cached_file(pretrained_model_name_or_path, SID_INDEX_NAME, _raise_exceptions_for_missing_entries=False, **hub)
        if path is not None:
            model.set_sid_index(SidIndex.load(path))
        return loaded

    def save_pretrained(self, save_directory: str | os.PathLike, *args, **kwargs) -> None:
        """As in transformers; also writes the item index, if one is set."""
        super().save_pretrained(save_directory, *args, **kwargs)
        if self.sid_index is not None and kwargs.get("is_main_process", True):
            self.sid_index.save(os.path.join(save_directory, SID_INDEX_NAME))

    def set_sid_index(self, index: SidIndex) -> None:
        """Attach the catalogue that `search` returns items of; ValueError if it has other widths or another digest than the model."""
        if tuple(index.widths) != tuple(self.config.sid_widths):
            raise ValueError(f"the item index has level widths {list(index.widths)}, the model {self.config.sid_widths}")
        if self.config.sid_digest is not None and index.digest != self.config.sid_digest:
            raise ValueError(
                f"the item index was made with codebooks {index.digest[:12]}…, the model was trained on {self.config.sid_digest[:12]}…: "
                "SIDs of one mean nothing to the other. Encode this catalogue with the model's codebooks, or train on these"
            )
        self.sid_index = index

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
        **kwargs,
    ) -> Seq2SeqLMOutput:
        """Run encoder and decoder, as [`~transformers.BartForConditionalGeneration`] does.

        Args:
            labels: (batch, length) targets; -100 is ignored. SID targets are scored over their level's slice, others over the whole
                vocabulary.
            num_items_in_batch: targets in the whole optimiser step, over all processes; the loss is the sum of the negative
                log-likelihoods over this number. Default: the targets of this call.

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
            **{**kwargs, "return_dict": True},
        )
        loss = None
        if labels is not None:
            log_probs, _, _ = self.score_targets(outputs.last_hidden_state, labels)
            count = (labels != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
            loss = -log_probs.sum() / torch.as_tensor(count, device=log_probs.device).clamp(min=1)
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

    def score_targets(
        self, hidden_states: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Log-probability of each target under its own softmax: its level's slice for SID tokens, the vocabulary for text.

        Args:
            hidden_states: (batch, length, d_model) of the decoder; targets: (batch, length) vocabulary ids or -100.

        Returns:
            log-probabilities with gradient, entropies and whether the target is the most likely token, each (batch, length); zero
            where ignored.
        """
        scores = hidden_states.new_zeros(3, *targets.shape, dtype=torch.float32)
        is_text = targets != IGNORED
        slices = [self.config.sid_slice(level) for level in range(self.config.sid_levels)]
        for start, stop in slices:
            is_text = is_text & ~((targets >= start) & (targets < stop))
        groups = [((targets >= start) & (targets < stop), start, stop) for start, stop in slices]
        groups.append((is_text, 0, self.config.vocab_size))
        for mask, start, stop in groups:
            if mask.any():
                logits = self.project(hidden_states[mask], start, stop).float()
                target = targets[mask] - start
                log_probs = logits.log_softmax(-1)
                with torch.no_grad():
                    entropy = -(log_probs.exp() * log_probs).sum(-1)
                    is_top = (logits.argmax(-1) == target).float()
                chosen = log_probs.gather(-1, target[:, None])[:, 0]
                scores = scores.masked_scatter(mask.expand_as(scores), torch.stack([chosen, entropy, is_top]))
        # A batch without any target still reaches every parameter of the head, which data parallelism waits for.
        log_probs = scores[0] + 0.0 * hidden_states.float().sum()
        return log_probs, scores[1].detach(), scores[2].detach()

    def project(self, hidden_states: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Logits of the vocabulary slice [start, stop): (..., d_model) → (..., stop - start)."""
        if type(self.lm_head) is nn.Linear:
            return F.linear(hidden_states, self.lm_head.weight[start:stop])
        return self.lm_head(hidden_states)[..., start:stop]  # an adapter wraps the head: go through it

    # Search

    def logits_processor(self) -> TrieLogitsProcessor:
        """A processor that holds `generate` to the catalogue."""
        return TrieLogitsProcessor(self._require_index().trie, self.config.sid_offset, self.generation_config.eos_token_id)

    @torch.no_grad()
    def search(
        self,
        input_ids: torch.LongTensor,
        attention_mask: torch.Tensor | None = None,
        num_beams: int = 50,
        top_k: int = 10,
        items_per_sid: int = MAX_ITEMS_PER_SID,
    ) -> list[list[Hit]]:
        """Find items by beam search over the catalogue's SIDs.

        Args:
            input_ids: (queries, length) prompts; attention_mask: (queries, length), 1 for tokens, 0 for padding.
            num_beams: SIDs kept at each level. (The paper serves with 512; our default of 50 is for a processor without GPU.)
            top_k: items returned per query.
            items_per_sid: items that one SID expands to at most, most popular first.

        Returns:
            One list of [`Hit`] per query, best first, without duplicates; fewer than `top_k` where the beams hold fewer items.
        """
        if num_beams < 1 or top_k < 1 or items_per_sid < 1:
            raise ValueError(f"num_beams={num_beams}, top_k={top_k}, items_per_sid={items_per_sid}: all must be at least 1")
        index = self._require_index()
        codes, scores = self.search_sids(input_ids, attention_mask, num_beams)
        return index.hits(codes, scores, top_k, items_per_sid)

    @torch.no_grad()
    def search_sids(
        self, input_ids: torch.LongTensor, attention_mask: torch.Tensor | None = None, num_beams: int = 50
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The beams behind `search`: codes (queries, beams, levels) and scores (queries, beams), -inf where there is no SID."""
        index = self._require_index()
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        trie = index.trie.to(input_ids.device)
        decoder = _BeamDecoder(self, input_ids, attention_mask)
        return beam_search(decoder.step, trie, len(input_ids), num_beams)

    def _require_index(self) -> SidIndex:
        if self.sid_index is None:
            raise ValueError(f"the model has no item index: put {SID_INDEX_NAME} beside its weights or call set_sid_index")
        return self.sid_index


class _BeamDecoder:
    """The decoder as [`beam_search`] calls it: encodes once per query, keeps the cache of the beams in order.

    Cross-attention keys and values are projected once per query at the root; beams of a query hold copies of them.
    """

    def __init__(self, model: OneSearchForConditionalGeneration, input_ids: torch.Tensor, attention_mask: torch.Tensor):
        self.model = model
        self.memory = model.model.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        self.mask = attention_mask
        config = model.config
        self.cache = EncoderDecoderCache(DynamicCache(config=config), DynamicCache(config=config))
        self.rows = len(input_ids)

    def step(self, codes: torch.Tensor | None, parents: torch.Tensor | None, level: int) -> torch.Tensor:
        """See `StepFunction` in `generation_onesearch`."""
        config = self.model.config
        if codes is None:
            tokens = torch.full((self.rows, 1), config.decoder_start_token_id, device=self.memory.device)
        else:
            tokens = codes.reshape(-1, 1) + config.sid_slice(level - 1)[0]
            self._reorder(parents)
        hidden = self.model.model.decoder(
            input_ids=tokens,
            encoder_hidden_states=self.memory,
            encoder_attention_mask=self.mask,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        return self.model.project(hidden, *config.sid_slice(level))

    def _reorder(self, parents: torch.Tensor) -> None:
        self.cache.self_attention_cache.batch_select_indices(parents)
        if len(parents) != self.rows:  # beams of a query share the prompt, so only a change of their number moves these
            self.cache.cross_attention_cache.batch_select_indices(parents)
            self.memory, self.mask = self.memory[parents], self.mask[parents]
            self.rows = len(parents)


OneSearchConfig.register_for_auto_class()
OneSearchModel.register_for_auto_class("AutoModel")
OneSearchForConditionalGeneration.register_for_auto_class("AutoModelForSeq2SeqLM")

__all__ = ["OneSearchForConditionalGeneration", "OneSearchModel", "OneSearchPreTrainedModel"]
