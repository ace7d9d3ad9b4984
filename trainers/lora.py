"""Low-rank adapters (LoRA, through PEFT) that also learn the rows of the Semantic IDs, and keep tied heads tied.

New SIDs are new rows of the embedding: frozen rows cannot learn them, and a full copy of the embedding (PEFT's `modules_to_save`) unties
it from the head without a word; a saved and reloaded model then answers at random. PEFT's `trainable_token_indices` trains the rows alone.
"""

from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import PreTrainedModel

from onesearch.modeling_onesearch.index_onesearch import SID_INDEX_NAME

from .configs import SidLoraConfig

if TYPE_CHECKING:
    from peft import LoraConfig, PeftConfig, PeftModel

logger = logging.getLogger(__name__)

LAYER = re.compile(r"(^|\.)layers\.\d+\.")
"""Modules of the backbone's attention and feed-forward layers."""


def lora_config(plan: SidLoraConfig, model: PreTrainedModel) -> LoraConfig:
    """PEFT's configuration for a model with SIDs: LoRA, and all rows from the first SID token to the end of the vocabulary.

    Raises:
        ValueError: an extra module holds tied weights, or does not exist.

    Example:

    ```python
    >>> from onesearch import SidLoraConfig, OneSearchConfig, OneSearchForConditionalGeneration
    >>> from onesearch.trainers.lora import lora_config

    >>> model = OneSearchForConditionalGeneration(OneSearchConfig(vocab_size=600, d_model=32, encoder_layers=1, decoder_layers=1,
    ...     encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64,
    ...     sid_codebook_sizes=[64, 32, 16], sid_offset=488))
    >>> sorted(lora_config(SidLoraConfig(r=4), model).target_modules)
    ['fc1', 'fc2', 'k_proj', 'out_proj', 'q_proj', 'v_proj']

    ```"""
    from peft import LoraConfig

    extra = list(plan.extra_modules)
    for name in extra:
        if not _named(model, name):
            raise ValueError(f"extra_modules: the model has no module {name!r}")
    config = LoraConfig(
        task_type="SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM",
        r=plan.r,
        lora_alpha=plan.alpha,
        lora_dropout=plan.dropout,
        target_modules=list(plan.target_modules or _layer_linears(model)),
        exclude_modules=rf"(.*\.)?({'|'.join(map(re.escape, extra))})(\..*)?" if extra else None,
        trainable_token_indices=_sid_rows(model),
        modules_to_save=extra or None,
    )
    check_adapters(model, config)
    return config


def _layer_linears(model: PreTrainedModel) -> list[str]:
    linears = (name for name, module in model.named_modules() if isinstance(module, nn.Linear) and LAYER.search(name))
    return sorted({name.rpartition(".")[2] for name in linears})


def _sid_rows(model: PreTrainedModel) -> dict[str, list[int]]:
    """Embedding (and an untied head) with the rows to train."""
    rows = list(range(model.config.sid_offset, model.config.vocab_size))
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    (name,) = [name for name, module in model.named_modules() if module is embedding]
    names = [name.rpartition(".")[2]] + ([] if head.weight is embedding.weight else ["lm_head"])
    return {name: rows for name in names}


def base_of(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The model without PEFT's wrapper around it."""
    return model if isinstance(model, PreTrainedModel) else model.get_base_model()


def check_adapters(model: PreTrainedModel | PeftModel, peft_config: PeftConfig | None = None) -> None:
    """Refuse adapters that copy tied weights (of the given configuration and of those the model has already).

    Raises:
        ValueError: `modules_to_save` names a module whose weights are tied to others': the copy is trained, the others are not, and
            reloading ties them again.
    """
    configs = [] if peft_config is None else [peft_config]
    base = base_of(model)
    if base is not model or base._hf_peft_config_loaded:
        configs += model.peft_config.values()
    tied = _tied(base)
    for config in configs:
        for name in config.modules_to_save or ():
            for module in _named(base, name):
                if any(id(parameter) in tied for parameter in module.parameters()):
                    raise ValueError(
                        f"modules_to_save names {name!r}, whose weights are tied: PEFT would train a copy and leave the others as they "
                        "are. Train the rows of the SIDs by trainable_token_indices instead, as onesearch.trainers.lora.lora_config does"
                    )
    if peft_config is not None and not base.name_or_path:
        logger.warning(
            "the base model was never saved, so its adapter cannot be loaded by itself; save it and load it from there"
        )


def _tied(model: PreTrainedModel) -> set[int]:
    """Parameters that several modules hold."""
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    return {parameter for parameter, count in owners.items() if count > 1}


def _named(model: nn.Module, name: str) -> list[nn.Module]:
    """Modules that PEFT finds under a name: that of the module, or the end of it."""
    return [module for path, module in model.named_modules() if path == name or path.endswith(f".{name}")]


def save_index_beside(model: Any, folder: str | os.PathLike) -> None:
    """Write the item index of a model with adapters beside them; a model without saves its own."""
    if not isinstance(model, nn.Module) or isinstance(model, PreTrainedModel) and not model._hf_peft_config_loaded:
        return
    index = base_of(model).sid_index
    if index is not None:
        index.save(os.path.join(folder, SID_INDEX_NAME))
