"""Numbers of a trainer's settings, checked before anything is computed or removed: transformers accepts NaN and fails while training."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import TrainingArguments

NOT_NEGATIVE = ("learning_rate", "weight_decay", "max_grad_norm", "num_train_epochs", "warmup_steps")
"""Fields that are numbers of at least 0."""

COUNTS = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")
"""Fields that are whole numbers of at least 1."""


def check_numbers(config: TrainingArguments) -> None:
    """Refuse settings that are no numbers, not finite, or out of their range.

    Args:
        config: settings of a trainer.

    Raises:
        ValueError: a number is NaN or infinite, one of `NOT_NEGATIVE` is negative, or one of `COUNTS` is below 1.
    """
    values = {part.name: getattr(config, part.name) for part in fields(config)}
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name}={value}: only finite numbers are allowed; correct it, or leave it out for the default")
    for name in NOT_NEGATIVE:
        value = values[name]
        if value is not None and not (isinstance(value, int | float) and value >= 0):
            raise ValueError(f"{name}={value!r}: numbers of at least 0 are allowed")
    for name in COUNTS:
        value = values[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value!r}: whole numbers of at least 1 are allowed")


__all__ = ["check_numbers"]
