"""The best of scored items that may be found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from onesearch.evaluation.baselines.training import best_rows

MORE = 4
"""Factor by which the search looks further down while too few items may be found; our choice."""

Keep: TypeAlias = Callable[[list[str]], Sequence[bool]]
"""Says of a list of items which of them may be found."""


def best_items(
    scores: np.ndarray, matching: int, item_ids: Sequence[str], count: int, keep: Keep | None
) -> list[tuple[str, float]]:
    """The best items with their scores, best first; equal scores keep the order of the items.

    Args:
        scores: score of each item, ``(items,)``.
        matching: number of items that can be found, those with the highest scores.
        item_ids: ids of the items.
        count: largest number of items.
        keep: says which may be found; None allows all.
    """
    wanted = count
    while True:
        rows = best_rows(scores, min(wanted, matching)).tolist() if matching else []
        found = list(zip((item_ids[row] for row in rows), scores[rows].tolist()))
        if keep is not None:
            kept = keep([item_id for item_id, _ in found])
            found = [pair for pair, is_kept in zip(found, kept) if is_kept]
        if len(found) >= count or wanted >= matching:
            return found[:count]
        wanted *= MORE


__all__ = ["Keep", "best_items"]
