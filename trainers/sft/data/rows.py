"""Rows of a memory-mapped dataset as numpy views of its Arrow buffers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset


class ArrowRows(torch.utils.data.Dataset):
    """A dataset for a `DataLoader` that reads a batch at a time and turns lists into arrays, without a Python object per value.

    The numpy format of `datasets` makes several Python objects per row and column. For short rows it takes longer than plain lists.

    Args:
        dataset: dataset with columns of numbers or of flat lists of numbers; values of other columns become Python objects.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset.with_format("arrow")

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        table = self.dataset[rows]
        columns = [_values(table[name]) for name in table.column_names]
        return [dict(zip(table.column_names, row)) for row in zip(*columns)]


def _values(column: pa.ChunkedArray) -> Sequence[Any] | np.ndarray:
    """Value of each row: an array for a list, else a number or a Python object."""
    array = pa.concat_arrays(column.chunks)
    if pa.types.is_fixed_size_list(array.type):
        return array.flatten().to_numpy(zero_copy_only=False).reshape(len(array), -1)
    if not (pa.types.is_list(array.type) or pa.types.is_large_list(array.type)):
        return array.to_numpy(zero_copy_only=False) if pa.types.is_primitive(array.type) else array.to_pylist()
    if not pa.types.is_primitive(array.type.value_type):
        return array.to_pylist()
    values = array.values.to_numpy(zero_copy_only=False)
    edges = array.offsets.tolist()
    return [values[start:stop] for start, stop in zip(edges, edges[1:])]


def lengths_of(dataset: Dataset, column: str) -> np.ndarray:
    """Length of each row of a column of lists, (rows,)."""
    chunks = dataset.with_format("arrow")[:][column].chunks
    return np.concatenate([np.diff(chunk.offsets.to_numpy()) for chunk in chunks])


__all__ = ["ArrowRows", "lengths_of"]
