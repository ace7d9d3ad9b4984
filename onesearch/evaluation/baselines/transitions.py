"""Item-to-item transitions: which items occur close to each other in training histories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .training import TrainingLog


@dataclass(frozen=True)
class Transitions:
    """A sparse matrix (items, items) of transition weights as compressed rows.

    Args:
        starts: the entries of row i are ``starts[i] : starts[i + 1]``, ``(items + 1,)``.
        columns: item row of each entry, ``(entries,)``.
        weights: weight of each entry, ``(entries,)``.
    """

    starts: np.ndarray
    columns: np.ndarray
    weights: np.ndarray

    @classmethod
    def count(cls, log: TrainingLog, window: int, decay: float) -> Transitions:
        """Count pairs of different items in the history of one user, in both directions.

        A row is divided by the square root of its sum. Without that division frequent items would dominate the votes; divided by
        the full sum, an item seen once would weigh as much as a frequent one. The square root is our choice.

        Args:
            log: interactions of the training split.
            window: largest distance of a pair in the history; raising it adds pairs that are further apart.
            decay: a pair at distance d counts ``decay ** (d − 1)``; lowering it favours neighbours.
        """
        items = len(log.item_ids)
        keys, worth = [np.zeros(0, dtype=np.int64)], [np.zeros(0)]
        for gap in range(1, min(window, max(0, len(log.rows) - 1)) + 1):
            same = (log.users[gap:] == log.users[:-gap]) & (log.rows[gap:] != log.rows[:-gap])
            before, after = log.rows[:-gap][same], log.rows[gap:][same]
            keys += [before * items + after, after * items + before]
            worth += [np.full(2 * len(before), decay ** (gap - 1))]
        pairs, inverse = np.unique(np.concatenate(keys), return_inverse=True)
        weights = np.bincount(inverse, weights=np.concatenate(worth), minlength=len(pairs))
        origin = pairs // items
        total = np.bincount(origin, weights=weights, minlength=items)
        starts = np.concatenate([[0], np.cumsum(np.bincount(origin, minlength=items))])
        return cls(starts, pairs % items, weights / np.sqrt(total[origin]))
