"""Examples that are made while they are read and stored nowhere, for logs that are too large to keep tokenised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import IterableDataset

from .examples import ExampleBuilder


def streamed_examples(
    builder: ExampleBuilder, weights: Mapping[str, float], split: str, buffer: int = 100_000
) -> IterableDataset:
    """Examples of several tasks, shuffled; their chunks take turns.

    Args:
        builder: makes the examples.
        weights: weight of each task. 1 gives every example once per pass, 2 twice, 0.5 each with probability 1/2.
        split: split of the market's sessions.
        buffer: examples that shuffling picks from. A larger buffer mixes the tasks better and takes more memory.
    """

    def generate() -> Iterator[dict[str, Any]]:
        random = np.random.default_rng(builder.config.seed)
        running = {task: builder.chunks(task, split) for task in weights}
        while running:
            for task in list(running):
                chunk = next(running[task], None)
                if chunk is None:
                    del running[task]
                    continue
                yield from _examples_of(chunk, weights[task], random)

    return IterableDataset.from_generator(generate).shuffle(seed=builder.config.seed, buffer_size=buffer)


def _examples_of(chunk: pa.Table, weight: float, random: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Rows of a table as numpy arrays and numbers, each repeated by its weight."""
    columns = {name: chunk.column(name).combine_chunks() for name in chunk.column_names}
    copies, fraction = divmod(weight, 1)
    for row in range(len(chunk)):
        example = {}
        for name, column in columns.items():
            is_list = pa.types.is_list(column.type)
            example[name] = np.asarray(column[row].values) if is_list else column[row].as_py()
        for _ in range(int(copies) + (random.random() < fraction)):
            yield example


__all__ = ["streamed_examples"]
