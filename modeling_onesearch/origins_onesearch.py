"""Start from the weights of a plain backbone whose tokenizer was extended by the tokens of Semantic IDs.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

import os
from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


OWN_PARTS = ("long_view", "history_reader", "item_encoder", "quantizer", "query_head")
"""Parts of names of weights that a plain backbone does not have."""


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


def take_fields(kwargs: dict[str, Any], *kinds: Any) -> dict[str, Any]:
    """Removes the fields of some dataclasses, such as [`LongViewFields`], from `kwargs` and returns them."""
    names = [field.name for kind in kinds for field in fields(kind)]
    return {name: kwargs.pop(name) for name in names if name in kwargs}


def take_over(model: nn.Module, origin: nn.Module) -> None:
    """Load the weights of the plain model; the parts that it does not have (`OWN_PARTS`) keep their own."""
    own = {name: tensor for name, tensor in model.state_dict().items() if any(part in name for part in OWN_PARTS)}
    model.load_state_dict({**own, **origin.state_dict()})


__all__ = ["check_origin", "settings_of", "take_fields", "take_over"]
