"""Low-rank adapters (LoRA, through PEFT) that also train the embeddings of the Semantic IDs.

The tokens of Semantic IDs are new rows of the embedding, which adapters of the layers leave frozen. PEFT's `modules_to_save` would train a
copy of the whole embedding. That silently unties it from the head, and the outputs of a saved and reloaded model become random. PEFT's
`trainable_token_indices` trains the new rows alone and keeps the weights tied.
"""

from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING

from torch import nn
from transformers import PreTrainedModel

from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME
from onesearch.modeling_onesearch.sid_model_onesearch import SidModelMixin

from .configs import SidLoraConfig

if TYPE_CHECKING:
    from peft import LoraConfig, PeftConfig, PeftModel

    from .models import SidModel

logger = logging.getLogger(__name__)

LAYER = re.compile(r"(^|\.)layers\.\d+\.")
"""Names of the modules in the backbone's attention and feed-forward layers."""


def lora_config(config: SidLoraConfig, model: SidModel) -> LoraConfig:
    """PEFT's configuration for a model with Semantic IDs: LoRA on the layers, and all rows from the first SID token to the end of the
    vocabulary.

    Args:
        config: sizes of the adapter.
        model: model that gets the adapter.

    Raises:
        ValueError: an extra module does not exist, or holds tied weights.

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

    extra = list(config.extra_modules)
    for name in extra:
        if not _modules_named(model, name):
            raise ValueError(f"extra_modules: the model has no module {name!r}; `model.named_modules()` lists its modules")
    peft_config = LoraConfig(
        task_type="SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "CAUSAL_LM",
        r=config.r,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=list(config.target_modules or _layer_linears(model)),
        exclude_modules=rf"(.*\.)?({'|'.join(map(re.escape, extra))})(\..*)?" if extra else None,
        trainable_token_indices=_sid_rows(model),
        modules_to_save=extra or None,
    )
    check_adapters(model, peft_config)
    return peft_config


def _layer_linears(model: nn.Module) -> list[str]:
    """Last names of all linear modules in the layers of the backbone."""
    linears = (name for name, module in model.named_modules() if isinstance(module, nn.Linear) and LAYER.search(name))
    return sorted({name.rpartition(".")[2] for name in linears})


def _sid_rows(model: SidModel) -> dict[str, list[int]]:
    """Names of the embedding, and of the head if it is not tied, with the rows that are trained."""
    rows = list(range(model.config.sid_offset, model.config.vocab_size))
    embedding = model.get_input_embeddings()
    (name,) = [name for name, module in model.named_modules() if module is embedding]
    names = [name.rpartition(".")[2]]
    if model.lm_head.weight is not embedding.weight:
        names.append("lm_head")
    return {name: rows for name in names}


def base_of(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """The model without PEFT's wrapper around it."""
    if isinstance(model, PreTrainedModel):
        return model
    base = model.get_base_model()
    if not isinstance(base, PreTrainedModel):
        raise TypeError(f"the adapter's base is a {type(base).__name__}; only models of transformers are supported")
    return base


def check_adapters(model: PreTrainedModel | PeftModel, peft_config: PeftConfig | None = None) -> None:
    """Refuse adapters that would train a copy of tied weights. Warns if the base model has no name that an adapter could refer to.

    Args:
        model: a model, with or without adapters; those that it has are checked.
        peft_config: configuration of an adapter that the model is about to get.

    Raises:
        ValueError: `modules_to_save` names a module whose weights are tied to those of another. Training would move the copy alone, and
            reloading would tie both again.
    """
    base = base_of(model)
    tied = _tied_parameters(base)
    for config in _adapter_configs(model, peft_config):
        for name in getattr(config, "modules_to_save", None) or ():  # adapters of prompts have no such field
            modules = _modules_named(base, name)
            if any(id(parameter) in tied for module in modules for parameter in module.parameters()):
                raise ValueError(
                    f"modules_to_save names {name!r}, whose weights are tied: PEFT would train a copy and leave the tied weights as they "
                    "are. Train the rows of the SIDs by trainable_token_indices instead, as onesearch.trainers.lora.lora_config does"
                )
    if peft_config is not None and not base.name_or_path:
        logger.warning(
            "the base model was never saved, so its adapter cannot be loaded by itself; save the base model and load it from there first"
        )


def _adapter_configs(model: PreTrainedModel | PeftModel, new: PeftConfig | None) -> list[object]:
    """Configurations of the adapters that a model has, and of the one that it is about to get."""
    configs: list[object] = [] if new is None else [new]
    if not isinstance(model, PreTrainedModel) or model._hf_peft_config_loaded:
        configs += model.peft_config.values()
    return configs


def _tied_parameters(model: nn.Module) -> set[int]:
    """Ids of the parameters that belong to several modules."""
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    return {parameter for parameter, count in owners.items() if count > 1}


def _modules_named(model: nn.Module, name: str) -> list[nn.Module]:
    """Modules that PEFT finds under a name: those whose path is the name or ends with it."""
    return [module for path, module in model.named_modules() if path == name or path.endswith(f".{name}")]


def save_search_files(model: PreTrainedModel | PeftModel, folder: str | os.PathLike) -> None:
    """Write search settings and item index of a model with adapters beside them. Without adapters `save_pretrained` writes them.

    Args:
        model: a model that emits Semantic IDs, with or without adapters.
        folder: folder of the adapters.
    """
    if isinstance(model, PreTrainedModel) and not model._hf_peft_config_loaded:
        return
    base = base_of(model)
    if not isinstance(base, SidModelMixin):
        return
    base.search_config.save_pretrained(folder)
    if base.sid_index is not None:
        base.sid_index.save(os.path.join(folder, SID_INDEX_NAME))


__all__ = ["LAYER", "base_of", "check_adapters", "lora_config", "save_search_files"]
