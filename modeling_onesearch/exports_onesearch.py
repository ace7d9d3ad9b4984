"""Plain checkpoints: the backbone without this package's classes, for programs that load stock BART or Qwen3 and run no remote code.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from .catalogue_onesearch import SidIndex
from .configuration_onesearch import HistoryFields, LongViewFields, QueryVectorFields, SidFields

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    _Base = PreTrainedModel
else:
    _Base = object

SID_ITEMS_NAME = "sid_items.json"
"""File of an exported checkpoint with the items of each Semantic ID."""

OWN_FIELDS = {
    field.name for kind in (SidFields, LongViewFields, HistoryFields, QueryVectorFields) for field in fields(kind)
} | {
    "model_type",
    "architectures",
    "auto_map",
}
"""Fields of a configuration that a plain backbone does not have."""

SPECIAL = ("bos_token", "eos_token", "pad_token", "unk_token", "mask_token")


class ExportMixin(_Base):
    """Stands before a model's class among the parents: `export_backbone`."""

    sid_index: SidIndex | None

    def export_backbone(
        self, folder: str | os.PathLike, tokenizer: PreTrainedTokenizerBase | None = None, drop_long_view: bool = False
    ) -> None:
        """Write a checkpoint that [`~transformers.BartForConditionalGeneration`] or [`~transformers.Qwen3ForCausalLM`] loads.

        Its logits are this model's for prompts that are not padded on the left. `generate` with a trie of the catalogue finds the Semantic
        IDs of `search`; the plain checkpoint itself holds no trie, so that its user has to bring one.

        With an item index, ``sid_items.json`` is written too: ``{"3,1,2": ["item-7", "item-2"], …}``, the codes of each level, counted from
        0 and joined by commas, and the items, most popular first. Servers that decode under a trie of Semantic IDs build it from such a
        file. The token of code c of level l is `sid_offset + sum(sid_codebook_sizes[:l]) + c`; the configuration keeps both fields.

        Args:
            folder: new or empty folder.
            tokenizer: is written as a plain [`~transformers.PreTrainedTokenizerFast`] beside the weights. It renders no prompts.
            drop_long_view: leave out the long view, which a plain backbone cannot have. Prompts must then hold no placeholders.

        Raises:
            ValueError: the model has a long view and `drop_long_view` is False, or it reads histories as vectors or the query's vector.
            FileExistsError: the folder is not empty.
        """
        config: Any = self.config
        if config.history_places:
            raise ValueError(
                f"the model reads histories as vectors (history_places={config.history_places}), which a plain backbone cannot; train with "
                "prompt.item_form: tokens for an export"
            )
        if config.query_vector_size:
            raise ValueError(
                f"the model reads the query's text vector (query_vector_size={config.query_vector_size}), which a plain backbone cannot; "
                "train with prompt.query_vector: false for an export"
            )
        if config.long_view_tokens and not drop_long_view:
            raise ValueError(
                f"the model has a long view (long_view_tokens={config.long_view_tokens}), which a plain backbone cannot have; "
                "drop_long_view=True leaves it out, and prompts must then hold no placeholders"
            )
        target = Path(folder)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise FileExistsError(f"{target} is not empty; export to a new folder")
        plain = _plain_model(self)
        plain.generation_config.update(
            **{key: getattr(self.generation_config, key) for key in ("max_new_tokens", "min_new_tokens")}
        )
        plain.generation_config.eos_token_id = None  # a Semantic ID ends by its length
        plain.generation_config.forced_eos_token_id = None
        plain.save_pretrained(target)
        if tokenizer is not None:
            names = {name: getattr(tokenizer, name) for name in SPECIAL if getattr(tokenizer, name) is not None}
            backend: Any = tokenizer
            PreTrainedTokenizerFast(tokenizer_object=backend.backend_tokenizer, **names).save_pretrained(target)
        if self.sid_index is not None:
            text = json.dumps(sid_items(self.sid_index), ensure_ascii=False)
            (target / SID_ITEMS_NAME).write_text(text, encoding="utf-8")


def sid_items(index: SidIndex) -> dict[str, list[str]]:
    """The codes of each Semantic ID, joined by commas → ids of its items, the most popular first."""
    found: dict[str, list[tuple[float, str]]] = {}
    popularity = index.popularity.tolist()
    for item_id, codes, count in zip(index.item_ids, index.codes.tolist(), popularity):
        found.setdefault(",".join(map(str, codes)), []).append((-count, item_id))
    return {sid: [item_id for _, item_id in sorted(items, key=lambda item: item[0])] for sid, items in found.items()}


def _plain_model(model: Any) -> PreTrainedModel:
    """The stock model with the weights of this one."""
    config = model.config
    known = {name: value for name, value in config.to_dict().items() if name not in OWN_FIELDS}
    kept = {"sid_codebook_sizes": list(config.sid_codebook_sizes), "sid_offset": config.sid_offset}
    weights = {name: tensor for name, tensor in model.model.state_dict().items() if "long_view" not in name}
    plain: Any
    if config.is_encoder_decoder:
        plain = BartForConditionalGeneration(BartConfig(**known, **kept))
        plain.model.load_state_dict(weights)
    else:
        plain = Qwen3ForCausalLM(Qwen3Config(**known, **kept))
        plain.model.load_state_dict(weights)
        if not config.tie_word_embeddings:
            plain.lm_head.load_state_dict(model.lm_head.state_dict())
    return plain.to(model.dtype).eval()


__all__ = ["SID_ITEMS_NAME", "ExportMixin", "sid_items"]
