"""Items in, vectors and Semantic IDs out: UniSearch's item encoder over a catalogue or over new items."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from onesearch.data.market import Market
from onesearch.files import read_json
from onesearch.views.item_inputs import ItemInputs

if TYPE_CHECKING:
    from onesearch.modeling_onesearch.modeling_unisearch import UniSearchModel
    from onesearch.tokenization_sid.tokenization_sid import SidTokenizer

ROWS_AT_ONCE = 256
"""Number of items that are encoded at once."""


class EncodedItems(NamedTuple):
    """Encoded items.

    Attributes:
        codes: (items, levels) int64.
        vectors: (items, levels, dim) float32, d¹ … dᵏ.
    """

    codes: np.ndarray
    vectors: np.ndarray


def encode_items(model: UniSearchModel, inputs: ItemInputs, rows: np.ndarray | None = None) -> EncodedItems:
    """Encode items in evaluation mode; the model's own mode is restored afterwards.

    Args:
        model: backbone with item encoder and quantizer.
        inputs: inputs of the items.
        rows: rows of the items to encode; None encodes all.
    """
    import torch

    rows = np.arange(len(inputs)) if rows is None else rows
    order = rows[np.argsort(inputs.tokens.lengths[rows], kind="stable")]  # items of one length together: less padding
    device, was_training = model.query_head.weight.device, model.training
    levels, dim = model.config.sid_levels, int(model.query_head.weight.shape[0])
    codes = np.zeros((len(inputs), levels), dtype=np.int64)
    vectors = np.zeros((len(inputs), levels, dim), dtype=np.float32)
    model.eval()
    with torch.no_grad():
        for start in range(0, len(order), ROWS_AT_ONCE):
            part = order[start : start + ROWS_AT_ONCE]
            encoded = model.item_encoder(**inputs.batch(part, device)).float()
            codes[part] = model.quantizer(encoded).codes.cpu().numpy()
            vectors[part] = encoded.cpu().numpy()
    model.train(was_training)
    return EncodedItems(codes[rows], vectors[rows])


def encoder_fingerprint(model: UniSearchModel) -> str:
    """SHA-256 of all weights that decide an item's Semantic ID: those of the item encoder and of the quantizer."""
    state = hashlib.sha256()
    for name, tensor in sorted([*model.item_encoder.state_dict().items(), *model.quantizer.state_dict().items()]):
        state.update(f"{name} {tuple(tensor.shape)}\n".encode())
        state.update(tensor.detach().float().cpu().numpy().tobytes())
    return state.hexdigest()


@dataclass(frozen=True)
class FrozenItemEncoder:
    """Item encoder of a finished checkpoint, for new items; published Semantic IDs stay as they are.

    Args:
        model: backbone of the checkpoint.
        tokenizer: its tokenizer.
        codebook_sizes: number of codes of each level.
        fingerprint: fingerprint of its Semantic IDs.

    Example:
        >>> FrozenItemEncoder.load("runs/unisearch/checkpoint").encode(market).codes  # doctest: +SKIP
    """

    model: UniSearchModel
    tokenizer: SidTokenizer
    codebook_sizes: tuple[int, ...]
    fingerprint: str

    @classmethod
    def load(cls, checkpoint: str | Path) -> FrozenItemEncoder:
        """Load the item encoder of a checkpoint folder.

        Raises:
            ValueError: the checkpoint is no finished UniSearch.
        """
        from transformers import AutoTokenizer

        from onesearch.modeling_onesearch.modeling_unisearch import UniSearchForConditionalGeneration

        if not is_unisearch(Path(checkpoint)):
            raise ValueError(f"{checkpoint} is no checkpoint of UniSearch, whose item encoder makes Semantic IDs")
        model = UniSearchForConditionalGeneration.from_pretrained(checkpoint)
        config = model.config
        if config.sid_fingerprint is None:
            raise ValueError(f"{checkpoint} was saved while its Semantic IDs moved; use the checkpoint of a finished training")
        tokenizer: Any = AutoTokenizer.from_pretrained(checkpoint)
        return cls(model.model, tokenizer, tuple(config.sid_codebook_sizes), config.sid_fingerprint)

    def encode(self, market: Market) -> EncodedItems:
        """Encode the items of a market.

        Raises:
            ValueError: an item has another number of features than the encoder reads.
        """
        return encode_items(self.model, ItemInputs.of(market, self.tokenizer, self.model.config))


def is_unisearch(checkpoint: Path) -> bool:
    """Whether a folder holds a checkpoint of UniSearch."""
    path = checkpoint / "config.json"
    return path.is_file() and read_json(path).get("model_type") == "unisearch"


__all__ = ["FrozenItemEncoder", "ROWS_AT_ONCE", "EncodedItems", "encode_items", "encoder_fingerprint", "is_unisearch"]
