"""Batches: rows of numpy arrays in, padded tensors out. No Python list per token is built on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from onesearch.modeling_onesearch.modeling_onesearch import IGNORED

LongViewLookup = Callable[[Sequence[dict[str, Any]]], np.ndarray]
"""Codes (batch, sequences, items, levels) of the items in the examples' long sequences."""


@dataclass
class Seq2SeqCollator:
    """Pads prompts and targets on the right and shifts the targets behind the decoder's start token.

    `shift_labels` repeats `labels`: TRL takes it as "already aligned with the decoder's positions" and does not shift again.

    Args:
        pad_token_id, decoder_start_token_id: of the model.
        long_view: makes the batch's `long_view_codes` of the examples; see [`LongViewLookup`].
    """

    pad_token_id: int
    decoder_start_token_id: int
    long_view: LongViewLookup | None = None

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """`input_ids` (batch, source), `labels` (batch, target) and what follows from them; the teacher's prompts where examples have
        `teacher_input_ids`."""
        input_ids, is_token = _padded([example["input_ids"] for example in examples], self.pad_token_id)
        labels, is_target = _padded([example["labels"] for example in examples], IGNORED)
        decoder_input_ids = np.full_like(labels, self.pad_token_id)
        decoder_input_ids[:, 0] = self.decoder_start_token_id
        decoder_input_ids[:, 1:] = np.where(is_target[:, 1:], labels[:, :-1], self.pad_token_id)
        arrays = {
            "input_ids": input_ids,
            "attention_mask": is_token.astype(np.int64),
            "decoder_input_ids": decoder_input_ids,
            "labels": labels,
        }
        if "teacher_input_ids" in examples[0]:
            prompts, is_token = _padded([example["teacher_input_ids"] for example in examples], self.pad_token_id)
            arrays |= {"teacher_input_ids": prompts, "teacher_attention_mask": is_token.astype(np.int64)}
        batch = _tensors(arrays, self.long_view, examples)
        batch["shift_labels"] = batch["labels"]
        return batch


@dataclass
class CausalCollator:
    """Sets each target behind its prompt, pads on the right and hides the prompt from the loss.

    `labels` are the inputs with -100 on prompt and padding, which `forward` shifts itself; `shift_labels` are the same, shifted: the
    entry at a position is what it predicts. TRL counts and scores the latter.

    Args:
        pad_token_id: of the model.
        long_view: makes the batch's `long_view_codes` of the examples; see [`LongViewLookup`].
    """

    pad_token_id: int
    long_view: LongViewLookup | None = None

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """`input_ids`, `labels` and `shift_labels`, each (batch, prompt + target); the teacher's, with the same targets, where examples
        have `teacher_input_ids`."""
        targets = [example["labels"] for example in examples]
        arrays = self._sequences([example["input_ids"] for example in examples], targets)
        if "teacher_input_ids" in examples[0]:
            teacher = self._sequences([example["teacher_input_ids"] for example in examples], targets)
            names = ("input_ids", "attention_mask", "shift_labels")
            arrays |= {f"teacher_{name}": teacher[name] for name in names}
        return _tensors(arrays, self.long_view, examples)

    def _sequences(self, prompts: Sequence[Any], targets: Sequence[Any]) -> dict[str, np.ndarray]:
        rows = [part for pair in zip(prompts, targets) for part in pair]
        lengths = np.array([len(part) for part in rows]).reshape(-1, 2)
        input_ids, is_token = _fill(rows, lengths.sum(1), self.pad_token_id)
        is_target = is_token & (np.arange(input_ids.shape[1]) >= lengths[:, :1])
        labels = np.where(is_target, input_ids, IGNORED)
        shifted = np.full_like(labels, IGNORED)
        shifted[:, :-1] = labels[:, 1:]
        names = ("input_ids", "attention_mask", "labels", "shift_labels")
        return dict(zip(names, (input_ids, is_token.astype(np.int64), labels, shifted)))


def _tensors(
    arrays: dict[str, np.ndarray], long_view: LongViewLookup | None, examples: Sequence[dict[str, Any]]
) -> dict[str, torch.Tensor]:
    batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if long_view is not None:
        codes = np.ascontiguousarray(long_view(examples), dtype=np.int64)
        if codes.ndim != 4 or len(codes) != len(examples):
            raise ValueError(
                f"long_view returned codes of shape {codes.shape} for {len(examples)} examples; "
                "expected (batch, sequences, items, levels)"
            )
        batch["long_view_codes"] = torch.from_numpy(codes)
    return batch


def _padded(sequences: Sequence[Sequence[int]], fill: int) -> tuple[np.ndarray, np.ndarray]:
    """Ragged rows as (rows, longest) int64, and where they hold values."""
    return _fill(sequences, np.array([len(sequence) for sequence in sequences]), fill)


def _fill(parts: Sequence[Sequence[int]], lengths: np.ndarray, fill: int) -> tuple[np.ndarray, np.ndarray]:
    """The parts, one behind the other, as rows of these lengths."""
    filled = np.arange(lengths.max(initial=1)) < lengths[:, None]
    padded = np.full(filled.shape, fill, dtype=np.int64)
    padded[filled] = np.concatenate(parts)
    return padded, filled
