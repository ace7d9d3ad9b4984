"""Batches for encoder-decoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from onesearch.modeling_onesearch.modeling_onesearch import IGNORED


@dataclass
class Seq2SeqCollator:
    """Pads prompts and targets on the right and shifts the targets behind the decoder's start token.

    `shift_labels` repeats `labels`: TRL takes it as "already aligned with the decoder's positions" and does not shift again.

    Args:
        pad_token_id, decoder_start_token_id: of the model.
    """

    pad_token_id: int
    decoder_start_token_id: int

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """`input_ids` (batch, source), `labels` (batch, target) and what follows from them."""
        input_ids, is_token = _padded([example["input_ids"] for example in examples], self.pad_token_id)
        labels, is_target = _padded([example["labels"] for example in examples], IGNORED)
        decoder_input_ids = np.full_like(labels, self.pad_token_id)
        decoder_input_ids[:, 0] = self.decoder_start_token_id
        decoder_input_ids[:, 1:][is_target[:, 1:]] = labels[:, :-1][is_target[:, 1:]]
        arrays = {
            "input_ids": input_ids,
            "attention_mask": is_token.astype(np.int64),
            "decoder_input_ids": decoder_input_ids,
            "labels": labels,
        }
        batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
        batch["shift_labels"] = batch["labels"]
        return batch


def _padded(sequences: Sequence[Sequence[int]], fill: int) -> tuple[np.ndarray, np.ndarray]:
    """Ragged lists as (rows, longest) int64, and where they hold values."""
    lengths = np.array([len(sequence) for sequence in sequences])
    filled = np.arange(lengths.max(initial=1)) < lengths[:, None]
    padded = np.full(filled.shape, fill, dtype=np.int64)
    padded[filled] = np.concatenate([np.asarray(sequence, dtype=np.int64) for sequence in sequences])
    return padded, filled
