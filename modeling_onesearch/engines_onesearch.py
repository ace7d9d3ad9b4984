"""Which engine a search on the CPU runs on: the kernels that numba compiles, or torch operations, which give the same hits.

Importing numba takes about as long as twenty searches, so a process that searches once is faster without it.
Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

from contextvars import ContextVar

_COMPILED: ContextVar[bool] = ContextVar("onesearch_compiled", default=True)


def prefer_compiled(compiled: bool) -> None:
    """Say whether searches of this context use compiled kernels, where numba is installed. They do by default."""
    _COMPILED.set(compiled)


def compiled_wanted() -> bool:
    """Whether a search of this context uses compiled kernels, where numba is installed."""
    return _COMPILED.get()


__all__ = ["compiled_wanted", "prefer_compiled"]
