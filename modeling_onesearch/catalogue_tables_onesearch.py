"""The tables of an item index: built once from items, written to one safetensors file and mapped from it.

Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from .catalogue_checks_onesearch import check_index
from .category_paths_onesearch import CategoryPaths
from .columns_onesearch import ItemIds
from .tensor_files_onesearch import (
    check_fingerprint,
    content_fingerprint,
    damaged,
    parsed_texts,
    read_tensors,
    replaced_builds,
    write_tensors,
)
from .trie_building_onesearch import checked_codebook_sizes
from .trie_onesearch import SidTrie

INDEX_FORMAT = "onesearch-sid-index/2"

ARRAYS = ("leaf_of_row", "codes", "popularity", "bucket_rows", "bucket_starts", "category")
"""The arrays of the tables, by the name of their field and of their tensor in the file."""

ID_ARRAYS = ("data", "ends", "hashes", "rows")
"""The arrays of `ItemIds`."""


@dataclass(frozen=True)
class CatalogueTables:
    """The catalogue as it was when the index was built. Make them with `build` or `read_tables`.

    Args:
        codebook_sizes: number of codes of each level.
        fingerprint: fingerprint of the codebooks.
        ids: the item ids; an item's *row* is its place in the catalogue.
        paths: the distinct category paths.
        trie: the trie of all SIDs.
        leaf_of_row: (items,) int32, the number of each item's SID in the trie.
        codes: (items, levels) int16 or int32.
        popularity: (items,) float32, larger values come first inside a SID.
        bucket_rows: (items,) int32, the rows in the order of their SIDs, inside a SID the most popular first.
        bucket_starts: (SIDs + 1,) int32, where the items of each SID begin in `bucket_rows`.
        category: (items,) int32, the place of each item's path, -1 for an item without one.
    """

    codebook_sizes: tuple[int, ...]
    fingerprint: str
    ids: ItemIds
    paths: CategoryPaths
    trie: SidTrie
    leaf_of_row: np.ndarray
    codes: np.ndarray
    popularity: np.ndarray
    bucket_rows: np.ndarray
    bucket_starts: np.ndarray
    category: np.ndarray

    @classmethod
    def build(
        cls,
        item_ids: Sequence[str],
        codes: np.ndarray,
        popularity: np.ndarray,
        codebook_sizes: Sequence[int],
        fingerprint: str,
        categories: Sequence[Sequence[str]] | None = None,
    ) -> CatalogueTables:
        """Build the tables from items; the arguments and errors are those of `SidIndex.build`."""
        codes = np.asarray(codes)
        popularity = np.asarray(popularity, dtype=np.float32)
        sizes = checked_codebook_sizes(codebook_sizes)
        ids = ItemIds.of(item_ids)
        trie, leaf_of_row = SidTrie.build_with_leaves(codes, sizes)
        bucket_rows = np.lexsort((-popularity, leaf_of_row)).astype(np.int32)
        bucket_starts = np.searchsorted(leaf_of_row[bucket_rows], np.arange(len(trie) + 1)).astype(np.int32)
        paths, category = CategoryPaths([]).extended(categories, len(codes))
        return cls(
            codebook_sizes=sizes,
            fingerprint=fingerprint,
            ids=ids,
            paths=paths,
            trie=trie,
            leaf_of_row=leaf_of_row,
            codes=codes.astype(np.int16 if max(sizes) <= 1 << 15 else np.int32),
            popularity=popularity,
            bucket_rows=bucket_rows,
            bucket_starts=bucket_starts,
            category=category,
        )

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.codes)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all tables by name, for a file."""
        tables = {name: getattr(self, name) for name in ARRAYS}
        tables |= {f"ids.{name}": getattr(self.ids, name) for name in ID_ARRAYS}
        tables |= self.paths.to_arrays("paths")
        tensors = {name: torch.from_numpy(np.ascontiguousarray(table)) for name, table in tables.items()}
        return tensors | {f"trie.{name}": table.cpu() for name, table in self.trie.tensors().items()}


class IndexFile(NamedTuple):
    """An index file.

    Args:
        tables: the tables, mapped from the file.
        build: the fingerprint of the tables, by which the updates beside the file refer to them.
        replaces: the builds that the file replaced; updates of those are merged already or void.
    """

    tables: CatalogueTables
    build: str
    replaces: list[str]


def read_tables(path: str | os.PathLike, verify: bool | None = None) -> IndexFile:
    """Map the tables of an index file into memory, and check that no table refers to a place outside another.

    Args:
        path: the file.
        verify: whether to compare the content with the fingerprint that the file carries; None does so for files of at most
            `VERIFY_BYTES`.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged or has another format.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path} does not exist; build it with `onesearch sids build`")
    file = read_tensors(path, INDEX_FORMAT)
    tensors, metadata = file
    try:
        sizes = checked_codebook_sizes(json.loads(metadata["codebook_sizes"]))
        build, fingerprint, replaces = metadata["build"], metadata["fingerprint"], parsed_texts(metadata["replaces"])
        check_index(tensors, sizes)
        arrays = {name: table.numpy() for name, table in tensors.items() if not name.startswith("trie.")}
        paths = CategoryPaths.from_arrays("paths", arrays)
    except KeyError as error:
        raise damaged(path, f"its header has no {error}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged(path, error) from error
    check_fingerprint(path, build, file, (metadata["codebook_sizes"], fingerprint), verify)
    trie = {name.removeprefix("trie."): table for name, table in tensors.items() if name.startswith("trie.")}
    tables = CatalogueTables(
        codebook_sizes=sizes,
        fingerprint=fingerprint,
        ids=ItemIds(*(arrays[f"ids.{name}"] for name in ID_ARRAYS)),
        paths=paths,
        trie=SidTrie.from_tensors(trie, sizes),
        **{name: arrays[name] for name in ARRAYS},
    )
    return IndexFile(tables, build, replaces)


def write_tables(path: Path, tables: CatalogueTables) -> str:
    """Write the tables to a file, which appears whole or not at all; return the fingerprint of the tables."""
    tensors = tables.tensors()
    sizes = json.dumps(tables.codebook_sizes)
    build = content_fingerprint(tensors, (sizes, tables.fingerprint))
    metadata = {
        "format": INDEX_FORMAT,
        "codebook_sizes": sizes,
        "fingerprint": tables.fingerprint,
        "build": build,
        "replaces": json.dumps(replaced_builds(path)),
    }
    write_tensors(path, tensors, metadata)
    return build


def check_counts(item_ids: Sequence[str], codes: np.ndarray) -> None:
    """Refuse another number of SIDs than of item ids with a ValueError."""
    if len(item_ids) != len(codes):
        raise ValueError(f"{len(item_ids)} item ids, {len(codes)} SIDs: counts must agree")


__all__ = ["CatalogueTables", "IndexFile", "check_counts", "read_tables", "write_tables"]
