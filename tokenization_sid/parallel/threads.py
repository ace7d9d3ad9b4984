"""Work on rows, spread over threads; the result does not depend on the number of threads.

A matrix product with few rows scales badly over threads, and the work around it (scores to codes, residuals) does not use threads at
all. Therefore

1. the rows are cut into blocks of a fixed size, whatever the number of threads;
2. each thread takes whole blocks, and computes their matrix products on one thread.

As a matrix product may round differently for another number of rows or threads, the fixed blocks are what makes results equal. There are
as many threads as a matrix product would use: ``OMP_NUM_THREADS`` or ``threadpoolctl.threadpool_limits`` set the number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from types import TracebackType
from typing import Self

from threadpoolctl import ThreadpoolController, threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute matrix products and eigenvectors inside the block on one thread, so that they round alike on every machine."""
    with _one_thread():
        yield


@contextmanager
def fixed_threads(count: int | None) -> Iterator[None]:
    """Compute everything inside the block, torch's operations included, on a fixed number of threads.

    A sum that is cut over threads rounds by the number of threads, and a training carries such differences on: with one number of threads,
    the same seed gives the same weights on every number of cores. The libraries are looked up anew, which takes milliseconds, as some may
    have been loaded since the last time (scipy brings its own).

    Args:
        count: number of threads of this process; None leaves it as it is.
    """
    if count is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)


class Workers:
    """Threads that work on blocks of rows.

    They start with the first call of `run` that has more than one block, and end with the `with` block.

    Args:
        rows_per_block: number of rows of a block. Results may depend on it, but not on the number of threads.

    Example:
        >>> import numpy as np
        >>> squares = np.zeros(10)
        >>> def square(rows):
        ...     squares[rows] = np.arange(10)[rows] ** 2
        >>> with Workers(rows_per_block=4) as workers:
        ...     workers.run(10, square)
    """

    def __init__(self, rows_per_block: int) -> None:
        self.rows_per_block = rows_per_block
        self._open = ExitStack()
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def run(self, count: int, work: Callable[[slice], None]) -> None:
        """Call `work` once for every block of `count` rows, and return when all calls have ended.

        Args:
            count: number of rows.
            work: takes the slice of a block. Calls run at the same time, so that each may write only to the rows of its block.

        Raises:
            Exception: the error of the first block that failed.
        """
        blocks = row_blocks(count, self.rows_per_block)
        if self._pool is None and len(blocks) > 1:
            self._start()
        if self._pool is None:
            for block in blocks:
                work(block)
            return
        for _ in self._pool.map(work, blocks):
            pass  # raises the error of a failed block

    def _start(self) -> None:
        threads = _threads()
        if threads == 1:
            return
        self._open.enter_context(_one_thread())
        # OpenMP keeps a limit per thread, so that every worker sets it. Other libraries keep one limit for the whole process, which this
        # thread has set; setting it again has no effect.
        self._pool = self._open.enter_context(ThreadPoolExecutor(threads, initializer=_one_thread))


def row_blocks(count: int, rows_per_block: int) -> list[slice]:
    """Slices of `rows_per_block` rows that cover `count` rows in order; the last one may be shorter."""
    return [slice(start, min(start + rows_per_block, count)) for start in range(0, count, rows_per_block)]


def _one_thread() -> AbstractContextManager[object]:
    return _thread_pools().limit(limits=1, user_api="blas")


def _threads() -> int:
    """Number of threads that a matrix product would use now; 1 inside `one_thread` and where no library can be asked.

    If there are several libraries, the smallest number counts: one with its own OpenMP does not see the limits that another thread has
    set.
    """
    return min((library["num_threads"] for library in _thread_pools().info() if library["user_api"] == "blas"), default=1)


@cache
def _thread_pools() -> ThreadpoolController:
    """The loaded libraries. The look-up takes milliseconds and is done once; numpy's own library is loaded by then."""
    return ThreadpoolController()


__all__ = ["Workers", "fixed_threads", "one_thread", "row_blocks"]
