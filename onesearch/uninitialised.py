"""Modules whose initial weights are not drawn, since others are read from a file at once.

Imports nothing of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch.nn import init
from torch.overrides import TorchFunctionMode

INITIAL = frozenset(value for value in vars(init).values() if callable(value))
"""Functions that draw initial weights."""


class Uninitialised(TorchFunctionMode):
    """Within it, the functions of `torch.nn.init` do nothing: new modules hold arbitrary numbers.

    The meta device would serve as well, but drawing random numbers on it imports torch's compiler, which takes a second.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run every other function as it is."""
        if func in INITIAL:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


__all__ = ["Uninitialised"]
