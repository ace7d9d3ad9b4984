"""Batches with the teacher's masses beside prompts and targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ..sft.data.collators import Example
from .lists import TeacherLists


@dataclass
class SoftCollator:
    """Adds what a teacher expects to the batches of another collator.

    Args:
        examples: makes the other entries of a batch.
        lists: the teacher's lists. An example's column `request` is the number of its list, -1 without one.
        item_sids: (items, levels) codes of the items that the lists name.
        temperature: temperature of the masses.
    """

    examples: Callable[[Sequence[Example]], dict[str, torch.Tensor]]
    lists: TeacherLists
    item_sids: np.ndarray
    temperature: float

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """Make a batch.

        Returns:
            Entries of the other collator; `soft_sids` (batch, items, levels) codes of the teacher's items and `soft_masses` (batch, items),
            0 for padding; `soft_alone` (batch,) whether the target is the teacher's own, not an observed one.
        """
        numbers = np.array([int(example["request"]) for example in examples], dtype=np.int64)
        found = self.lists.masses(numbers, self.temperature)
        alone = (numbers >= 0) & ~self.lists.observed[np.maximum(numbers, 0)]
        batch = self.examples(examples)
        batch["soft_sids"] = torch.from_numpy(self.item_sids[np.maximum(found.items, 0)])
        batch["soft_masses"] = torch.from_numpy(found.scores)
        batch["soft_alone"] = torch.from_numpy(alone)
        return batch


__all__ = ["SoftCollator"]
