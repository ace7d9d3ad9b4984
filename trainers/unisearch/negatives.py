"""Hard negatives of the contrastive loss, drawn by item row; their vectors come from the memory bank and have no gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from onesearch.modeling_onesearch.item_encoder_unisearch import partial_sums
from onesearch.tokenization_sid.sids.prefixes import prefix_ids

from .losses import Negatives
from .unisearch_config import NegativeSchedule


class Groups(NamedTuple):
    """Items by group.

    Args:
        of: (items,) group of each item, -1 for none.
        order: (items,) rows sorted by group.
        begin: (groups,) first place of each group in `order`.
        size: (groups,) number of its items.
    """

    of: np.ndarray
    order: np.ndarray
    begin: np.ndarray
    size: np.ndarray

    @classmethod
    def by(cls, group: np.ndarray) -> Groups:
        """Groups from the number of each item's group, -1 for none."""
        size = np.bincount(group[group >= 0], minlength=int(group.max(initial=-1)) + 1)
        order = np.argsort(group, kind="stable")
        return cls(group, order, np.cumsum(size) - size + int((group < 0).sum()), size)

    def draw(self, items: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
        """(items, count) random members of each item's group, -1 where it has none."""
        group = np.maximum(self.of[items], 0)
        places = self.begin[group][:, None] + np.floor(random.random((len(items), count)) * self.size[group][:, None]).astype(
            np.int64
        )
        return np.where((self.of[items] >= 0)[:, None], self.order[places], -1)


class HardNegatives:
    """Draws the negatives of every level by a schedule.

    Args:
        schedule: sources by level.
        categories: (items,) number of each item's category, -1 without one.
    """

    def __init__(self, schedule: NegativeSchedule, categories: np.ndarray) -> None:
        self.schedule = schedule
        self.count = len(categories)
        self.categories = Groups.by(categories) if (categories >= 0).any() else None
        self.prefixes: list[Groups] = []

    def set_codes(self, codes: np.ndarray, codebook_sizes: Sequence[int]) -> None:
        """Group the items by the prefixes of new codes (items, levels)."""
        self.prefixes = [Groups.by(ids) for ids in prefix_ids(codes, codebook_sizes)]

    def rows(self, level: int, items: np.ndarray, beams: np.ndarray | None, random: np.random.Generator) -> np.ndarray:
        """Rows of hard negatives at a level.

        Args:
            level: counted from 0.
            items: (batch,) rows of the positives.
            beams: (batch, any number) rows that the beam has found, -1 for none; None without beams.
            random: random generator.

        Returns:
            (batch, negatives), -1 for a place without one; 0 negatives where the level has the batch alone.
        """
        found, count = [], self.schedule.count
        for source in self.schedule.sources(level):
            if source == "memory":
                found.append(random.integers(0, self.count, (len(items), count)))
            elif source == "category" and self.categories is not None:
                found.append(self.categories.draw(items, count, random))
            elif source == "prefix" and level and self.prefixes:
                found.append(self.prefixes[level - 1].draw(items, count, random))
            elif source == "beam" and beams is not None:
                found.append(beams[:, :count])
        rows = np.concatenate(found, axis=1) if found else np.full((len(items), 0), -1, dtype=np.int64)
        return np.where(rows == items[:, None], -1, rows)

    def draw(
        self,
        items: np.ndarray,
        bank: torch.Tensor,
        beams: np.ndarray | None,
        random: np.random.Generator,
        before: torch.Tensor | None,
        bound: str,
    ) -> list[Negatives | None]:
        """Negatives of all levels.

        Args:
            items: (batch,) rows of the positives.
            bank: (catalogue, levels, dim) vectors of all items.
            beams: see `rows`.
            random: random generator.
            before: (catalogue, levels, dim) vectors of the levels before, which are summed; see `partial_sums`.
            bound: see `partial_sums`.
        """
        rows = [self.rows(level, items, beams, random) for level in range(bank.shape[1])]
        distinct = np.unique(np.maximum(np.concatenate([part.flatten() for part in rows]), 0))  # an item is summed once
        chosen = torch.from_numpy(distinct).to(bank.device)
        sums = partial_sums(bank[chosen], None if before is None else before[chosen], bound)
        levels: list[Negatives | None] = []
        for level, part in enumerate(rows):
            places = torch.from_numpy(np.searchsorted(distinct, np.maximum(part, 0))).to(bank.device)
            found = Negatives(sums[places, level], torch.from_numpy(part >= 0).to(bank.device))
            levels.append(found if part.shape[1] else None)
        return levels


__all__ = ["Groups", "HardNegatives"]
