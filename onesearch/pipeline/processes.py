"""The processes of one torchrun: how they end together."""

from __future__ import annotations

import gc


def leave_group() -> None:
    """Wait until all processes of torchrun are done, then end their process group; a single process has none.

    A process that exits while another still uses the group, or while an object that was trained in it still lives, may crash torch's
    threads at exit, and torchrun then reports a failure of work that was done. So objects that only refer to each other are freed first.
    """
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        gc.collect()  # a trainer and its wrapped model refer to each other; the wrapped model holds the group's threads
        distributed.barrier()
        distributed.destroy_process_group()


__all__ = ["leave_group"]
