"""Files of what is known of a catalogue's items (`ItemTable`), and further items in them, without any training.

The reward model and histories as vectors each have such files, under names of their own (`prefix`):
``<prefix>_items.safetensors`` holds vectors, codes, facets, numbers of own embeddings and edges of
price bands; ``<prefix>_items.parquet`` the ids of the items;
``<prefix>_facets.parquet`` the texts of the facets. The names of the facets' kinds are kept by the caller.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from onesearch.parquet_files import read_table, write_table
from onesearch.tokenization_sid.embedding.bands import CategoryBands
from onesearch.tokenization_sid.ragged import Ragged
from onesearch.tokenization_sid.tensor_files import read_tensors, write_tensors

from .facets import ItemFacets
from .inputs import ItemTable

ITEMS_FORMAT = "onesearch-reward-items/1"


class KnownItems(NamedTuple):
    """Items with their ids, by row."""

    item_ids: list[str]
    table: ItemTable

    def with_items(self, items: pa.Table, texts: Sequence[str], codes: np.ndarray, encoder: Path | None) -> KnownItems:
        """These items and further ones behind them; items that are known already stay as they are.

        A further item is what is known of it: its text vector, its codes and its facets. It has no embedding of its own.

        Args:
            items: rows with the columns of the items table.
            texts: text of each item, for its vector; an empty one gives zeros.
            codes: codes of its Semantic ID, int64 ``(items, levels)``.
            encoder: folder of the text encoder; None gives zeros to all.
        """
        known = set(self.item_ids)
        new = np.array([item_id not in known for item_id in items.column("item_id").to_pylist()], dtype=bool)
        fresh, words = items.filter(pa.array(new)), [text for text, is_new in zip(texts, new) if is_new]
        table = self.table
        wider = ItemTable(
            np.concatenate([table.vectors, _vectors(words, table.vectors.shape[1], encoder)]),
            np.concatenate([table.codes, codes[new].astype(np.int64)]),
            table.facets.with_items(fresh),
            np.concatenate([table.ids, np.zeros(len(fresh), dtype=np.int64)]),
        )
        return KnownItems([*self.item_ids, *fresh.column("item_id").to_pylist()], wider)


def _vectors(texts: Sequence[str], size: int, encoder: Path | None) -> np.ndarray:
    """Unit vectors float32 ``(texts, size)``; zeros for empty texts."""
    from onesearch.tokenization_sid.embedding.text_encoder import embed_texts

    vectors = np.zeros((len(texts), size), dtype=np.float32)
    said = [place for place, text in enumerate(texts) if text.strip()]
    if said and encoder is not None:
        from sentence_transformers import SentenceTransformer

        vectors[said] = embed_texts(SentenceTransformer(str(encoder), device="cpu"), [texts[place] for place in said])
    return vectors


def items_name(prefix: str) -> str:
    """Name of the file with the tensors."""
    return f"{prefix}_items.safetensors"


def save_items(items: KnownItems, folder: Path, prefix: str) -> None:
    """Write the three files into a folder."""
    table, facets = items.table, items.table.facets
    arrays = {
        "vectors": table.vectors,
        "codes": table.codes,
        "ids": table.ids,
        "leaf": facets.leaf,
        "facets": facets.of_items.values,
        "facet_offsets": facets.of_items.offsets,
        "kind_of": facets.kind_of,
    }
    metadata = {"format": ITEMS_FORMAT, "prices": json.dumps(facets.prices.to_list())}
    write_tensors(folder / items_name(prefix), arrays, metadata)
    write_table(pa.table({"item_id": pa.array(items.item_ids, pa.string())}), folder / f"{prefix}_items.parquet")
    write_table(pa.table({"value": pa.array(facets.values, pa.string())}), folder / f"{prefix}_facets.parquet")


def load_items(folder: Path, prefix: str, kinds: Sequence[str], remedy: str) -> KnownItems:
    """Read the three files.

    Args:
        folder: folder that `save_items` wrote to.
        prefix: first part of the files' names.
        kinds: name of each kind of facets.
        remedy: advice in errors.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged.
    """
    metadata, items = read_tensors(folder / items_name(prefix), ITEMS_FORMAT, remedy)
    prices = CategoryBands.from_list(json.loads(metadata.get("prices", "[]")))
    values = tuple(read_table(folder / f"{prefix}_facets.parquet", remedy).column("value").to_pylist())
    of_items = Ragged(items["facets"], items["facet_offsets"])
    facets = ItemFacets(tuple(kinds), items["kind_of"], of_items, items["leaf"], values, prices)
    table = ItemTable(items["vectors"], items["codes"], facets, items["ids"])
    return KnownItems(read_table(folder / f"{prefix}_items.parquet", remedy).column("item_id").to_pylist(), table)


__all__ = ["KnownItems", "items_name", "load_items", "save_items"]
