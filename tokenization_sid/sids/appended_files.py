"""Appended items as files: each append adds one, and no file changes afterwards.

``sids/appended/00000.parquet``, ``00001.parquet``, … have the columns ``item_id``, ``title``, ``categories`` and ``codes`` (list of int32
of fixed length); their schema metadata are ``format``, ``codebook_sizes`` and the ``fingerprint`` of the codebooks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from onesearch.files import RunFolder, atomic_file
from onesearch.parquet_files import read_own_table, write_table

from .code_files import load_codes
from .item_codes import ItemCodes

FOLDER = "appended"
FORMAT = "onesearch-appended/1"


@dataclass(frozen=True)
class Appended:
    """All items appended to a run, in order.

    Args:
        table: columns ``item_id``, ``title`` and ``categories``.
        codes: (items, levels) int32.
    """

    table: pa.Table
    codes: np.ndarray


def load_appended(run: RunFolder) -> Appended:
    """Read all items that were appended to a run; there may be none.

    Raises:
        ValueError: a file is damaged, has another format or belongs to other codebooks than the run's.
    """
    stored = load_codes(run, "items")
    levels = len(stored.codebook_sizes)
    remedy = "copy it again, or remove it and append its items again"
    tables = [read_own_table(path, FORMAT, stored.fingerprint, remedy) for path in _paths(run)]
    table = pa.concat_tables(tables) if tables else _schema(levels).empty_table()
    codes = table.column("codes").combine_chunks().flatten()
    return Appended(table.drop_columns("codes").combine_chunks(), np.asarray(codes, dtype=np.int32).reshape(-1, levels))


def save_appended(run: RunFolder, items: pa.Table, coded: ItemCodes) -> Path:
    """Write the next file, whole or not at all.

    Args:
        run: run with SIDs.
        items: items table of the new items.
        coded: their codes.

    Returns:
        Path of the file.
    """
    number = max((int(path.stem) for path in _paths(run)), default=-1) + 1
    path = run.sids / FOLDER / f"{number:05d}.parquet"
    levels = len(coded.codebook_sizes)
    codes = pa.FixedSizeListArray.from_arrays(pa.array(coded.codes.astype(np.int32).ravel()), levels)
    columns = [items.column("item_id"), items.column("title"), pa.array(coded.categories, pa.list_(pa.string())), codes]
    metadata = {
        "format": FORMAT,
        "codebook_sizes": json.dumps([int(size) for size in coded.codebook_sizes]),
        "fingerprint": coded.fingerprint,
    }
    table = pa.table(columns, schema=_schema(levels)).replace_schema_metadata(metadata)
    with atomic_file(path) as temporary:
        write_table(table, temporary)
    return path


def _paths(run: RunFolder) -> list[Path]:
    """Files of appended items, in the order of the appends."""
    return sorted((run.sids / FOLDER).glob("[0-9]*.parquet"))


def _schema(levels: int) -> pa.Schema:
    texts = pa.list_(pa.string())
    return pa.schema({"item_id": pa.string(), "title": pa.string(), "categories": texts, "codes": pa.list_(pa.int32(), levels)})


__all__ = ["Appended", "load_appended", "save_appended"]
