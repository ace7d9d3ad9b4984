"""The items that a teacher expects after some requests, best first."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np


class BestItems(NamedTuple):
    """Items with the highest scores of n requests.

    Attributes:
        items: rows of the items table, best first, -1 behind the last one, int64 ``(n, items)``.
        scores: logarithms of masses, which need not be normalised, float32 ``(n, items)``; -inf where there is no item.
    """

    items: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(cls, items: np.ndarray, scores: np.ndarray, most: int) -> BestItems:
        """The `most` best of some items ``(n, candidates)``, -1 where there is none. Equal scores keep their order."""
        scores = np.where(items >= 0, scores, -np.inf).astype(np.float32)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :most]
        best = np.take_along_axis(scores, order, axis=1)
        return cls(np.where(np.isfinite(best), np.take_along_axis(items, order, axis=1), -1), best)


class Teacher(Protocol):
    """Expects items after requests; it reads what was known before the session of each, and nothing later."""

    def __call__(self, sessions: np.ndarray, asked: np.ndarray) -> BestItems:
        """The best items of n requests.

        Args:
            sessions: rows of the sessions whose users and moments the requests have, ``(n,)``.
            asked: rows of the sessions whose queries they ask, ``(n,)``.
        """


__all__ = ["BestItems", "Teacher"]
