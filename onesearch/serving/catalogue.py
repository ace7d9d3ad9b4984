"""Updates of a published catalogue: items come and go, the model and every other SID stay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from onesearch.files import index_lock, locked

if TYPE_CHECKING:
    from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex

COLUMNS = ("item_id", "codes", "popularity", "categories")
"""Columns of a table of encoded items; the last two are optional."""


def add_from_table(checkpoint: str | Path, table: str | Path) -> int:
    """Add the items of a parquet table to the catalogue in `checkpoint`.

    Args:
        table: columns ``item_id``, ``codes`` (list of integers, from the same codebooks), optionally ``popularity`` and ``categories``
            (list of texts, coarse to fine).

    Returns:
        Number of items then.

    Raises:
        ValueError: a missing or empty column, codes that do not fit, an item that is in the catalogue already; nothing is changed then.
        TimeoutError: another process has been changing the catalogue for `onesearch.files.LOCK_TIMEOUT` seconds.
    """
    rows = pq.read_table(table)
    missing = [name for name in COLUMNS[:2] if name not in rows.column_names]
    if missing:
        raise ValueError(f"{table} has columns {rows.column_names}, {missing} missing; expected are {list(COLUMNS)}")
    optional = {name: rows.column(name) if name in rows.column_names else None for name in COLUMNS[2:]}
    popularity, categories = optional["popularity"], optional["categories"]
    with _changing(checkpoint) as index:
        index.add_items(
            rows.column("item_id").to_pylist(),
            _codes(rows.column("codes"), len(index.codebook_sizes), table),
            None if popularity is None else popularity.to_numpy(),
            None if categories is None else [names or () for names in categories.to_pylist()],
        )
    return len(index)


def remove(checkpoint: str | Path, item_ids: Sequence[str]) -> int:
    """Take items out of the catalogue in `checkpoint`; returns how many are left. KeyError names an unknown one."""
    with _changing(checkpoint) as index:
        index.remove_items(item_ids)
    return len(index)


@contextmanager
def _changing(checkpoint: str | Path) -> Iterator[SidIndex]:
    """The index of a checkpoint, saved when the block ends and not when it raises; one process at a time."""
    from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME, SidIndex

    path = Path(checkpoint) / SID_INDEX_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give the folder of a checkpoint")
    with locked(index_lock(path), f"changing {path}"):
        index = SidIndex.load(path)
        yield index
        index.save_updates(path)


def _codes(column: pa.ChunkedArray, levels: int, table: str | Path) -> np.ndarray:
    """(items, levels) from a column of lists."""
    lengths = column.combine_chunks().value_lengths().to_numpy(zero_copy_only=False)
    if not len(lengths) or not (lengths == levels).all():
        row = int(np.argmax(lengths != levels)) if len(lengths) else 0
        raise ValueError(f"{table}: row {row} of column codes does not hold {levels} codes")
    return column.combine_chunks().flatten().to_numpy().reshape(-1, levels)
