"""Linear layers on the CPU, by the library that multiplies faster on this processor.

torch multiplies float32 matrices with MKL. MKL uses AVX-512 on processors of Intel alone; oneDNN, which torch holds as well, uses it on all
that have it. On an AMD EPYC of 2024 oneDNN is 1.9 times as fast for 50 rows of width 256 and 2.3 times as fast for 512, with the same
rounding errors. Its calls cost more, so small products stay with MKL, and it compiles code for every new shape (0.4 ms each).
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

LEAST_OPERATIONS = 3_000_000
"""Multiplications from which a product goes to oneDNN: rows · inputs · outputs. Measured: below about 2,500,000 (50 rows of width 128 to
384) oneDNN gains nothing."""


def linear(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """`torch.nn.functional.linear`, with or without gradients: (..., inputs) → (..., outputs)."""
    if not _takes_onednn(states, weight):
        return F.linear(states, weight, bias)
    if torch.is_grad_enabled() and (states.requires_grad or weight.requires_grad):
        return _Linear.apply(states, weight, bias)
    return _multiply(states, weight, bias)


@cache
def onednn_is_faster() -> bool:
    """Whether this processor has AVX-512 and is not of Intel's make. The same processor always gives the same answer, so that two processes
    round alike."""
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # an operator that torch may rename
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and "GenuineIntel" not in processor_make()
    )


def processor_make() -> str:
    """The text in which the operating system names the make of the processor."""
    about = Path("/proc/cpuinfo")
    if not about.is_file():
        return platform.processor()
    with about.open(encoding="utf-8", errors="replace") as lines:
        return lines.read(1000)  # of the first core; a large server has hundreds


def _takes_onednn(states: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether oneDNN computes a product. It does if it is faster on this processor, if the product is large enough, if both matrices are
    plain float32 on the CPU, and if no compiler, tracer or autocast is at work."""
    return (
        not torch.compiler.is_compiling()  # first: a compiler would follow the rest
        and not torch.jit.is_tracing()
        and onednn_is_faster()
        and states.dtype is torch.float32
        and states.device.type == "cpu"
        and states.numel() * weight.shape[0] >= LEAST_OPERATIONS
        and type(states) is torch.Tensor
        and type(weight) in (torch.Tensor, nn.Parameter)
        and weight.dtype is torch.float32
        and not torch.is_autocast_enabled("cpu")
    )


def _multiply(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """(..., inputs) → (..., outputs), by oneDNN and without gradients."""
    return torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")


class _Linear(torch.autograd.Function):
    """A linear layer whose product and whose two products of the backward pass are oneDNN's."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(states, weight)
        return _multiply(states, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, weight = ctx.saved_tensors
        of_states, of_weight, of_bias = ctx.needs_input_grad
        rows = gradient.reshape(-1, weight.shape[0])  # (rows, outputs)
        return (
            _multiply(rows, weight.t()).view(states.shape) if of_states else None,
            _multiply(rows.t(), states.reshape(-1, weight.shape[1]).t()) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


__all__ = ["linear", "onednn_is_faster", "processor_make"]
