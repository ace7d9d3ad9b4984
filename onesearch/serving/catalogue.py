"""Additions to and removals from the catalogue of a checkpoint; the model and the SIDs of all other items stay as they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onesearch.modeling_onesearch.sequences_onesearch import checked_texts
from onesearch.parquet_files import declared_size, read_table

if TYPE_CHECKING:
    from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex

COLUMNS = ("item_id", "codes", "popularity", "categories", "text")
"""Columns of a table of encoded items; all but the first two are optional."""

MAX_ROWS = 1_000_000
"""Largest number of items that one table may add. Every search walks the added items, and every update writes them; for more, build the
index anew (our choice)."""

MAX_BYTES = 1 << 30
"""Largest size of the columns of such a table in memory (our choice: a million rows take some 100 MB)."""


def add_from_table(checkpoint: str | Path, table: str | Path, known: str = "raise") -> int:
    """Add the items of a parquet table to the catalogue of a checkpoint.

    Args:
        checkpoint: folder of the checkpoint.
        table: parquet file with the columns ``item_id``, ``codes`` (a list of integers, from the checkpoint's codebooks), and optionally
            ``popularity``, ``categories`` (a list of texts, from coarse to fine) and ``text``, which the checkpoint's text index and dense
            index take in if it has them. Items without a text are found by the beam alone, whatever ``candidates`` is.
        known: ``raise`` refuses a table with items that are in the catalogue already. ``skip`` leaves them out, and their SIDs as they
            are: an addition that was stopped can be repeated.

    Returns:
        the number of items in the catalogue afterwards.

    Raises:
        FileNotFoundError: the checkpoint has no item index.
        MissingExtraError: there are texts and a text index, which needs the extra ``evaluation``; nothing is added then.
        TypeError: an id, a text or a category name that is not text; nothing is added then.
        ValueError: the table is damaged, has more than `MAX_ROWS` rows or `MAX_BYTES` bytes, or lacks a column; a value is empty or does
            not fit; or an item is in the catalogue already and `known` is ``raise``. Nothing is added then.
        TimeoutError: another process has been changing the catalogue for ten minutes.
    """
    _check_setting("known", known)
    rows = _read(Path(table))
    missing = [name for name in COLUMNS[:2] if name not in rows.column_names]
    if missing:
        raise ValueError(f"{table} has columns {rows.column_names}, {missing} missing; add them: a table has {list(COLUMNS)}")
    with _locked_index(checkpoint) as (index, path):
        if known == "skip":
            rows = rows.filter(pa.array(~index.contains(rows.column("item_id").to_pylist())))
            if not len(rows):
                return len(index)
        _add(index, rows, table)
        _add_texts(path.parent, rows)  # first: a text of an item that is not in the catalogue is never found
        _add_vectors(path.parent, rows)  # likewise
        _add_to_tables(path.parent, rows, index)  # likewise
        index.save_updates(path)
    return len(index)


def _add(index: SidIndex, rows: pa.Table, table: str | Path) -> None:
    """Add the items of a table that was read from the file `table`."""
    optional = {name: rows.column(name) if name in rows.column_names else None for name in COLUMNS[2:4]}
    popularity, categories = optional["popularity"], optional["categories"]
    index.add_items(
        rows.column("item_id").to_pylist(),
        _codes(rows.column("codes"), len(index.codebook_sizes), table),
        None if popularity is None else _numbers(popularity, table),
        None if categories is None else [names or () for names in categories.to_pylist()],
    )


def _add_texts(checkpoint: Path, rows: pa.Table) -> None:
    """Add the texts of new items to the text index of a checkpoint, if it has one and there are any."""
    from .text_index import TEXT_INDEX_NAME, TextIndex

    path = checkpoint / TEXT_INDEX_NAME
    if "text" not in rows.column_names or not path.is_file():
        return
    known = rows.filter(pc.is_valid(rows.column("text")))
    texts = checked_texts(known.column("text").to_pylist(), "text")
    TextIndex.load(path).with_items(known.column("item_id").to_pylist(), texts).save(path)


def _add_vectors(checkpoint: Path, rows: pa.Table) -> None:
    """Add the vectors of new items to the dense index of a checkpoint, if it has one; zeros for those without a text."""
    from .dense_index import FOLDER_NAME, ITEMS_NAME, DenseIndex

    folder = checkpoint / FOLDER_NAME
    if (folder / ITEMS_NAME).is_file():
        item_ids = rows.column("item_id").to_pylist()
        texts = rows.column("text").to_pylist() if "text" in rows.column_names else [None] * len(item_ids)
        DenseIndex.from_pretrained(folder).with_items(item_ids, [text or "" for text in texts]).save_items(folder)


def _add_to_tables(checkpoint: Path, rows: pa.Table, index: SidIndex) -> None:
    """Let the reward model and the histories of a checkpoint know new items; categories and texts are read where there are any."""
    from onesearch.data.arrow_tables import conform

    item_ids = rows.column("item_id").to_pylist()
    texts = [text or "" for text in rows.column("text").to_pylist()] if "text" in rows.column_names else [""] * len(item_ids)
    columns = {"item_id": pa.array(item_ids, pa.string()), "title": pa.array(texts, pa.string())}
    if "categories" in rows.column_names:
        columns["categories"] = pa.array(
            [list(names or ()) for names in rows.column("categories").to_pylist()], pa.list_(pa.string())
        )
    tell_tables(checkpoint, conform("items", pa.table(columns), "items"), texts, index)


def tell_tables(checkpoint: Path, items: pa.Table, texts: Sequence[str], index: SidIndex) -> None:
    """Let the reward model and the histories of a checkpoint know new items, where it has them.

    Args:
        checkpoint: folder of the checkpoint.
        items: rows with the columns of the items table.
        texts: text of each item, for its vector.
        index: item index that has the items.
    """
    from onesearch.views import history_table
    from onesearch.views.reward import reward_folder

    codes = index.codes_of(items.column("item_id").to_pylist())
    for part, name in {reward_folder: "reward.json", history_table: history_table.SETTINGS_NAME}.items():
        folder = checkpoint / part.FOLDER_NAME
        if (folder / name).is_file():
            part.add_items(folder, items, texts, codes)


def remove(checkpoint: str | Path, item_ids: Sequence[str], unknown: str = "raise") -> int:
    """Remove items from the catalogue of a checkpoint.

    Args:
        checkpoint: folder of the checkpoint.
        item_ids: the items to remove.
        unknown: ``raise`` refuses items that the catalogue does not have. ``skip`` leaves them out: a removal that was stopped can be
            repeated.

    Returns:
        the number of items in the catalogue afterwards.

    Raises:
        FileNotFoundError: the checkpoint has no item index.
        KeyError: an item is not in the catalogue and `unknown` is ``raise``; nothing is removed then.
        ValueError: no item would be left, or a setting is unknown; nothing is removed then.
        TimeoutError: another process has been changing the catalogue for ten minutes.
    """
    _check_setting("unknown", unknown)
    with _locked_index(checkpoint) as (index, path):
        if unknown == "skip":
            item_ids = [item_id for item_id, is_known in zip(item_ids, index.contains(item_ids)) if is_known]
            if not item_ids:
                return len(index)
        index.remove_items(item_ids)
        index.save_updates(path)
    return len(index)


def _check_setting(name: str, value: str) -> None:
    """Refuse a setting that is neither ``raise`` nor ``skip``."""
    if value not in ("raise", "skip"):
        raise ValueError(f"{name}={value!r} is unknown; allowed are raise and skip")


@contextmanager
def _locked_index(checkpoint: str | Path) -> Iterator[tuple[SidIndex, Path]]:
    """Give the index of a checkpoint and its path to one process at a time."""
    from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME, SidIndex
    from onesearch.modeling_onesearch.locks_onesearch import index_locked

    path = Path(checkpoint) / SID_INDEX_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give the folder of a checkpoint")
    with index_locked(path):
        yield SidIndex.load(path), path


def _read(table: Path) -> pa.Table:
    """Read a table of at most `MAX_ROWS` rows and `MAX_BYTES` bytes; ValueError otherwise, before anything is read."""
    advice = "give a parquet file of encoded items"
    if not table.is_file():
        raise FileNotFoundError(f"{table} is not a file; {advice}")
    try:
        rows, size = declared_size(table)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{table} is damaged or no parquet file ({error}); {advice}") from error
    if rows > MAX_ROWS or size > MAX_BYTES:
        raise ValueError(
            f"{table} has {rows:,} rows and {size:,} bytes; at most {MAX_ROWS:,} rows and {MAX_BYTES:,} bytes can be added "
            "at once. Split it, or build the index anew with `onesearch sids build`"
        )
    return read_table(table, advice)


def _numbers(column: pa.ChunkedArray, table: str | Path) -> np.ndarray:
    """Turn a column of numbers into an array; ValueError names the first row without one."""
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise ValueError(f"{table}: row {row} of column popularity is null; write 0 where it is unknown")
    return column.to_numpy()


def _codes(column: pa.ChunkedArray, levels: int, table: str | Path) -> np.ndarray:
    """Turn a column of lists into codes (items, levels); ValueError names the first row that is not `levels` whole numbers."""
    kind = column.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise ValueError(f"{table}: column codes is {kind}; it must hold lists of {levels} whole numbers")
    lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy()
    if not len(lengths) or not (lengths == levels).all():
        row = int(np.argmax(lengths != levels)) if len(lengths) else 0
        raise ValueError(f"{table}: row {row} of column codes does not hold {levels} codes")
    codes = pc.list_flatten(column)
    if codes.null_count or not pa.types.is_integer(codes.type):
        row = pc.index(pc.is_null(codes), True).as_py() // levels if codes.null_count else 0
        raise ValueError(f"{table}: row {row} of column codes does not hold {levels} whole numbers")
    return codes.to_numpy().reshape(-1, levels)
