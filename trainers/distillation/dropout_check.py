"""R-Drop compares two dropout passes: without dropout the passes are equal, and the term is 0."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedConfig

from .distillation_config import SidDistillationConfig

DROPOUTS = ("dropout", "attention_dropout", "activation_dropout")
"""Fields of BART's and Qwen3's configurations that hold dropout probabilities of the layers."""


def refuse_r_drop_without_dropout(
    args: SidDistillationConfig, model: nn.Module, config: PreTrainedConfig, adapter_dropout: float = 0.0
) -> None:
    """Refuse R-Drop for a model whose passes are all alike.

    Args:
        args: settings of the training.
        model: the model, with its adapter if it already has one.
        config: configuration of the model.
        adapter_dropout: dropout probability of an adapter that the model will get.

    Raises:
        ValueError: `r_drop_weight` is above 0, and no layer, adapter or resampler of the long view has a dropout probability above 0.
    """
    if not args.r_drop_weight or adapter_dropout:
        return
    probabilities = {name: vars(config)[name] for name in DROPOUTS if name in vars(config)}
    if any(probabilities.values()) or any(isinstance(module, nn.Dropout) and module.p for module in model.modules()):
        return
    found = ", ".join(f"{name}={value}" for name, value in probabilities.items())
    raise ValueError(
        f"r_drop_weight={args.r_drop_weight} compares two dropout passes, but the model has no dropout ({found}): the term would be 0 and "
        f"cost a pass per step. Set {' or '.join(probabilities)} in the model's configuration (in a recipe without a checkpoint: "
        "training.model.dropout), or set r_drop_weight to 0"
    )


__all__ = ["refuse_r_drop_without_dropout"]
