"""TRL's sampler of groups, whose order depends on the epoch alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from trl.trainer.utils import RepeatSampler


class GroupSampler(RepeatSampler):
    """TRL's [`RepeatSampler`], which repeats each request for its group, with an order that a resumed training finds again.

    TRL draws the order of every epoch from one generator. A training that is resumed in a later epoch starts that generator anew, and goes
    through the first epoch's order again.
    """

    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Accelerate's loader before each epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        if self.shuffle:
            self.generator.manual_seed(seed_of(self.seed or 0, self.epoch))
        return super().__iter__()


def seed_of(*numbers: int) -> int:
    """One seed of several numbers from 0."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


__all__ = ["GroupSampler", "seed_of"]
