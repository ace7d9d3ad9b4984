"""Work on rows spread over threads, with results that are the same on every number of them.

A matrix product splits badly over threads when its rows are few, and what stands around it (scores to codes, residuals) is not split at
all. So rows are cut into blocks of a fixed size, and each thread takes whole blocks, its matrix products on one thread. As many threads
work as a matrix product would take: ``OMP_NUM_THREADS`` or ``threadpoolctl.threadpool_limits`` say how many.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cache
from types import TracebackType
from typing import Self

from threadpoolctl import ThreadpoolController


@contextmanager
def one_thread() -> Iterator[None]:
    """Matrix products and eigenvectors inside are computed on one thread, for results that are the same on every number of them."""
    with _one_thread():
        yield


class Workers:
    """Threads for blocks of rows; they start when there is more than one block, and end with the `with` block.

    Args:
        rows: of a block.
    """

    def __init__(self, rows: int):
        self.rows = rows
        self._open = ExitStack()
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def run(self, count: int, work: Callable[[slice], None]) -> None:
        """Call `work` with every block of `count` rows, and wait; what the first block to fail raises is raised here."""
        blocks = [slice(start, min(start + self.rows, count)) for start in range(0, count, self.rows)]
        if self._pool is None and len(blocks) > 1 and (threads := _threads()) > 1:
            self._open.enter_context(_one_thread())
            # Where the limit is a thread's own (OpenMP), every worker sets it; elsewhere only this thread may, and theirs does nothing.
            self._pool = self._open.enter_context(ThreadPoolExecutor(threads, initializer=_one_thread))
        for _ in (map if self._pool is None else self._pool.map)(work, blocks):
            pass


def _one_thread() -> AbstractContextManager[object]:
    return _thread_pools().limit(limits=1, user_api="blas")


def _threads() -> int:
    """What a matrix product would take now: 1 inside `one_thread` or where the library cannot be asked. Of several libraries the most
    limited: one with an OpenMP of its own (faiss) does not hear of limits that another thread has set."""
    return min((library["num_threads"] for library in _thread_pools().info() if library["user_api"] == "blas"), default=1)


@cache
def _thread_pools() -> ThreadpoolController:
    """Looked up once: that takes milliseconds, and numpy's own is loaded by now."""
    return ThreadpoolController()
