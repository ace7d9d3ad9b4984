"""Rows of different lengths as two arrays, and the operations on them that prompts need, without a Python loop over rows or tokens.

The file travels to the Hub with the tokenizer and imports nothing of this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows that lie one after the other in one array.

    Args:
        values: (total, ...) the entries of all rows.
        offsets: (rows + 1,) int64; row i is `values[offsets[i]:offsets[i + 1]]`.
    """

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[ArrayLike], shape: tuple[int, ...] = ()) -> Ragged:
        """Ragged int64 array of one array per row.

        Args:
            rows: (entries, *shape) each.
            shape: shape of one entry; empty rows need it.
        """
        arrays = [np.asarray(row, dtype=np.int64).reshape(-1, *shape) for row in rows]
        values = np.concatenate(arrays) if arrays else np.empty((0, *shape), dtype=np.int64)
        return cls(values, offsets_of(np.array([len(row) for row in arrays], dtype=np.int64)))

    @classmethod
    def of_spans(cls, values: np.ndarray, begin: np.ndarray, end: np.ndarray) -> Ragged:
        """Rows `values[begin[i]:end[i]]`; they may overlap."""
        return cls(values.take(spans(begin, end - begin), axis=0), offsets_of(end - begin))

    @property
    def lengths(self) -> np.ndarray:
        """(rows,) entries of each row."""
        return self.offsets[1:] - self.offsets[:-1]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    def tolist(self) -> list[list]:
        """Rows as lists."""
        ends = self.offsets.tolist()
        return [self.values[begin:end].tolist() for begin, end in zip(ends, ends[1:])]

    def take(self, rows: np.ndarray) -> Ragged:
        """The rows with these numbers, in this order."""
        return Ragged.of_spans(self.values, self.offsets[:-1][rows], self.offsets[1:][rows])

    def tail(self, most: int) -> Ragged:
        """The last `most` entries of each row; shorter rows are kept whole."""
        lengths = np.minimum(self.lengths, most)
        if len(self) == 1:
            return Ragged(self.values[len(self.values) - int(lengths[0]) :], offsets_of(lengths))
        return Ragged(self.values[spans(self.offsets[1:] - lengths, lengths)], offsets_of(lengths))

    def padded(self, fill: int, side: str = "right") -> np.ndarray:
        """(rows, longest, ...) with `fill` in the empty places of each row, on the side that is given; `longest` is at least 1, so no axis
        is empty."""
        if len(self) == 1 and len(self.values):
            return self.values[None].copy()
        there = self.places(side)
        padded = np.full((*there.shape, *self.values.shape[1:]), fill, dtype=self.values.dtype)
        padded[there] = self.values
        return padded

    def places(self, side: str = "right") -> np.ndarray:
        """(rows, longest) bool, which places of `padded` hold an entry."""
        if len(self) == 1 and len(self.values):
            return np.ones((1, len(self.values)), dtype=bool)
        lengths = self.lengths[:, None]
        columns = np.arange(max(int(lengths.max(initial=0)), 1))
        return columns < lengths if side == "right" else columns >= len(columns) - lengths


class Part(NamedTuple):
    """One part of each row, as spans of an array: row i has `values[begin[i]:begin[i] + lengths[i]]`. Part may overlap or repeat.

    Attributes:
        values: (total, ...) entries.
        begin: (rows,) first entry of each row; one number where all rows begin at the same entry.
        lengths: (rows,) entries of each row.
    """

    values: np.ndarray
    begin: np.ndarray | int
    lengths: np.ndarray


def join(parts: Sequence[Part]) -> Ragged:
    """Rows that hold the parts side by side: row i is row i of the first part, then of the second, and so on."""
    lengths = np.stack([part.lengths for part in parts], axis=1)  # (rows, parts)
    begin = np.empty_like(lengths)
    start = 0  # first entry of the part in the concatenated values
    for place, part in enumerate(parts):
        begin[:, place] = part.begin + start
        start += len(part.values)
    values = np.concatenate([part.values for part in parts])
    return Ragged(values[spans(begin.reshape(-1), lengths.reshape(-1))], offsets_of(lengths.sum(1)))


def offsets_of(lengths: np.ndarray) -> np.ndarray:
    """Offsets of rows with these lengths: (rows,) → (rows + 1,)."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    lengths.cumsum(out=offsets[1:])
    return offsets


def spans(begin: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """(total,) the places `begin[i], begin[i] + 1, …` of each span i, `lengths[i]` of them, as one array."""
    offsets = offsets_of(lengths)
    places = (begin - offsets[:-1]).repeat(lengths)
    places += np.arange(len(places))
    return places


__all__ = ["Ragged", "Part", "join", "offsets_of", "spans"]
