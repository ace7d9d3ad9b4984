"""The processes of one torchrun: how they end together."""

from __future__ import annotations


def leave_group() -> None:
    """Wait until all processes of torchrun are done, then end their process group; a single process has none.

    A process that exits while another still uses the group may crash torch's threads at exit, and torchrun then reports a failure of work
    that was done.
    """
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


__all__ = ["leave_group"]
