"""Rows that several processes compute together: each computes a share of the blocks, and every process gets all rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .threads import row_blocks

if TYPE_CHECKING:
    from accelerate import Accelerator


def make_rows(
    count: int, rows_per_block: int, make: Callable[[slice], np.ndarray], accelerator: Accelerator | None = None
) -> np.ndarray:
    """Compute all rows block by block, with the result of one process.

    1. The rows are cut into blocks of a fixed size, whatever the number of processes.
    2. Process p of P computes the blocks p, p + P, p + 2P, …
    3. The processes exchange their rows, padded to equal length, and put the blocks back in order.

    Args:
        count: number of rows.
        rows_per_block: number of rows of a block.
        make: computes the rows of a block, (rows, columns); an empty slice gives (0, columns). The result for a row must not depend on
            other blocks.
        accelerator: its processes share the blocks; None computes all of them in this process.

    Returns:
        (count, columns), the same in every process.
    """
    blocks = row_blocks(count, rows_per_block)
    processes, own = (1, 0) if accelerator is None else (accelerator.num_processes, accelerator.process_index)
    rows = np.concatenate([make(slice(0, 0)), *(make(block) for block in blocks[own::processes])])
    if accelerator is None or processes == 1:
        return rows
    sizes = [[block.stop - block.start for block in blocks[process::processes]] for process in range(processes)]
    longest = max(sum(of_process) for of_process in sizes)
    gathered = _gather(rows, longest, accelerator)
    parts = [_split(part, of_process) for part, of_process in zip(gathered, sizes)]
    in_order = [parts[block % processes][block // processes] for block in range(len(blocks))]
    return np.concatenate([rows[:0], *in_order])


def _gather(rows: np.ndarray, length: int, accelerator: Accelerator) -> np.ndarray:
    """Rows of every process, padded with zeros to `length`: (processes, length, columns)."""
    import torch

    padded = np.zeros((length, rows.shape[1]), dtype=rows.dtype)
    padded[: len(rows)] = rows
    gathered: torch.Tensor = accelerator.gather(torch.from_numpy(padded).to(accelerator.device))
    return gathered.cpu().numpy().reshape(accelerator.num_processes, *padded.shape)


def _split(rows: np.ndarray, sizes: list[int]) -> list[np.ndarray]:
    """Blocks of `sizes` rows from the start of `rows`; the padding is left out."""
    return np.split(rows, np.cumsum(sizes))[:-1]


__all__ = ["make_rows"]
