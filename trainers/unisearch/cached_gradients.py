"""Contrastive batches of any size with the memory of a part of them (GradCache, arXiv 2101.06983).

    1. Encode all parts without activations.
    2. Take the contrastive loss of the whole batch and its gradients with respect to the vectors.
    3. Encode each part again, with activations and the same dropout, and pass these gradients on.

sentence-transformers' cached losses work alike; they hold one encoder, where this model has two and further losses per part.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def parts_of(batch: dict[str, Any], rows: int) -> list[dict[str, Any]]:
    """Cut a batch, whose tensors have one row per example, into parts of at most `rows` examples."""
    count = len(batch["item_rows"])
    return [_rows_of(batch, slice(start, start + rows)) for start in range(0, count, rows)]


def _rows_of(batch: dict[str, Any], rows: slice) -> dict[str, Any]:
    return {name: _rows_of(value, rows) if isinstance(value, dict) else value[rows] for name, value in batch.items()}


class RandomState:
    """State of the random generators, so that a second forward pass draws the dropout of the first.

    Args:
        device: device of the tensors.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.cpu = torch.get_rng_state()
        self.own = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    @contextmanager
    def restored(self) -> Iterator[None]:
        """The state inside the block; afterwards the generators go on from where they were before it."""
        devices = [self.device] if self.own is not None else []
        with torch.random.fork_rng(devices=devices):
            torch.set_rng_state(self.cpu)
            if self.own is not None:
                torch.cuda.set_rng_state(self.own, self.device)
            yield


__all__ = ["RandomState", "parts_of"]
