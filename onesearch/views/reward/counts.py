"""Counts that can be read as they stood before any time, so that no session is judged by its own events or by later ones.

Where times of different users cannot be compared, a user's own events alone are read as of a time; those of all others count whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class TimedCounts:
    """Weighted events by key and time.

    Args:
        keys: distinct keys in ascending order, int64 ``(keys,)``.
        times: distinct times in ascending order, int64 ``(times,)``.
        places: ``row of the key × (number of times + 1) + row of the time`` of each event, ascending, int64 ``(events,)``.
        totals: sum of the weights of all events before each place, float64 ``(events + 1,)``.
        own: the events of each user alone, by ``user × (number of keys) + row of the key``; None where users were not given.
    """

    keys: np.ndarray
    times: np.ndarray
    places: np.ndarray
    totals: np.ndarray
    own: TimedCounts | None = None

    @cached_property
    def sums(self) -> np.ndarray:
        """Sum of the weights of all events of each key, float32 ``(keys,)``."""
        edges = np.searchsorted(self.places, np.arange(len(self.keys) + 1) * (len(self.times) + 1))
        return np.diff(self.totals[edges]).astype(np.float32)

    @classmethod
    def of(
        cls, keys: np.ndarray, times: np.ndarray, weights: np.ndarray | None = None, users: np.ndarray | None = None
    ) -> TimedCounts:
        """Count events.

        Args:
            keys: key of each event, int64 ``(events,)``.
            times: time of each event, int64 ``(events,)``.
            weights: weight of each event, ``(events,)``; None counts each as 1.
            users: number of each event's user, ``(events,)``; None if counts are never read for a user.
        """
        distinct, rows = np.unique(keys, return_inverse=True)
        moments, ranks = np.unique(times, return_inverse=True)
        places = rows.astype(np.int64) * (len(moments) + 1) + ranks
        order = np.argsort(places, kind="stable")
        worth = np.ones(len(keys)) if weights is None else np.asarray(weights, dtype=np.float64)[order]
        own = None if users is None else cls.of(users * len(distinct) + rows, times, weights)
        totals = np.concatenate([[0.0], np.cumsum(worth)])
        return cls(distinct.astype(np.int64), moments.astype(np.int64), places[order], totals, own)

    @classmethod
    def whole(cls, keys: np.ndarray, weights: np.ndarray) -> TimedCounts:
        """Counts that are read whole; `keys` and `weights` are ``(events,)``, and a key may occur several times."""
        return cls.of(keys, np.zeros(len(keys), dtype=np.int64), weights)

    def plus(self, keys: np.ndarray, weights: np.ndarray) -> TimedCounts:
        """These counts and further events, to be read whole; `keys` and `weights` are ``(events,)``."""
        return TimedCounts.whole(np.concatenate([self.keys, keys]), np.concatenate([self.sums, weights]))

    def before(self, keys: np.ndarray, times: np.ndarray | None = None, users: np.ndarray | None = None) -> np.ndarray:
        """Sum of the weights of each key's events strictly before a time.

        Args:
            keys: keys, int64 of any shape; an unknown key has the sum 0.
            times: time of each key, broadcast to the shape of `keys`; None counts all events, which is faster.
            users: user of each key, broadcast to the shape of `keys`: the time bounds this user's own events alone, and those of all others
                count whole. None bounds the events of everybody.

        Returns:
            Sums, float32 of the shape of `keys`.
        """
        keys = np.asarray(keys, dtype=np.int64)
        if not len(self.keys):
            return np.zeros(keys.shape, dtype=np.float32)
        rows = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        if times is None:
            return np.where(self.keys.take(rows) == keys, self.sums.take(rows), np.float32(0))
        if users is not None:
            if self.own is None:
                raise ValueError("the counts were made without users; give TimedCounts.of the user of each event")
            mine = users * len(self.keys) + rows
            later = self.own.before(mine) - self.own.before(mine, times)
            return np.where(self.keys[rows] == keys, self.sums[rows] - later, np.float32(0))
        ranks = np.broadcast_to(np.searchsorted(self.times, times), keys.shape)
        width = len(self.times) + 1
        begin = np.searchsorted(self.places, rows * width)
        end = np.searchsorted(self.places, rows * width + ranks)
        sums = self.totals[end] - self.totals[begin]
        return np.where(self.keys[rows] == keys, sums, 0.0).astype(np.float32)


FEW_COUNTERS, COUNTERS_PER_KEY = 1 << 16, 32
"""Up to so many distinct keys, in all or per key, are counted with one counter each, which is faster than sorting; our choice."""


def occurrences(keys: np.ndarray, wanted: np.ndarray, distinct_keys: int) -> np.ndarray:
    """How often each wanted key is among some keys.

    Args:
        keys: keys, int64 ``(events,)``, from 0 to below `distinct_keys`.
        wanted: keys to count, int64 of any shape, in the same range.
        distinct_keys: number of keys that there can be.

    Returns:
        Counts, int64 of the shape of `wanted`.
    """
    if distinct_keys <= max(FEW_COUNTERS, COUNTERS_PER_KEY * (len(keys) + wanted.size)):
        return np.bincount(keys, minlength=distinct_keys).take(wanted)
    distinct, counts = np.unique(keys, return_counts=True)
    if not len(distinct):
        return np.zeros(wanted.shape, dtype=np.int64)
    at = np.minimum(np.searchsorted(distinct, wanted), len(distinct) - 1)
    return np.where(distinct[at] == wanted, counts[at], 0)


__all__ = ["TimedCounts", "occurrences"]
