"""Rows that processes make together: each takes blocks of them in turn, and every one gets all rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from accelerate import Accelerator


def make_rows(
    count: int, rows_per_block: int, make: Callable[[slice], np.ndarray], accelerator: Accelerator | None = None
) -> np.ndarray:
    """All rows, block by block, as one process would make them.

    Args:
        count: of the rows.
        rows_per_block: blocks are the same for any number of processes.
        make: the rows of one block; of none for an empty slice. What it gives for a row must not depend on other blocks.
        accelerator: its processes share the blocks; None for this process alone.

    Returns:
        (count, columns), the same in every process.
    """
    blocks = [slice(start, min(start + rows_per_block, count)) for start in range(0, count, rows_per_block)]
    processes, own = (1, 0) if accelerator is None else (accelerator.num_processes, accelerator.process_index)
    rows = np.concatenate([make(slice(0, 0)), *(make(block) for block in blocks[own::processes])])
    if processes == 1:
        return rows
    import torch

    sizes = [[block.stop - block.start for block in blocks[process::processes]] for process in range(processes)]
    padded = np.zeros((max(map(sum, sizes)), rows.shape[1]), dtype=rows.dtype)
    padded[: len(rows)] = rows
    gathered = accelerator.gather(torch.from_numpy(padded).to(accelerator.device)).cpu().numpy()
    parts = gathered.reshape(processes, *padded.shape)
    cut = [np.split(part, np.cumsum(size))[:-1] for part, size in zip(parts, sizes)]
    return np.concatenate([rows[:0], *(cut[block % processes][block // processes] for block in range(len(blocks)))])


__all__ = ["make_rows"]
