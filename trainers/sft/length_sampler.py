"""Order of training examples in which those of alike length share a batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

GROUP = 4
"""Number of batches whose examples are sorted by length together; our choice. transformers takes 50: its batches hold examples so alike
that less is learned from them."""


class LengthSampler(Sampler[int]):
    """Shuffles so that examples of alike length share a batch, and batches of all lengths follow each other at random.

    transformers' sampler leaves the batches of a group in order, the longest first, and so teaches tasks that differ in length one after
    the other, over and over. docs/training.md, "Batches", measures the cost of batches of alike length.

    The order depends on the seed and the epoch alone: every process draws the same order, and a resumed run continues it.

    Args:
        lengths: lengths of all examples.
        batch_size: number of examples per optimiser step, over all processes.
        seed: seeds the shuffling.
        group: number of batches whose examples are sorted together. A larger group saves more padding and mixes less.
    """

    def __init__(self, lengths: Sequence[int] | np.ndarray, batch_size: int, seed: int, group: int = GROUP) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.group = group
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Accelerate's loader before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = np.random.default_rng([self.seed, self.epoch])
        order = generator.permutation(len(self.lengths))
        group = np.arange(len(order)) // (self.batch_size * self.group)
        order = order[np.lexsort((-self.lengths[order], group))]  # by group, the longest first
        whole = len(order) // self.batch_size * self.batch_size
        batches = generator.permutation(order[:whole].reshape(-1, self.batch_size))  # (batches, batch_size)
        return iter([*batches.ravel().tolist(), *order[whole:].tolist()])  # an incomplete batch stays last
