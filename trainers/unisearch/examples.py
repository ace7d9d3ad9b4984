"""Examples of the joint training: prompts of requests, whose histories show Semantic IDs that move, and the items that were chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import Dataset

from onesearch.tokenization_sid.ragged import Ragged
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer
from onesearch.views.item_inputs import ItemInputs
from onesearch.views.session_views import SessionViews

from .interactions import Interactions

if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNK = 4096
"""Sessions whose prompts are made at once."""


class JointExamples(Dataset):
    """One example per accepted interaction. A row of the dataset is only its number; `batch` makes the tensors.

    The data loader may be a batch ahead, and the Semantic IDs may change in between: a batch is therefore made when it is used, from the
    Semantic IDs of that moment.

    Args:
        views: views of the market's sessions.
        tokenizer: tokenizer for the codes.
        interactions: accepted interactions.
        inputs: inputs of the item encoder.

    Raises:
        ValueError: the prompts show what UniSearch does not have: SIDs of queries, default histories or a long view.
    """

    def __init__(self, views: SessionViews, tokenizer: SidTokenizer, interactions: Interactions, inputs: ItemInputs) -> None:
        layout = tokenizer.prompt
        if layout.needs_query_sids or layout.long_view_tokens:
            raise ValueError(
                "UniSearch encodes items alone, and its codebooks move: set sid and default_history to false and long_view_tokens to 0 in "
                "training.prompt"
            )
        self.views, self.tokenizer, self.interactions, self.inputs = views, tokenizer, interactions, inputs
        self.targets = np.zeros((0, 0), dtype=np.int64)
        self.prompts = Ragged.of([])
        self._sessions, self._prompt_of = np.unique(interactions.sessions, return_inverse=True)

    def __len__(self) -> int:
        return len(self.interactions.items)

    def __getitem__(self, row: int) -> int:
        return row

    def set_codes(self, codes: np.ndarray) -> None:
        """Make targets and histories from new codes (items, levels)."""
        self.views.item_sids = codes.astype(np.int64)
        self.targets = self.tokenizer.sids_to_ids(codes)
        parts = [
            self.tokenizer.encode_fields(self.views.fields(self._sessions[start : start + CHUNK]))
            for start in range(0, len(self._sessions), CHUNK)
        ]
        lengths = np.concatenate([part.lengths for part in parts])
        self.prompts = Ragged(np.concatenate([part.values for part in parts]), np.concatenate([[0], np.cumsum(lengths)]))

    def prompts_of(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """`input_ids` and `attention_mask` (n, length) of examples (n,)."""
        prompts = self.prompts.take(self._prompt_of[rows])
        padded = prompts.padded(int(self.tokenizer.pad_token_id)).astype(np.int64)
        return {"input_ids": padded, "attention_mask": (np.arange(padded.shape[1]) < prompts.lengths[:, None]).astype(np.int64)}

    def batch(self, rows: np.ndarray) -> dict[str, Any]:
        """Tensors of examples.

        Args:
            rows: (n,) examples.

        Returns:
            `input_ids` and `attention_mask` of the prompts, `labels` (n, levels), `items` (inputs of the item encoder), `item_rows` (n,),
            `weights` (n,) and `examples` (n,).
        """
        items = self.interactions.items[rows]
        arrays = {
            **self.prompts_of(rows),
            "labels": self.targets[items],
            "item_rows": items,
            "weights": self.interactions.weights[rows],
            "examples": rows,
        }
        tensors: dict[str, Any] = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        return {**tensors, "items": self.inputs.batch(items)}


def collate_rows(rows: Sequence[int]) -> dict[str, torch.Tensor]:
    """Numbers of the examples of a batch, as the data loader passes them on."""
    return {"rows": torch.tensor(list(rows))}


__all__ = ["CHUNK", "JointExamples", "collate_rows"]
