"""Collators: examples as numpy arrays in, padded tensors out. No Python list per token is built on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from onesearch.modeling_onesearch.modeling_onesearch import IGNORED

Example = dict[str, Any]
"""One row of a dataset: columns by name."""

LongViewLookup = Callable[[Sequence[Example]], np.ndarray]
"""Returns the codes (batch, sequences, items, levels) of the items in the examples' long sequences, -1 where there is no item."""


ViewLookup = Callable[[Sequence[Example]], dict[str, np.ndarray]]
"""Returns `history_items`, `history_vectors` and `query_vectors` of the examples; see `onesearch.views.session_views.ViewTensors`."""


class Padded(NamedTuple):
    """Rows of different lengths in one array.

    Args:
        values: (rows, longest) int64, padded on the right.
        filled: (rows, longest) bool, False where padded.
    """

    values: np.ndarray
    filled: np.ndarray


@dataclass
class Seq2SeqCollator:
    """Batches for an encoder-decoder: prompts and targets apart, both padded on the right.

    The decoder reads the targets shifted right behind its start token. `shift_labels` is the same tensor as `labels`: it tells TRL that the
    labels are already aligned with the decoder's positions and must not be shifted again.

    Args:
        pad_token_id: padding token of the model.
        decoder_start_token_id: first token that the decoder reads.
        long_view: looks up the examples' long sequences, for models with a long view.
        history: looks up the items of the examples' histories and the queries' vectors, for models that read vectors.
    """

    pad_token_id: int
    decoder_start_token_id: int
    long_view: LongViewLookup | None = None
    history: ViewLookup | None = None

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """Make a batch.

        Args:
            examples: rows with `input_ids` and `labels`, and optionally `teacher_input_ids`.

        Returns:
            `input_ids` and `attention_mask` (batch, source); `decoder_input_ids`, `labels` and `shift_labels` (batch, target);
            `long_view_codes` with a long view; `history_items` and `history_vectors` with histories as vectors; `query_vectors` with the
            query's vector; `teacher_input_ids` and
            `teacher_attention_mask` (batch, teacher's source) if the examples have them.
        """
        prompts = _padded([example["input_ids"] for example in examples], self.pad_token_id)
        targets = _padded([example["labels"] for example in examples], IGNORED)
        decoder_input_ids = np.full_like(targets.values, self.pad_token_id)
        decoder_input_ids[:, 0] = self.decoder_start_token_id
        decoder_input_ids[:, 1:] = np.where(targets.filled[:, 1:], targets.values[:, :-1], self.pad_token_id)
        arrays = {
            "input_ids": prompts.values,
            "attention_mask": prompts.filled.astype(np.int64),
            "decoder_input_ids": decoder_input_ids,
            "labels": targets.values,
        }
        if "teacher_input_ids" in examples[0]:
            teacher = _padded([example["teacher_input_ids"] for example in examples], self.pad_token_id)
            arrays["teacher_input_ids"] = teacher.values
            arrays["teacher_attention_mask"] = teacher.filled.astype(np.int64)
        batch = _tensors(arrays, self.long_view, self.history, examples)
        batch["shift_labels"] = batch["labels"]
        return batch


@dataclass
class CausalCollator:
    """Batches for a decoder-only model: each target behind its prompt, padded on the right; the prompt does not count in the loss.

    `labels` are the inputs with -100 on prompt and padding; the model's `forward` shifts them. `shift_labels` are shifted already: the
    entry at a position is the token that the position predicts. TRL counts and scores the latter.

    Args:
        pad_token_id: padding token of the model.
        long_view: looks up the examples' long sequences, for models with a long view.
        history: looks up the items of the examples' histories and the queries' vectors, for models that read vectors.
    """

    pad_token_id: int
    long_view: LongViewLookup | None = None
    history: ViewLookup | None = None

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """Make a batch.

        Args:
            examples: rows with `input_ids` and `labels`, and optionally `teacher_input_ids`.

        Returns:
            `input_ids`, `attention_mask`, `labels` and `shift_labels`, each (batch, prompt + target); `long_view_codes` with a long view;
            `teacher_input_ids`, `teacher_attention_mask` and `teacher_shift_labels` (batch, teacher's prompt + target) if the examples have
            prompts for a teacher.
        """
        targets = [example["labels"] for example in examples]
        arrays = self._sequences([example["input_ids"] for example in examples], targets)
        if "teacher_input_ids" in examples[0]:
            teacher = self._sequences([example["teacher_input_ids"] for example in examples], targets)
            for name in ("input_ids", "attention_mask", "shift_labels"):
                arrays[f"teacher_{name}"] = teacher[name]
        return _tensors(arrays, self.long_view, self.history, examples)

    def _sequences(self, prompts: Sequence[Any], targets: Sequence[Any]) -> dict[str, np.ndarray]:
        parts: list[Any] = []
        for pair in zip(prompts, targets):
            parts += pair
        input_ids, is_token = _padded(parts, self.pad_token_id, per_row=2)
        starts = np.array([len(prompt) for prompt in prompts])[:, None]  # of the targets
        is_target = is_token & (np.arange(input_ids.shape[1]) >= starts)
        labels = np.where(is_target, input_ids, IGNORED)
        shifted = np.full_like(labels, IGNORED)
        shifted[:, :-1] = labels[:, 1:]
        return {
            "input_ids": input_ids,
            "attention_mask": is_token.astype(np.int64),
            "labels": labels,
            "shift_labels": shifted,
        }


def _tensors(
    arrays: dict[str, np.ndarray],
    long_view: LongViewLookup | None,
    history: ViewLookup | None,
    examples: Sequence[Example],
) -> dict[str, torch.Tensor]:
    if history is not None:
        arrays = {**arrays, **history(examples)}
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


def _padded(parts: Sequence[Any], fill: int, per_row: int = 1) -> Padded:
    """Sequences of token ids as rows of one array: `per_row` sequences make a row, which is padded with `fill`."""
    counts = np.array([len(part) for part in parts])
    if len(counts) and counts.min() == 0:
        raise ValueError(
            "an example has an empty prompt or an empty target: an empty target would train at loss 0; leave such rows out"
        )
    lengths = counts.reshape(-1, per_row).sum(1)
    filled = np.arange(lengths.max(initial=1)) < lengths[:, None]
    values = np.full(filled.shape, fill, dtype=np.int64)
    values[filled] = np.concatenate(parts)
    return Padded(values, filled)


__all__ = ["IGNORED", "CausalCollator", "Example", "ViewLookup", "LongViewLookup", "Seq2SeqCollator"]
