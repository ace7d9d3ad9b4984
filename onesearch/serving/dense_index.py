"""The dense index of a checkpoint: a vector of each item, and the encoder that puts a query among them.

Its cosines are a term of the hits' score, s = log p(SID) + γ cos(h, e), and its nearest items can join those of the beams, as in LIGER
(arXiv 2411.18814) and COBRA (arXiv 2503.02453). h is the text vector of the query or, once it was trained
(`onesearch.trainers.dense`), this vector plus a projection of the generator's own states of the prompt, so that the history counts too.

The folder ``dense/`` holds ``dense_items.safetensors`` (vectors, ids, and the projection if there is one) and ``encoder/``, a
sentence-transformers folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onesearch.data.market import Market
from onesearch.files import RunFolder, atomic_folder
from onesearch.modeling_onesearch.columns_onesearch import strings_from_arrays, strings_to_arrays
from onesearch.tokenization_sid.embedding.pretrained import load_encoder_named
from onesearch.tokenization_sid.embedding.text_encoder import embed_texts, unit_rows
from onesearch.tokenization_sid.tensor_files import read_tensors, write_tensors

from .best_items import Keep, best_items

if TYPE_CHECKING:
    from .loading import OneSearchModel

FOLDER_NAME = "dense"
"""Folder of the dense index in a checkpoint."""

ITEMS_NAME = "dense_items.safetensors"

FORMAT = "onesearch-dense/1"

REMEDY = "copy the checkpoint again, or make the index again with `onesearch dense`"


@dataclass(frozen=True, eq=False)
class DenseIndex:
    """Vectors of items, and what makes those of queries.

    An item of the catalogue without a vector here counts as one that the query does not fit (cosine 0); one here that left the catalogue is
    never found.

    Args:
        item_ids: ids of the items.
        vectors: their unit vectors, float32 ``(items, size)``; zeros where nothing is known of an item.
        encoder: text encoder: a folder or name as `load_encoder_named` takes it.
        projection: makes of a prompt's states what is added to the query's vector, float32 ``(size, width of the states)``; None adds
            nothing, so that the generator's states are not needed.
    """

    item_ids: tuple[str, ...]
    vectors: np.ndarray
    encoder: str
    projection: np.ndarray | None = None

    @classmethod
    def of_run(cls, run: RunFolder) -> DenseIndex:
        """The index of a run's items with the vectors of its text encoder.

        Raises:
            FileNotFoundError: the run has no market or no embeddings.
        """
        from onesearch.tokenization_sid.embedding.embeddings import encoder_name, load_embeddings

        items = Market.load(run.require("market", "onesearch data")).items.data.column("item_id").to_pylist()
        return cls(tuple(items), unit_rows(load_embeddings(run, "items")), encoder_name(run))

    def queries(self, texts: Sequence[str], states: np.ndarray | None = None) -> np.ndarray:
        """Unit vectors of queries, float32 ``(queries, size)``.

        Args:
            texts: the queries.
            states: `prompt_states` of their prompts, ``(queries, width)``; needed where there is a projection.
        """
        vectors = self._embed(list(texts))
        if self.projection is None:
            return vectors
        if states is None:
            raise ValueError("this dense index has a projection: give the states of the prompts")
        return unit_rows(vectors + unit_rows(states) @ self.projection.T)

    def cosines(self, query: np.ndarray, item_ids: Sequence[str]) -> np.ndarray:
        """Cosines of a query's vector ``(size,)`` with items, float64 ``(items,)``; 0 for an item without a vector here."""
        rows = np.array([self._row_of.get(item_id, -1) for item_id in item_ids], dtype=np.int64)
        return np.where(rows >= 0, self.vectors[rows] @ query, 0.0).astype(np.float64)

    def search(self, query: np.ndarray, count: int, keep: Keep | None = None) -> list[str]:
        """Ids of the `count` items nearest to a query's vector ``(size,)``, best first; `keep` says which may be found."""
        if not query.any():
            return []
        scores = self.vectors @ query
        return [item_id for item_id, _ in best_items(scores, len(scores), self.item_ids, count, keep)]

    def with_items(self, item_ids: Sequence[str], texts: Sequence[str]) -> DenseIndex:
        """An index with further items; one that is here already stays as it is. `save_items` writes it.

        Args:
            item_ids: the items.
            texts: what the encoder reads of each; an empty text gives zeros.
        """
        known = self._row_of
        new = {item_id: text for item_id, text in zip(item_ids, texts) if item_id not in known}
        if not new:
            return self
        vectors = np.zeros((len(new), self.vectors.shape[1]), dtype=np.float32)
        said = [place for place, text in enumerate(new.values()) if text.strip()]
        if said:
            vectors[said] = self._embed([list(new.values())[place] for place in said])
        return replace(self, item_ids=(*self.item_ids, *new), vectors=np.concatenate([self.vectors, vectors]))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the index with its encoder into `folder`, which appears whole or not at all."""
        encoder = load_encoder_named(self.encoder, device="cpu")  # first: it may lie in the folder that is replaced
        with atomic_folder(Path(folder), replaces=[ITEMS_NAME]) as temporary:
            self.save_items(temporary)
            encoder.save(str(temporary / "encoder"), create_model_card=False)

    def save_items(self, folder: str | Path) -> None:
        """Write vectors, ids and projection into a folder that has the encoder, whole or not at all."""
        arrays = {"vectors": self.vectors, **strings_to_arrays("items", list(self.item_ids))}
        if self.projection is not None:
            arrays["projection"] = self.projection
        write_tensors(Path(folder) / ITEMS_NAME, arrays, {"format": FORMAT})

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> DenseIndex:
        """Read the folder that `save_pretrained` wrote; the encoder is loaded at first use.

        Raises:
            FileNotFoundError: the folder has no dense index.
            ValueError: a file is damaged.
        """
        tensors = read_tensors(Path(folder) / ITEMS_NAME, FORMAT, REMEDY).tensors
        item_ids = tuple(strings_from_arrays("items", tensors))
        return cls(item_ids, tensors["vectors"], str(Path(folder) / "encoder"), tensors.get("projection"))

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {item_id: row for row, item_id in enumerate(self.item_ids)}

    @cached_property
    def _embed(self) -> Callable[[list[str]], np.ndarray]:
        """Makes unit vectors of texts."""
        from onesearch.tokenization_sid.embedding.static_encoder import StaticVectors

        encoder = load_encoder_named(self.encoder, device="cpu")
        return StaticVectors.of(encoder) or partial(embed_texts, encoder)


def prompt_states(model: OneSearchModel, inputs: dict[str, Any]) -> np.ndarray:
    """Mean state of each prompt: of the encoder, or of a decoder-only model, float32 ``(prompts, width)``.

    Args:
        model: the generator.
        inputs: its inputs, as `Searcher.model_inputs` makes them.
    """
    import torch

    mask = inputs["attention_mask"][..., None]  # (prompts, length, 1)
    reader = model.get_encoder() if model.config.is_encoder_decoder else model.model
    with torch.inference_mode():
        hidden = reader(**inputs).last_hidden_state.float()
        return ((hidden * mask).sum(1) / mask.sum(1)).cpu().numpy()


__all__ = ["FOLDER_NAME", "ITEMS_NAME", "DenseIndex", "prompt_states"]
