"""Histories of training prompts with parts left out, so that a model does not learn whole histories by heart. Our addition.

The parts are left out of the batch itself: the prompt looks as if the user had never had these items, which is what a search
shows of such a user. What is drawn depends on the seed, the optimiser step, the batch within it and the process alone, so a
resumed training goes on alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from onesearch.modeling_onesearch.history_fields_onesearch import NO_ITEM
from onesearch.modeling_onesearch.scores_onesearch import IGNORED

TOKEN_COLUMNS = ("input_ids", "attention_mask", "labels", "shift_labels")
"""Entries of a batch that may have one value per token of the prompt."""

DRAWS = 23
"""Number that separates these draws from others of the same seed."""


@dataclass(frozen=True)
class HistoryDropout:
    """Leaves parts of histories out of batches.

    Args:
        config: configuration of the model, which says how items stand in a prompt.
        end_token_id: token that closes each group of a prompt.
        whole: probability that a prompt shows no history at all.
        items: probability of each single item to be left out.
        cuts: probability that a history is cut to a random run of successive items: its length is drawn uniformly from 1 to the number of
            items, then its begin.
        seed: seeds the draws.
    """

    config: Any
    end_token_id: int
    whole: float = 0.0
    items: float = 0.0
    cuts: float = 0.0
    seed: int = 0

    def __bool__(self) -> bool:
        return max(self.whole, self.items, self.cuts) > 0

    def __call__(self, batch: dict[str, Any], *place: int) -> dict[str, Any]:
        """The batch with parts of its histories left out.

        Args:
            batch: batch of a collator, prompts padded on the right.
            place: numbers that the draws depend on besides the seed, such as the step.
        """
        ids = batch["input_ids"].cpu().numpy()
        mask = batch["attention_mask"].cpu().numpy().astype(bool)
        group, is_item = self._groups_and_items(ids, mask, batch)
        per_item = 1 if self.config.history_places else len(self.config.sid_codebook_sizes)
        number = (np.cumsum(is_item, axis=1) - 1) // per_item  # which item of its row a token belongs to
        kept = self._kept(is_item.sum(1) // per_item, np.random.default_rng([self.seed, DRAWS, *place]))
        kept_tokens = mask & (~is_item | np.take_along_axis(kept, np.maximum(number, 0), axis=1))
        # A history without items has neither label, summaries nor end token: its whole group goes.
        own_group = np.where(is_item, group, -1).max(1)
        empty = (own_group >= 0) & ~kept.any(1)
        kept_tokens &= ~(empty[:, None] & (group == own_group[:, None]))
        return self._without(batch, kept_tokens, kept)

    def _groups_and_items(self, ids: np.ndarray, mask: np.ndarray, batch: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Number of each token's group, and whether it belongs to an item of the history, both ``(batch, length)``.

        A begin token that is an end token, as Qwen's, closes no group. The SID of a query stands in the first group, and the target of a
        decoder-only model behind the last one; neither belongs to the history.
        """
        is_end = (ids == self.end_token_id) & mask
        is_end[:, 0] = False
        group = np.cumsum(is_end, axis=1) - is_end
        if self.config.history_places:
            return group, (ids == self.config.history_token_id) & mask
        first = self.config.sid_offset
        is_sid = (ids >= first) & (ids < first + sum(self.config.sid_codebook_sizes))
        is_prompt = mask if self.config.is_encoder_decoder else batch["labels"].cpu().numpy() == IGNORED
        return group, is_sid & (group > 0) & is_prompt

    def _kept(self, counts: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Whether each item of each history is kept, ``(batch, most items)``; False behind the last item."""
        rows, most = len(counts), max(int(counts.max(initial=0)), 1)
        draws = random.random((rows, 4))
        place = np.arange(most)
        length = np.where(draws[:, 0] < self.cuts, 1 + np.floor(draws[:, 1] * counts), counts)
        begin = np.floor(draws[:, 2] * (counts - length + 1))
        kept = (place >= begin[:, None]) & (place < (begin + length)[:, None]) & (place < counts[:, None])
        kept &= random.random((rows, most)) >= self.items
        return kept & (draws[:, 3] >= self.whole)[:, None]

    def _without(self, batch: dict[str, Any], tokens: np.ndarray, items: np.ndarray) -> dict[str, Any]:
        """The batch with these tokens and items alone, moved together to the left."""
        device, shape = batch["input_ids"].device, batch["input_ids"].shape
        fill = {"input_ids": self.config.pad_token_id, "attention_mask": 0}
        rows = {name: batch[name] for name in TOKEN_COLUMNS if name in batch and batch[name].shape == shape}
        if self.config.is_encoder_decoder:  # the targets stand in a sequence of their own
            rows = {name: rows[name] for name in fill}
        chosen = torch.from_numpy(tokens).to(device)
        moved = {name: _packed(values, chosen, fill.get(name, IGNORED)) for name, values in rows.items()}
        if "shift_labels" in moved:  # the first target is predicted at another token where the end of a prompt is left out
            moved["shift_labels"] = torch.full_like(moved["labels"], IGNORED)
            moved["shift_labels"][:, :-1] = moved["labels"][:, 1:]
        result = {**batch, **moved}
        if "history_items" in batch:
            own = torch.from_numpy(items[:, : batch["history_items"].shape[1]]).to(device)
            result["history_items"] = _packed(batch["history_items"], own, NO_ITEM)
            levels = len(self.config.sid_codebook_sizes)
            padding = result["history_items"][..., :1] < 0
            result["history_items"][..., levels + 1 : levels + 3].masked_fill_(padding, 0)  # gap and own embedding: unknown
            if "history_vectors" in batch:
                result["history_vectors"] = _packed(batch["history_vectors"], own, 0)
        return result


def _packed(values: torch.Tensor, chosen: torch.Tensor, fill: int) -> torch.Tensor:
    """The chosen entries of each row, moved to the left: (rows, longest, …) → (rows, most chosen entries, …)."""
    lengths = chosen.sum(1)
    there = torch.arange(max(int(lengths.max()), 1), device=values.device) < lengths[:, None]
    packed = values.new_full((*there.shape, *values.shape[2:]), fill)
    packed[there] = values[chosen]
    return packed


__all__ = ["HistoryDropout"]
