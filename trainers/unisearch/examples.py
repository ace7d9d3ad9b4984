"""Examples of the joint training: prompts of requests, whose histories show Semantic IDs that move, and the items that were chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from onesearch.data.made_queries import sampled_words
from onesearch.tokenization_sid.prompts import PromptFields
from onesearch.tokenization_sid.ragged import Ragged
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer
from onesearch.views.item_inputs import ItemInputs
from onesearch.views.session_views import SessionViews

from .interactions import Interactions

if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNK = 4096
"""Sessions whose prompts are made at once."""


class WordExamples(NamedTuple):
    """Examples without a user.

    Args:
        queries: words in place of a query.
        items: (examples,) row of the item that each belongs to.
    """

    queries: list[str]
    items: np.ndarray


class JointExamples(Dataset):
    """One example per accepted interaction. A row of the dataset is only its number; `batch` makes the tensors.

    The data loader may be a batch ahead, and the Semantic IDs may change in between: a batch is therefore made when it is used, from the
    Semantic IDs of that moment.

    Args:
        views: views of the market's sessions.
        tokenizer: tokenizer for the codes.
        interactions: accepted interactions.
        inputs: inputs of the item encoder.
        words: further examples, each a few words in place of a query; see `word_examples`.

    Raises:
        ValueError: the prompts show what UniSearch does not have: SIDs of queries, default histories or a long view.
    """

    def __init__(
        self,
        views: SessionViews,
        tokenizer: SidTokenizer,
        interactions: Interactions,
        inputs: ItemInputs,
        words: WordExamples | None = None,
    ) -> None:
        layout = tokenizer.prompt
        if layout.needs_query_encoder or layout.long_view_tokens or layout.has_vectors:
            raise ValueError(
                "UniSearch encodes items alone, and its codebooks move: set sid, query_vector and default_history to false and "
                "long_view_tokens to 0 in training.prompt"
            )
        self.views, self.tokenizer, self.interactions, self.inputs = views, tokenizer, interactions, inputs
        self.targets = np.zeros((0, 0), dtype=np.int64)
        self.prompts = Ragged.of([])
        words = words or WordExamples([], np.zeros(0, dtype=np.int64))
        self._sessions, prompt_of = np.unique(interactions.sessions, return_inverse=True)
        self._prompt_of = np.concatenate([prompt_of, len(self._sessions) + np.arange(len(words.items))])
        self._word_prompts = tokenizer.encode_fields(PromptFields(words.queries)) if words.queries else Ragged.of([])
        self.items = np.concatenate([interactions.items, words.items])
        self.weights = np.concatenate([interactions.weights, np.ones(len(words.items), dtype=np.float32)])

    def __len__(self) -> int:
        return len(self.items)

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
        parts.append(self._word_prompts)
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
        items = self.items[rows]
        arrays = {
            **self.prompts_of(rows),
            "labels": self.targets[items],
            "item_rows": items,
            "weights": self.weights[rows],
            "examples": rows,
        }
        tensors: dict[str, Any] = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        return {**tensors, "items": self.inputs.batch(items)}


def word_examples(texts: Sequence[str], copies: int, most: int, seed: int) -> WordExamples:
    """A few words of each item's text in place of a query, `copies` times.

    Args:
        texts: text of each item.
        copies: examples per item.
        most: largest number of words of an example; each has between 1 and this many.
        seed: seeds the draws.
    """
    random = np.random.default_rng(seed)
    known = [row for row, text in enumerate(texts) if text.strip()]
    queries = [sampled_words(texts[row], most, random) for _ in range(copies) for row in known]
    return WordExamples(queries, np.tile(np.array(known, dtype=np.int64), copies))


def collate_rows(rows: Sequence[int]) -> dict[str, torch.Tensor]:
    """Numbers of the examples of a batch, as the data loader passes them on."""
    return {"rows": torch.tensor(list(rows))}


__all__ = ["CHUNK", "JointExamples", "WordExamples", "collate_rows", "word_examples"]
