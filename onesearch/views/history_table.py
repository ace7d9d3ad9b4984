"""What is known of the items of histories as vectors, and the tensors that the model reads of them.

One implementation for training (`session_views.py`) and for serving (`request_views.py`). A checkpoint keeps the items in the folder
``history/``: the files of `reward/item_files.py`, ``history.json`` with the kinds of the facets, and ``encoder/``, the text encoder. Items
that are added to the catalogue later are added there, too, without any training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from onesearch.files import atomic_files, read_json, write_json
from onesearch.modeling_onesearch.history_fields_onesearch import FIRST_FACET, NO_ITEM
from onesearch.tokenization_sid.ragged import Ragged
from onesearch.tokenization_sid.templates import PromptLayout

from .reward.inputs import UNKNOWN_GAP
from .reward.item_files import KnownItems, items_name, load_items, save_items

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

FOLDER_NAME = "history"
"""Folder of a checkpoint with the items of histories as vectors."""

SETTINGS_NAME = "history.json"

REMEDY = "copy the checkpoint again, or train again with `onesearch train`"


class HistoryEvents(NamedTuple):
    """Events of n histories, oldest first.

    Attributes:
        rows: row of each item in the table, -1 for an item that it does not know, n rows.
        codes: codes of its Semantic ID, int64 ``(events, levels)``.
        kinds: number of the event's kind in `EVENT_KINDS`, ``(events,)``.
        gaps: bucket of the time since the event, 0 if unknown, ``(events,)``.
    """

    rows: Ragged
    codes: np.ndarray
    kinds: np.ndarray
    gaps: np.ndarray


@dataclass(frozen=True, eq=False)
class HistoryTable:
    """Inputs of items by row.

    Args:
        known: the items.
        layout: layout of the prompts, which says what is read of an item.
    """

    known: KnownItems
    layout: PromptLayout

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Row of each item id."""
        return {item_id: row for row, item_id in enumerate(self.known.item_ids)}

    def rows(self, item_ids: Sequence[str]) -> np.ndarray:
        """Row of each item, -1 for an unknown one, int64 ``(items,)``."""
        return np.array([self.row_of.get(item_id, -1) for item_id in item_ids], dtype=np.int64)

    @cached_property
    def _facets(self) -> np.ndarray:
        """Facets of each item, `NO_ITEM` behind the last, and a row of none behind the last item, int32 ``(items + 1, facets)``."""
        padded = self.known.table.facets.of_items.padded(NO_ITEM).astype(np.int32)
        return np.concatenate([padded, np.full((1, padded.shape[1]), NO_ITEM, dtype=np.int32)])

    @cached_property
    def _vectors(self) -> np.ndarray:
        vectors = self.known.table.vectors
        return np.concatenate([vectors, np.zeros((1, vectors.shape[1]), vectors.dtype)])

    @cached_property
    def _ids(self) -> np.ndarray:
        return np.append(self.known.table.ids, 0)

    def arrays(self, events: HistoryEvents) -> dict[str, np.ndarray]:
        """Arguments `history_items` and `history_vectors` of the model; see `OneSearchForConditionalGeneration.forward`.

        Args:
            events: events of n histories.

        Returns:
            int64 ``(n, longest, levels + 3 + facets)`` and, if the layout has text vectors, float32 ``(n, longest, size)``.
        """
        reads, rows = self.layout.item_inputs, events.rows.values
        levels, count = events.codes.shape[1], len(events.rows.values)
        facets = self._facets[rows] if "facets" in reads else np.empty((count, 0), dtype=np.int32)
        columns = np.empty((count, levels + FIRST_FACET + facets.shape[1]), dtype=np.int64)
        columns[:, :levels] = events.codes
        columns[:, levels] = events.kinds if "kind" in reads else NO_ITEM
        columns[:, levels + 1] = events.gaps if "age" in reads else UNKNOWN_GAP
        columns[:, levels + 2] = self._ids[rows]
        columns[:, levels + FIRST_FACET :] = facets
        items = Ragged(columns, events.rows.offsets).padded(NO_ITEM)
        is_padding = items[..., 0] < 0
        items[..., levels + 1 : levels + FIRST_FACET][is_padding] = 0
        arrays = {"history_items": items}
        if "text" in reads:
            vectors = Ragged(self._vectors[rows], events.rows.offsets).padded(0)
            arrays["history_vectors"] = vectors.astype(np.float32, copy=False)
        return arrays

    def model_fields(self) -> dict[str, Any]:
        """Sizes of the model's configuration (`HistoryFields`), without the placeholders.

        Raises:
            ValueError: `item_summaries` names a kind that no item has.
        """
        layout, table = self.layout, self.known.table
        has_facets = "facets" in layout.item_inputs
        return {
            "history_places": layout.items,
            "history_vector_size": table.vectors.shape[1] if "text" in layout.item_inputs else 0,
            "history_facets": len(table.facets.kind_of) if has_facets else 0,
            "history_ids": int(table.ids.max(initial=0)),
            "history_summaries": [end for kind in layout.item_summaries for end in self._range(kind)],
        }

    def _range(self, kind: str) -> tuple[int, int]:
        """First facet of a kind and the one after the last."""
        facets = self.known.table.facets
        if kind not in facets.kinds:
            raise ValueError(
                f"item_summaries names {kind!r}; the items of this market have facets of {', '.join(facets.kinds)}"
            )
        own = np.flatnonzero(facets.kind_of == facets.kinds.index(kind))
        return int(own[0]), int(own[-1]) + 1

    def save(self, folder: Path, encoder: SentenceTransformer | None) -> None:
        """Write the folder ``history/`` of a checkpoint.

        Args:
            folder: the folder.
            encoder: text encoder that made the items' vectors; None without text vectors.
        """
        save_items(self.known, folder, FOLDER_NAME)
        write_json(folder / SETTINGS_NAME, {"kinds": list(self.known.table.facets.kinds)})
        if encoder is not None:
            encoder.save(str(folder / "encoder"), create_model_card=False)

    @classmethod
    def load(cls, folder: Path, layout: PromptLayout) -> HistoryTable:
        """Read the folder ``history/`` of a checkpoint.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged.
        """
        return cls(_load(folder), layout)


def _load(folder: Path) -> KnownItems:
    if not (folder / SETTINGS_NAME).is_file():
        raise FileNotFoundError(f"{folder} holds no items of histories (no {SETTINGS_NAME}); {REMEDY}")
    return load_items(folder, FOLDER_NAME, read_json(folder / SETTINGS_NAME)["kinds"], REMEDY)


def add_items(folder: Path, items: pa.Table, texts: Sequence[str], codes: np.ndarray) -> int:
    """Let the histories of a checkpoint know further items, without any training. The files are replaced whole or not at all.

    Args:
        folder: folder ``history/`` of a checkpoint.
        items: rows with the columns of the items table.
        texts: text of each item, for its vector; an empty one gives zeros.
        codes: codes of its Semantic ID, int64 ``(items, levels)``.

    Returns:
        the number of items that were added.

    Raises:
        FileNotFoundError: the folder holds no items of histories.
        ValueError: a file is damaged.
    """
    known = _load(folder)
    encoder = folder / "encoder"
    wider = known.with_items(items, texts, codes, encoder if encoder.is_dir() else None)
    added = len(wider.item_ids) - len(known.item_ids)
    if added:
        with atomic_files(folder, last=items_name(FOLDER_NAME)) as temporary:
            save_items(wider, temporary, FOLDER_NAME)
    return added


__all__ = ["FOLDER_NAME", "SETTINGS_NAME", "HistoryEvents", "HistoryTable", "add_items"]
