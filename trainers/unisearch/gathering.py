"""Vectors of all processes in every process, with their gradients."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist


class _Gather(torch.autograd.Function):
    """All-gather whose backward pass sums the gradients of all processes. Gloo has no reduce-scatter, so the whole sum is made."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor) -> torch.Tensor:
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor.contiguous())
        ctx.rows = len(tensor)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        start = dist.get_rank() * ctx.rows
        return total[start : start + ctx.rows]


def gathered(tensor: torch.Tensor) -> torch.Tensor:
    """Rows of all processes, in the order of the processes; those of this one alone where there is no other.

    Data parallelism averages the gradients of the processes. With a loss that is the mean over the rows of each process, the result is then
    the gradient of the mean over all rows, as in one process with the joint batch.

    Args:
        tensor: (rows, ...), as many rows in every process.
    """
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return tensor
    return _Gather.apply(tensor)


def process_number() -> int:
    """Rank of this process, 0 where there is no other."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


__all__ = ["gathered", "process_number"]
