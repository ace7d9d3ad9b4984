"""Additions to and removals from the catalogue of a checkpoint; the model and the SIDs of all other items stay as they are."""

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
"""Columns of a table of encoded items; `popularity` and `categories` are optional."""


def add_from_table(checkpoint: str | Path, table: str | Path) -> int:
    """Add the items of a parquet table to the catalogue of a checkpoint.

    Args:
        checkpoint: folder of the checkpoint.
        table: parquet file with the columns ``item_id``, ``codes`` (a list of integers, from the checkpoint's codebooks), and optionally
            ``popularity`` and ``categories`` (a list of texts, from coarse to fine).

    Returns:
        the number of items in the catalogue afterwards.

    Raises:
        FileNotFoundError: the checkpoint has no item index.
        ValueError: a missing or empty column, codes that do not fit, or an item that is in the catalogue already; nothing is added then.
        TimeoutError: another process has been changing the catalogue for `onesearch.files.LOCK_TIMEOUT` seconds.
    """
    rows = pq.read_table(table)
    missing = [name for name in COLUMNS[:2] if name not in rows.column_names]
    if missing:
        raise ValueError(f"{table} has columns {rows.column_names}, {missing} missing; add them: a table has {list(COLUMNS)}")
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
    """Remove items from the catalogue of a checkpoint.

    Args:
        checkpoint: folder of the checkpoint.
        item_ids: the items to remove.

    Returns:
        the number of items in the catalogue afterwards.

    Raises:
        FileNotFoundError: the checkpoint has no item index.
        KeyError: an item is not in the catalogue; nothing is removed then.
        ValueError: no item would be left; nothing is removed then.
        TimeoutError: another process has been changing the catalogue for `onesearch.files.LOCK_TIMEOUT` seconds.
    """
    with _changing(checkpoint) as index:
        index.remove_items(item_ids)
    return len(index)


@contextmanager
def _changing(checkpoint: str | Path) -> Iterator[SidIndex]:
    """Give the index of a checkpoint to one process at a time, and save its updates when the block ends without an error."""
    from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME, SidIndex

    path = Path(checkpoint) / SID_INDEX_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give the folder of a checkpoint")
    with locked(index_lock(path), f"changing {path}"):
        index = SidIndex.load(path)
        yield index
        index.save_updates(path)


def _codes(column: pa.ChunkedArray, levels: int, table: str | Path) -> np.ndarray:
    """Turn a column of lists into codes (items, levels); ValueError names the first row with another number of levels."""
    lengths = column.combine_chunks().value_lengths().to_numpy(zero_copy_only=False)
    if not len(lengths) or not (lengths == levels).all():
        row = int(np.argmax(lengths != levels)) if len(lengths) else 0
        raise ValueError(f"{table}: row {row} of column codes does not hold {levels} codes")
    return column.combine_chunks().flatten().to_numpy().reshape(-1, levels)
