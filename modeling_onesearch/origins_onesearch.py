"""Start from the weights of a plain backbone whose tokenizer was extended by the tokens of Semantic IDs.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

import os
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from .configuration_onesearch import LongViewFields

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


def check_origin(
    model: PreTrainedModel, expected: str, checkpoint: str | os.PathLike, vocab_size: int, sid_offset: int
) -> None:
    """Check that a plain model can be started from.

    Args:
        model: the plain model.
        expected: its `model_type`.
        checkpoint: its name in errors.
        vocab_size: size of the extended vocabulary.
        sid_offset: id of the first token of the Semantic IDs in it.

    Raises:
        ValueError: the model is of another type, or its vocabulary overlaps the tokens of the Semantic IDs.
    """
    if model.config.model_type != expected:
        raise ValueError(
            f"{checkpoint} holds a {model.config.model_type!r} model; from_{expected} takes {expected} checkpoints"
        )
    own = model.config.vocab_size
    if sid_offset < own or vocab_size < own:
        raise ValueError(
            f"sid_offset={sid_offset}, vocab_size={vocab_size}: {checkpoint} has {own} tokens of its own; "
            "extend its tokenizer with SidTokenizer.extend and pass its offset and length"
        )


def settings_of(model: PreTrainedModel) -> dict[str, Any]:
    """Configuration of the plain model, without the entries that name its class."""
    return {key: value for key, value in model.config.to_dict().items() if key not in ("model_type", "architectures")}


def take_long_view_fields(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Removes the fields of [`LongViewFields`] from `kwargs` and returns them."""
    return {field.name: kwargs.pop(field.name) for field in fields(LongViewFields) if field.name in kwargs}


def take_over(model: nn.Module, origin: nn.Module) -> None:
    """Load the weights of the plain model; the long view, which it does not have, keeps its own."""
    own = {name: tensor for name, tensor in model.state_dict().items() if "long_view" in name}
    model.load_state_dict({**own, **origin.state_dict()})


__all__ = ["check_origin", "settings_of", "take_long_view_fields", "take_over"]
