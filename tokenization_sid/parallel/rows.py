"""Vectors in memory or on disk: checked, sampled and read in chunks, so that a catalogue need not fit into memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from ..tensor_files import check_rows
from .threads import row_blocks

CHUNK = 16_384
"""Number of rows that are read and encoded at a time."""


class ShardedRows:
    """Rows of a tensor that is spread over several safetensors files; slicing reads the rows that it returns and no others.

    Args:
        paths: files in the order of their rows; each holds the tensor `name`, (rows, dimension).
        name: name of the tensor in each file.
        expected: ``format`` of files that `tensor_files.write_tensors` wrote. Each is compared with the fingerprint of its content before
            its first rows are read. None takes any safetensors file unchecked.

    Attributes:
        shape: (rows of all files, dimension).

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file is damaged or lacks the tensor, or the dimensions differ.
    """

    def __init__(self, paths: Sequence[str | Path], name: str = "embeddings", expected: str | None = None) -> None:
        self.paths = [Path(path) for path in paths]
        self.name = name
        self._expected = expected
        self._checked: set[int] = set()
        if not self.paths:
            raise ValueError("paths is empty; give at least one safetensors file")
        shapes = [self._shape(path) for path in self.paths]
        if len({shape[1:] for shape in shapes}) != 1 or len(shapes[0]) != 2:
            raise ValueError(
                f"{self.paths[0].parent}: tensors {name!r} of shapes {shapes} do not stack to (rows, dimension); make them again with one "
                "encoder"
            )
        self._starts: list[int] = [0, *np.cumsum([shape[0] for shape in shapes]).tolist()]
        self.shape: tuple[int, int] = (self._starts[-1], shapes[0][1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f"slice with step {step} is invalid; ShardedRows reads contiguous rows (step 1)")
        parts = [np.empty((0, self.shape[1]), dtype=np.float32)]
        while start < stop:
            file = bisect_right(self._starts, start) - 1
            first, last = start - self._starts[file], min(stop, self._starts[file + 1]) - self._starts[file]
            if self._expected is not None and file not in self._checked:
                check_rows(self.paths[file], self.name, self._expected, "make it again")
                self._checked.add(file)
            with safe_open(self.paths[file], framework="np") as opened:
                parts.append(opened.get_slice(self.name)[first:last])
            start += last - first
        return np.concatenate(parts[1:] or parts)

    def _shape(self, path: Path) -> tuple[int, ...]:
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist")
        try:
            with safe_open(path, framework="np") as file:
                if self.name not in file.keys():
                    raise ValueError(f"{path} holds {', '.join(file.keys()) or 'no tensor'}, expected {self.name!r}")
                return tuple(file.get_slice(self.name).get_shape())
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}); make it again") from error


Rows = np.ndarray | ShardedRows
"""Vectors that quantizers accept: an array or an `np.memmap` of any float type, or shards."""


class Chunk(NamedTuple):
    """Consecutive rows: their slice, and their values (rows, dimension) float32."""

    place: slice
    values: np.ndarray


def as_rows(vectors: Rows, dimension: int | None = None) -> Rows:
    """`vectors` unchanged, after a check of their shape. Their values are checked when they are read.

    Args:
        vectors: (n, dimension), n ≥ 1.
        dimension: expected dimension; None accepts any.

    Raises:
        ValueError: the shape is another one.
    """
    rows = vectors if isinstance(vectors, ShardedRows) else np.asanyarray(vectors)
    if len(rows.shape) != 2 or not all(rows.shape):
        raise ValueError(f"vectors have shape {tuple(rows.shape)}, expected (n, dimension) with n ≥ 1")
    if dimension is not None and rows.shape[1] != dimension:
        raise ValueError(
            f"vectors have dimension {rows.shape[1]}, the codebooks {dimension}; embed with the encoder that the codebooks were made with"
        )
    return rows


def chunks(rows: Rows, chunk: int = CHUNK) -> Iterator[Chunk]:
    """Read `rows` (n, dimension) in order, `chunk` rows at a time, as float32.

    Raises:
        ValueError: `chunk` is less than 1, or a value is NaN or infinite.
    """
    if chunk < 1:
        raise ValueError(f"chunk={chunk} is invalid; give at least 1")
    for place in row_blocks(len(rows), chunk):
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(rows[place], dtype=np.float32)
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            raise ValueError(f"vector {place.start + int(np.argmin(finite))} holds NaN or infinity; embed its text again")
        yield Chunk(place, values)


def draw(rows: Rows, count: int, seed: int) -> np.ndarray:
    """Sample at most `count` rows without replacement, in their order; every row is read and checked.

    Args:
        rows: (n, dimension).
        count: upper bound of the sampled rows; all rows are returned if there are no more.
        seed: seeds the sampling.

    Returns:
        (min(n, count), dimension) float32.
    """
    wanted = np.arange(len(rows))
    if count < len(rows):
        wanted = np.sort(np.random.default_rng(seed).permutation(len(rows))[:count])
    drawn = np.empty((len(wanted), rows.shape[1]), dtype=np.float32)
    for place, values in chunks(rows):
        first, last = np.searchsorted(wanted, (place.start, place.stop))
        drawn[first:last] = values[wanted[first:last] - place.start]
    return drawn
