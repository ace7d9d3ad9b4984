"""Batches with the teacher's masses beside prompts and targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from onesearch.tokenization_sid.ragged import Ragged, offsets_of

from ..sft.data.collators import Example
from .best_items import BestItems
from .lists import TeacherLists, masses_of


@dataclass
class SoftCollator:
    """Adds what a teacher expects to the batches of another collator.

    Args:
        examples: makes the other entries of a batch.
        lists: the teacher's lists. An example's column `request` is the number of its list, -1 without one. None where every example
            holds its own list in `teacher_items` and `teacher_scores`, which is empty without one; an example may also hold both.
        item_sids: (items, levels) codes of the items that the lists name.
        temperature: temperature of the masses.
    """

    examples: Callable[[Sequence[Example]], dict[str, torch.Tensor]]
    lists: TeacherLists | None
    item_sids: np.ndarray
    temperature: float

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """Make a batch.

        Returns:
            Entries of the other collator; `soft_sids` (batch, items, levels) codes of the teacher's items and `soft_masses` (batch, items),
            0 for padding; `soft_alone` (batch,) whether the target is the teacher's own, not an observed one.
        """
        found, alone = self._own(examples), np.zeros(len(examples), dtype=bool)
        if self.lists is not None:
            numbers = np.array([int(example["request"]) for example in examples], dtype=np.int64)
            found = _first_of(self.lists.masses(numbers, self.temperature), found)
            alone = (numbers >= 0) & ~self.lists.observed[np.maximum(numbers, 0)]
        batch = self.examples(examples)
        batch["soft_sids"] = torch.from_numpy(self.item_sids[np.maximum(found.items, 0)])
        batch["soft_masses"] = torch.from_numpy(found.scores)
        batch["soft_alone"] = torch.from_numpy(alone)
        return batch

    def _own(self, examples: Sequence[Example]) -> BestItems:
        """The lists that the examples themselves hold."""
        if "teacher_items" not in examples[0]:
            none = np.zeros((len(examples), 0))
            return BestItems(none.astype(np.int64), none.astype(np.float32))
        offsets = offsets_of(np.array([len(example["teacher_items"]) for example in examples], dtype=np.int64))
        items = np.concatenate([example["teacher_items"] for example in examples]).astype(np.int64)
        scores = np.concatenate([example["teacher_scores"] for example in examples]).astype(np.float32)
        return masses_of(Ragged(items, offsets), Ragged(scores, offsets), self.temperature)


def _first_of(lists: BestItems, others: BestItems) -> BestItems:
    """The rows of `lists`, and those of `others` where `lists` has no item."""
    is_empty = (lists.items < 0).all(1, keepdims=True)
    width = max(lists.items.shape[1], others.items.shape[1])
    items, other_items = (_wide(own.items, width, -1) for own in (lists, others))
    masses, other_masses = (_wide(own.scores, width, 0) for own in (lists, others))
    return BestItems(np.where(is_empty, other_items, items), np.where(is_empty, other_masses, masses))


def _wide(values: np.ndarray, width: int, fill: int) -> np.ndarray:
    """Values (rows, columns) with columns of `fill` behind them, (rows, width)."""
    return np.pad(values, ((0, 0), (0, width - values.shape[1])), constant_values=fill)


__all__ = ["SoftCollator"]
