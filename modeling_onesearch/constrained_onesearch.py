"""`generate` that holds itself to the Semantic IDs of the catalogue, so that pipelines and trainers get items without asking for them.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, MaxLengthCriteria, StoppingCriteriaList

from .bart_onesearch import CAUSAL_CALL
from .logits_processor_onesearch import TrieLogitsProcessor
from .search_onesearch import SearchMixin

if TYPE_CHECKING:
    from transformers import GenerationMixin, PreTrainedModel

    class _Base(SearchMixin, PreTrainedModel, GenerationMixin):
        """For type checkers: the mixin stands before a model's class among its parents."""

        config: Any
        generation_config: Any
else:
    _Base = SearchMixin


class ConstrainedGenerateMixin(_Base):
    """`generate` under the trie of the model's item index."""

    def generate(
        self,
        inputs: torch.Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: LogitsProcessorList | None = None,
        stopping_criteria: StoppingCriteriaList | None = None,
        prefix_allowed_tokens_fn: Callable[[int, torch.Tensor], list[int]] | None = None,
        *args: Any,
        constrained: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """As in transformers; a model with an item index emits Semantic IDs of its catalogue only, one per sequence.

        The trie stays out where the caller gives a `TrieLogitsProcessor` or a `prefix_allowed_tokens_fn`, which constrain the codes alone.

        Args:
            inputs: as in transformers.
            generation_config: as in transformers; its field `constrained`, if it has one, is the default of the argument.
            logits_processor: as in transformers.
            stopping_criteria: as in transformers.
            prefix_allowed_tokens_fn: as in transformers.
            args: as in transformers.
            constrained: False lets the model emit any token, for tasks whose answers are texts; `max_new_tokens` and `eos_token_id` then
                need values of their own, since the model's end generation after one Semantic ID. True asks for an item index. Default: the
                field `constrained` of the generation config, which is saved with the model; without the field, whether there is an index.
            kwargs: as in transformers.

        Raises:
            ValueError: `constrained` is True and the model has no item index, or a trainer of TRL for causal models has replaced the
                forward of an encoder-decoder.
            TypeError: `constrained` is not true or false.
        """
        if self.config.is_encoder_decoder and _has_fused_head(self):
            raise ValueError(f"TRL has replaced the forward of this encoder-decoder by that of a causal model. {CAUSAL_CALL}")
        processors = LogitsProcessorList(logits_processor or ())
        is_free = not any(isinstance(processor, TrieLogitsProcessor) for processor in processors)
        if is_free and prefix_allowed_tokens_fn is None and self._is_constrained(constrained, generation_config):
            eos = self._end_token(generation_config, kwargs)
            length = self._prompt_length(inputs, kwargs)
            trie = self._require_index().trie
            processors.append(TrieLogitsProcessor(trie, self.config.sid_offset, eos, length))
            if eos is None and length is not None:  # a pipeline asks for more tokens than a Semantic ID has
                end = MaxLengthCriteria(max_length=length + trie.levels)
                stopping_criteria = StoppingCriteriaList([*(stopping_criteria or ()), end])
        return super().generate(  # type: ignore[misc]  # transformers declares `self` by a protocol that its own models lack
            inputs, generation_config, processors, stopping_criteria, prefix_allowed_tokens_fn, *args, **kwargs
        )

    def _is_constrained(self, asked: bool | None, generation_config: GenerationConfig | None) -> bool:
        """Whether `generate` applies the trie; see there."""
        for source in (generation_config, self.generation_config):
            if asked is None and source is not None:
                asked = source.to_dict().get("constrained")
        if asked is None:
            return self.sid_index is not None
        if not isinstance(asked, bool):
            raise TypeError(f"constrained={asked!r} must be true or false")
        if asked:
            self._require_index()
        return asked

    def _end_token(self, generation_config: GenerationConfig | None, kwargs: dict[str, Any]) -> int | None:
        """The token that is allowed after a Semantic ID; None if generation ends by length."""
        source = self.generation_config if generation_config is None else generation_config
        eos = kwargs["eos_token_id"] if "eos_token_id" in kwargs else source.eos_token_id
        if isinstance(eos, torch.Tensor):
            eos = eos.tolist()
        if isinstance(eos, list):
            eos = eos[0] if eos else None
        return eos

    def _prompt_length(self, inputs: torch.Tensor | None, kwargs: dict[str, Any]) -> int | None:
        """Number of tokens of a row that precede the Semantic ID; None where `generate` has to find its start."""
        if self.config.is_encoder_decoder:
            return None if "decoder_input_ids" in kwargs else 1
        prompt = inputs if inputs is not None else kwargs.get("input_ids")
        if prompt is not None:
            return prompt.shape[1]
        return 0 if kwargs.get("inputs_embeds") is not None else 1  # without a prompt the start token stands there


def _has_fused_head(model: Any) -> bool:
    """Whether a trainer of TRL has replaced `forward` on the instance; its own has an argument `fused_lm_head`."""
    forward = vars(model).get("forward")
    while forward is not None:
        function = forward.__func__ if inspect.ismethod(forward) else forward
        if inspect.isfunction(function) and "fused_lm_head" in function.__code__.co_varnames:
            return True
        forward = vars(function).get("__wrapped__")
    return False


__all__ = ["ConstrainedGenerateMixin"]
