"""Rows of different lengths as two arrays, and what prompts need of them. No Python per row or per token.

Travels to the Hub with the tokenizer: imports nothing of this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows that lie in one array.

    Args:
        values: (total, ...) all rows, one after the other.
        offsets: (rows + 1,) int64; row i is `values[offsets[i]:offsets[i + 1]]`.
    """

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[np.ndarray | Sequence[int]], shape: tuple[int, ...] = ()) -> Ragged:
        """From one array per row; `shape` is that of an entry, for rows that are empty."""
        arrays = [np.asarray(row, dtype=np.int64).reshape(-1, *shape) for row in rows]
        values = np.concatenate(arrays) if arrays else np.empty((0, *shape), dtype=np.int64)
        return cls(values, offsets_of(np.array([len(row) for row in arrays], dtype=np.int64)))

    @classmethod
    def of_spans(cls, values: np.ndarray, begin: np.ndarray, end: np.ndarray) -> Ragged:
        """Rows `values[begin[i]:end[i]]`."""
        return cls(values[spans(begin, end - begin)], offsets_of(end - begin))

    @property
    def lengths(self) -> np.ndarray:
        """(rows,) entries per row."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def take(self, rows: np.ndarray) -> Ragged:
        """The rows with these numbers, in this order."""
        begin = self.offsets[:-1][rows]
        return Ragged.of_spans(self.values, begin, begin + self.lengths[rows])

    def head(self, most: int | np.ndarray) -> Ragged:
        """At most the first `most` entries of each row; one number, or one per row."""
        return Ragged.of_spans(self.values, self.offsets[:-1], self.offsets[:-1] + np.minimum(self.lengths, most))

    def tail(self, most: int) -> Ragged:
        """At most the last `most` entries of each row."""
        return Ragged.of_spans(self.values, self.offsets[1:] - np.minimum(self.lengths, most), self.offsets[1:])

    def padded(self, fill: int) -> np.ndarray:
        """(rows, longest, ...) with `fill` behind each row's end; one entry wide at least, so that shapes never vanish."""
        there = np.arange(max(int(self.lengths.max(initial=0)), 1)) < self.lengths[:, None]
        padded = np.full((*there.shape, *self.values.shape[1:]), fill, dtype=self.values.dtype)
        padded[there] = self.values
        return padded

    def flatten(self) -> Ragged:
        """Entries of shape (n,) as n entries each."""
        return Ragged(self.values.reshape(-1), self.offsets * int(np.prod(self.values.shape[1:], dtype=np.int64)))


def join(parts: Sequence[Ragged]) -> Ragged:
    """Row by row, all parts one after the other."""
    lengths = np.stack([part.lengths for part in parts], axis=1)  # (rows, parts)
    ends = np.cumsum(lengths).reshape(lengths.shape)
    joined = np.empty(int(lengths.sum()), dtype=parts[0].values.dtype)
    for part, end, length in zip(parts, ends.T, lengths.T):
        joined[spans(end - length, length)] = part.values
    return Ragged(joined, offsets_of(lengths.sum(1)))


def repeat(values: np.ndarray, rows: np.ndarray) -> Ragged:
    """`values` in each row where `rows` (rows,) is true, nothing elsewhere."""
    return Ragged(np.tile(values, int(rows.sum())), offsets_of(rows.astype(np.int64) * len(values)))


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """(rows,) → (rows + 1,)."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def spans(begin: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Places `begin[i], begin[i] + 1, …`, `lengths[i]` of them for each i, as one array."""
    offsets = offsets_of(lengths)
    return np.arange(offsets[-1]) + np.repeat(begin - offsets[:-1], lengths)


__all__ = ["Ragged", "join", "offsets_of", "repeat", "spans"]
