"""Linear layers that multiply by the faster of torch's two libraries while a model trains; see `products_onesearch.py`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from onesearch.modeling_onesearch.products_onesearch import linear, onednn_is_faster


@contextmanager
def fast_linear_layers() -> Iterator[None]:
    """While it is open, `torch.nn.Linear` multiplies by `linear`, in training as well. Where torch's own products are the fastest, nothing
    changes. Calls may be nested."""
    if not onednn_is_faster():
        yield
        return
    before = nn.Linear.forward
    nn.Linear.forward = _forward  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        nn.Linear.forward = before  # type: ignore[method-assign]


def _forward(layer: nn.Linear, input: torch.Tensor) -> torch.Tensor:
    """`nn.Linear.forward`."""
    return linear(input, layer.weight, layer.bias)


__all__ = ["fast_linear_layers"]
