"""Vectors from memory or from disk: checked, drawn and read in chunks, so that a catalogue need not fit into memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

CHUNK = 16_384
"""Rows read and encoded at a time."""


class ShardedRows:
    """Rows of one tensor over several safetensors files, in the order given; a slice reads no more than it needs.

    Args:
        paths: files that each hold `name`, (rows, dimension).
        name: of the tensor.
    """

    def __init__(self, paths: Sequence[str | Path], name: str = "embeddings"):
        self.paths, self.name = [Path(path) for path in paths], name
        if not self.paths:
            raise ValueError("no files given")
        shapes = [self._shape(path) for path in self.paths]
        if len({shape[1:] for shape in shapes}) != 1 or len(shapes[0]) != 2:
            raise ValueError(f"{self.paths[0].parent}: shapes {shapes} of {name!r} do not stack to (rows, dimension)")
        self._starts = [0, *np.cumsum([shape[0] for shape in shapes]).tolist()]
        self.shape = (self._starts[-1], shapes[0][1])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, step = rows.indices(len(self))
        if step != 1:
            raise ValueError(f"step {step}: only whole stretches of rows are read")
        parts = [np.empty((0, self.shape[1]), dtype=np.float32)]
        while start < stop:
            file = bisect_right(self._starts, start) - 1
            first, last = start - self._starts[file], min(stop, self._starts[file + 1]) - self._starts[file]
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
                    raise ValueError(f"{path} holds {', '.join(file.keys()) or 'nothing'}, expected {self.name!r}")
                return tuple(file.get_slice(self.name).get_shape())
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}); make it again") from error


Rows = np.ndarray | ShardedRows
"""What quantizers take: an array, an `np.memmap` of any float type, or shards."""


def as_rows(vectors: Rows, dimension: int | None = None) -> Rows:
    """`vectors` as they are, once their shape fits: (n, dimension), n ≥ 1. Values are checked when they are read."""
    rows = vectors if isinstance(vectors, ShardedRows) else np.asanyarray(vectors)
    if len(rows.shape) != 2 or not all(rows.shape):
        raise ValueError(f"vectors have shape {tuple(rows.shape)}, expected (n, dimension) with n ≥ 1")
    if dimension is not None and rows.shape[1] != dimension:
        raise ValueError(
            f"vectors have dimension {rows.shape[1]}, the codebooks {dimension}: embed with the encoder they were made with"
        )
    return rows


def chunks(rows: Rows, chunk: int = CHUNK) -> Iterator[tuple[slice, np.ndarray]]:
    """Stretches of rows and their values, float32 and finite."""
    if chunk < 1:
        raise ValueError(f"chunk={chunk} must be at least 1")
    for start in range(0, len(rows), chunk):
        place = slice(start, min(start + chunk, len(rows)))
        with np.errstate(over="ignore"):
            block = np.ascontiguousarray(rows[place], dtype=np.float32)
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            raise ValueError(f"vector {start + int(np.argmin(finite))} holds NaN or infinity; embed its text again")
        yield place, block


def draw(rows: Rows, count: int, seed: int) -> np.ndarray:
    """At most `count` rows, drawn without replacement and kept in order; every row is read and checked. (≤ count, dimension)."""
    wanted = np.arange(len(rows))
    if count < len(rows):
        wanted = np.sort(np.random.default_rng(seed).permutation(len(rows))[:count])
    drawn = np.empty((len(wanted), rows.shape[1]), dtype=np.float32)
    for place, block in chunks(rows):
        first, last = np.searchsorted(wanted, (place.start, place.stop))
        drawn[first:last] = block[wanted[first:last] - place.start]
    return drawn
