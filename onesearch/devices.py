"""Choose the device of a training, its precision and its number of processes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import TrainingArguments
    from trl import DPOConfig, GRPOConfig, SFTConfig


def count_gpus() -> int:
    """Number of GPUs that this process sees; Apple's counts as one."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else int(torch.backends.mps.is_available())


def choose_device(arguments: SFTConfig | DPOConfig | GRPOConfig) -> None:
    """Set `use_cpu` and the default of `bf16`; called before transformers' own `__post_init__`.

    Without `use_cpu` Accelerate starts processes that do not communicate on a machine without a GPU. bfloat16 is the default where a GPU
    computes with it.

    Raises:
        ValueError: torchrun has started more processes than there are GPUs. NCCL refuses two processes on one GPU.
    """
    import torch

    gpus, processes = count_gpus(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    arguments.use_cpu = arguments.use_cpu or not gpus
    if not arguments.use_cpu and processes > gpus:
        raise ValueError(
            f"{processes} processes were started on a machine with {gpus} GPU{'s' * (gpus > 1)}; start at most one per GPU (torchrun "
            f"--nproc_per_node {gpus}), or set use_cpu: true"
        )
    if arguments.bf16 is None:
        arguments.bf16 = not arguments.use_cpu and torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def use_one_gpu(arguments: TrainingArguments) -> None:
    """Keep one process on one GPU; called after transformers' own `__post_init__`.

    transformers would cut each batch of a single process among all GPUs (torch's DataParallel), which hides the model's methods from the
    losses. Several GPUs take several processes.
    """
    arguments._n_gpu = min(arguments.n_gpu, 1)


def processes_here(processes: int, use_cpu: bool = False) -> tuple[int, int]:
    """How many processes train here, and by what factor the batch of each grows, so that a step sees as many examples.

    A recipe's `processes` is a number of processor cores. On GPUs, one per process is needed: with fewer, a single process takes the whole
    batch.

    Args:
        processes: the recipe's number.
        use_cpu: the training stays on the processor, whatever else there is.
    """
    gpus = 0 if use_cpu else count_gpus()
    return (processes, 1) if not gpus or gpus >= processes else (1, processes)


__all__ = ["choose_device", "count_gpus", "processes_here", "use_one_gpu"]
