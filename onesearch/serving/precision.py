"""The number format in which a model searches fastest on this processor, found by multiplying matrices of the model's size.

Processors with instructions for bfloat16 (AMX, AVX-512 BF16) multiply it several times faster than float32; others multiply it more
slowly. Flags of the processor do not tell which library uses the instructions, so a short measurement decides.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

from onesearch.modeling_onesearch.products_onesearch import linear

if TYPE_CHECKING:
    from .loading import OneSearchModel

FASTEST = "fastest"
"""Value of the argument `dtype` that asks for the measurement."""

WORTHWHILE = 1.7
"""How many times faster bfloat16 must multiply to be chosen: the rest of a search loses by it. Our choice, measured: at width 128, where
products are 1.5 times as fast, a search takes 1.25 times as long; at width 256 with 1.9 times as fast products, 0.83 times as long."""

ROWS = 50
"""Rows of the measured product, as many as a search has beams by default."""

ROUNDS, SECONDS = 5, 0.001
"""Rounds of the measurement, of which the fastest counts, and the least CPU time of one."""


def fastest_dtype(width: int) -> torch.dtype:
    """bfloat16 where this processor multiplies it faster by `WORTHWHILE`, else float32. The measurement takes about 20 ms.

    Args:
        width: width of the model.
    """
    return (
        torch.bfloat16
        if product_seconds(torch.float32, width) > WORTHWHILE * product_seconds(torch.bfloat16, width)
        else torch.float32
    )


@torch.no_grad()
def product_seconds(dtype: torch.dtype, width: int) -> float:
    """CPU time of one product of (`ROWS`, width) and (width, 4 · width), the largest of a layer."""
    states, weight = torch.ones(ROWS, width, dtype=dtype), torch.ones(4 * width, width, dtype=dtype)
    best = float("inf")
    for _ in range(ROUNDS):
        begin, count = time.process_time(), 0
        while time.process_time() - begin < SECONDS:
            linear(states, weight)
            count += 1
        best = min(best, (time.process_time() - begin) / count)
    return best


@torch.no_grad()
def in_fastest_dtype(model: OneSearchModel) -> OneSearchModel:
    """The model in the format that `fastest_dtype` finds; on another device than the CPU it stays as it is."""
    if model.device.type != "cpu":
        return model
    return model.to(fastest_dtype(model.config.hidden_size))  # type: ignore[arg-type]  # transformers' wrapper of `to` hides `self`


__all__ = ["FASTEST", "fastest_dtype", "in_fastest_dtype"]
