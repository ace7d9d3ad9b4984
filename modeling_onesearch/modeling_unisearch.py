"""UniSearch (arXiv 2509.06887): item encoder, quantizer and search generator in one model, whose Semantic IDs are learned with it.

The search generator is OneSearch's encoder-decoder: prompts, scores, trie, index, search, filters and updates are the same code. New are

* `model.item_encoder`, which turns an item into k vectors d¹ … dᵏ;
* `model.quantizer`, which turns each of them into a code: the Semantic ID;
* `model.query_head`, which makes the query vector q of the encoder's state at the prompt's first token. This begin token takes the place of
  the paper's `[CLS]`, as `<s>` does in RoBERTa.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from .bart_onesearch import OneSearchModel, OneSearchPreTrainedModel
from .configuration_onesearch import HistoryFields, LongViewFields, QueryVectorFields
from .configuration_unisearch import ItemFields, UniSearchConfig
from .item_encoder_unisearch import ItemEncoder, bounded
from .modeling_onesearch import OneSearchForConditionalGeneration
from .scores_onesearch import SidSeq2SeqOutput
from .sim_vq_unisearch import LevelCodebook, Quantised, SidQuantizer
from .soft_targets_unisearch import SoftTargets


@dataclass
class UniSearchOutput(SidSeq2SeqOutput):
    """Output of `UniSearchForConditionalGeneration`.

    Args:
        query_vectors: (batch, item_dim) q of each prompt; None without prompts.
        item_vectors: (items, levels, item_dim) d¹ … dᵏ; None without items.
        quantised: their codes, code vectors and codebook losses; None without items.
    """

    query_vectors: torch.Tensor | None = None
    item_vectors: torch.Tensor | None = None
    quantised: Quantised | None = None


class UniSearchPreTrainedModel(OneSearchPreTrainedModel):
    """Names the configuration, and starts the item encoder and the quantizer."""

    config: UniSearchConfig
    config_class = UniSearchConfig

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ItemEncoder | LevelCodebook):
            module.reset_parameters()


class UniSearchModel(UniSearchPreTrainedModel, OneSearchModel):
    """The backbone: OneSearch's encoder and decoder, item encoder, quantizer and query head."""

    def __init__(self, config: UniSearchConfig) -> None:
        super().__init__(config)
        self.item_encoder = ItemEncoder(config)
        self.quantizer = SidQuantizer(config)
        self.query_head = nn.Linear(cast(int, config.d_model), cast(int, config.item_dim))
        self.post_init()

    def query_vectors(self, states: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Query vectors q of prompts, bounded as `vector_bound` says.

        Args:
            states: (batch, length, d_model) of the encoder.
            attention_mask: (batch, length), 0 where padded; prompts may be padded on either side.

        Returns:
            (batch, item_dim).
        """
        first = 0 if attention_mask is None else attention_mask.argmax(1)
        return bounded(
            self.query_head(states[torch.arange(len(states), device=states.device), first]), self.config.vector_bound
        )


class UniSearchForConditionalGeneration(UniSearchPreTrainedModel, OneSearchForConditionalGeneration):  # type: ignore[misc]  # `config`
    """A query with its history in, the Semantic IDs of items out; and an item in, its Semantic ID out.

    Example:

    ```python
    >>> import torch
    >>> from onesearch import UniSearchConfig, UniSearchForConditionalGeneration

    >>> model = UniSearchForConditionalGeneration(UniSearchConfig(vocab_size=600, d_model=32, encoder_layers=1, decoder_layers=1,
    ...     encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, item_layers=1,
    ...     sid_codebook_sizes=[64, 32, 16], sid_offset=488)).eval()
    >>> text = torch.tensor([[5, 6, 7]])
    >>> model.item_codes(input_ids=text, attention_mask=torch.ones_like(text)).shape
    torch.Size([1, 3])

    ```"""

    _backbone = UniSearchModel
    _own_fields = (LongViewFields, HistoryFields, QueryVectorFields, ItemFields)

    def _finish(self, backbone: type, module: str = "modeling_unisearch") -> None:
        super()._finish(backbone, module)

    def forward(
        self,
        *args: Any,
        items: Mapping[str, torch.Tensor] | None = None,
        soft_targets: float = 0.0,
        contrast_only: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Run the search generator as [`OneSearchForConditionalGeneration`] does, and the item encoder.

        Args:
            args: as in [`OneSearchForConditionalGeneration`].
            items: inputs of the item encoder (see `ItemEncoder.forward`), for instance of the targets in `labels`.
            soft_targets: above 0, the gradient of the token loss reaches the item encoder, through targets that are the softmax of
                −‖d − c‖² / `soft_targets` in the backward pass and one code each in the forward pass. It needs `items`, one per prompt, and
                `labels`. The default of 0 stops the gradient before the item encoder, as in the paper.
            contrast_only: run the encoder of the prompts and the item encoder alone, which make q and d; `labels` are not read.
            kwargs: as in [`OneSearchForConditionalGeneration`].

        Returns:
            [`UniSearchOutput`]; a tuple with `return_dict=False`.
        """
        vectors = None if items is None else self.model.item_encoder(**items)
        if contrast_only:
            return self._contrast(vectors, *args, **kwargs)
        if soft_targets > 0:
            if vectors is None:
                raise ValueError("soft_targets needs `items`: the item of each prompt's target")
            soft = SoftTargets(self.model.quantizer.soft_codes(vectors, soft_targets))
            kwargs["objective"] = soft
        wanted = kwargs.pop("return_dict", None)
        found = super().forward(*args, **kwargs, return_dict=True)
        mask = kwargs.get("attention_mask", args[1] if len(args) > 1 else None)
        states = soft.states if soft_targets > 0 else found.encoder_last_hidden_state
        output = UniSearchOutput(
            **found,
            query_vectors=None if states is None else self.model.query_vectors(states, mask),
            item_vectors=vectors,
            quantised=None if vectors is None else self.model.quantizer(vectors),
        )
        return output.to_tuple() if wanted is False else output

    def _contrast(
        self, vectors: torch.Tensor | None, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **_: Any
    ) -> UniSearchOutput:
        """q of the prompts beside the vectors of items."""
        states = self.model.encoder(input_ids=input_ids, attention_mask=attention_mask, return_dict=True).last_hidden_state
        quantised = None if vectors is None else self.model.quantizer(vectors)
        queries = self.model.query_vectors(states, attention_mask)
        return UniSearchOutput(query_vectors=queries, item_vectors=vectors, quantised=quantised)

    @torch.no_grad()
    def item_codes(self, **items: torch.Tensor) -> torch.Tensor:
        """Codes (items, levels) of items; see `ItemEncoder.forward` for the arguments."""
        return self.model.quantizer(self.model.item_encoder(**items)).codes


UniSearchConfig.register_for_auto_class()
UniSearchModel.register_for_auto_class("AutoModel")
UniSearchForConditionalGeneration.register_for_auto_class("AutoModelForSeq2SeqLM")

__all__ = [
    "UniSearchForConditionalGeneration",
    "UniSearchModel",
    "UniSearchOutput",
    "UniSearchPreTrainedModel",
]
