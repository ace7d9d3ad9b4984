"""Rows of preference lists, and the batches that a trainer makes of them.

A row is a prompt with its candidate Semantic IDs. A candidate marked as *chosen* heads a list; its rejected ones are the candidates marked
as *rejected* that stand behind it in the preferred order (`ranks`). All lists of a row share one pass of the model over its candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset, IterableDataset

from onesearch.tokenization_sid.tokenization_sid import SidTokenizer

from ...preference.likelihoods import PROMPT_COLUMNS, padded_candidates
from ...reward.adaptive import RewardFormula, pair_weight
from ...sft.data.collators import Example, LongViewLookup, Seq2SeqCollator, ViewLookup

COLUMNS = ("input_ids", "sids", "chosen", "rejected", "ranks", "rewards", "ref_logps", "long_view", "history", "query_vector")
"""Columns that reach the collator; others tell where a list comes from."""

LIST_COLUMNS = ("input_ids", "sids", "chosen", "rejected", "ranks", "rewards")
"""Columns that every dataset of lists has."""


LEAST_WEIGHT = 1e-6
"""Least weight of a pair: 0 would take the pair out of its list."""


class Preferences(NamedTuple):
    """Lists of a row.

    Args:
        sids: codes of the candidates, int32 ``(candidates, levels)``.
        chosen: whether each candidate heads a list, ``(candidates,)``.
        rejected: whether each candidate may be rejected, ``(candidates,)``.
        ranks: place of each candidate in the preferred order, from 0, ``(candidates,)``. Equal numbers are not compared.
        rewards: adaptive reward r of each candidate, from which the weight of a pair is made, ``(candidates,)``.
    """

    sids: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray
    ranks: np.ndarray
    rewards: np.ndarray

    def columns(self) -> dict[str, list[Any]]:
        """Flat lists for a dataset."""
        return {name: np.asarray(part).ravel().tolist() for name, part in zip(self._fields, self)}

    @property
    def pairs(self) -> np.ndarray:
        """Whether each pair of a chosen and a rejected candidate is in a list, ``(candidates, candidates)``."""
        behind: np.ndarray = self.ranks[None, :] > self.ranks[:, None]
        return self.chosen.astype(bool)[:, None] & self.rejected.astype(bool)[None, :] & behind


@dataclass
class PreferenceCollator:
    """Batches of rows with `LIST_COLUMNS`, given as numpy arrays.

    Args:
        prompts: makes the prompts' part of the batch.
        levels: number of codes of a Semantic ID.
        formula: shape of the weights; None gives every pair the weight 1.
    """

    prompts: Seq2SeqCollator
    levels: int
    formula: RewardFormula | None = None

    @classmethod
    def of(
        cls,
        config: Any,
        formula: RewardFormula | None,
        long_view: LongViewLookup | None,
        history: ViewLookup | None = None,
    ) -> PreferenceCollator:
        """The collator of a model's configuration."""
        prompts = Seq2SeqCollator(config.pad_token_id, config.pad_token_id, long_view, history)  # its targets are not used
        return cls(prompts, len(config.sid_codebook_sizes), formula)

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        """Make a batch.

        Returns:
            `input_ids`, `attention_mask` (prompts, length) and `long_view_codes`; `sids` (prompts, candidates, levels), -1 for padding;
            `weights` (prompts, candidates, candidates), 0 where a pair of a chosen and a rejected candidate is in no list; `ref_logps`
            (prompts, candidates) if the reference was computed before.
        """
        batch = self.prompts([{**example, "labels": [0]} for example in examples])
        batch = {name: batch[name] for name in PROMPT_COLUMNS if name in batch}
        lists = [self._preferences(example) for example in examples]
        batch["sids"] = padded_candidates([own.sids for own in lists], self.levels)
        count = batch["sids"].shape[1]
        weights = np.zeros((len(lists), count, count), dtype=np.float32)
        for row, own in enumerate(lists):
            size = len(own.sids)
            worth = 1.0 if self.formula is None else pair_weight(own.rewards[:, None], own.rewards[None, :], self.formula)
            weights[row, :size, :size] = np.where(own.pairs, np.maximum(worth, LEAST_WEIGHT), 0.0)
        batch["weights"] = torch.from_numpy(weights)
        if examples[0].get("ref_logps") is not None:
            batch["ref_logps"] = _padded([example["ref_logps"] for example in examples], count)
        return batch

    def _preferences(self, example: Example) -> Preferences:
        sids = np.asarray(example["sids"], dtype=np.int64).reshape(-1, self.levels)
        return Preferences(sids, *(np.asarray(example[name]) for name in ("chosen", "rejected", "ranks", "rewards")))


def _padded(rows: Sequence[Any], width: int) -> torch.Tensor:
    """Rows of numbers as one tensor (rows, width), 0 for padding."""
    table = np.zeros((len(rows), width), dtype=np.float32)
    for row, values in enumerate(rows):
        table[row, : len(values)] = values
    return torch.from_numpy(table)


def check_lists(dataset: Dataset | IterableDataset, levels: int, name: str) -> None:
    """Refuse rows that hold no list, or whose columns do not fit each other. Streamed rows are checked when they are read.

    Raises:
        ValueError: a row is wrong; the message names its number.
    """
    if not isinstance(dataset, Dataset):
        return
    for row, example in enumerate(dataset.select_columns(list(LIST_COLUMNS)).with_format(None)):
        count = len(example["chosen"])
        sizes = {column: len(example[column]) for column in ("rejected", "ranks", "rewards")}
        if len(example["sids"]) != count * levels or any(size != count for size in sizes.values()):
            raise ValueError(
                f"row {row} of the {name} dataset has {count} candidates in chosen, {len(example['sids']) / levels:g} in sids and {sizes}; "
                f"each candidate has {levels} codes, one mark, one rank and one reward"
            )
        own = Preferences(*(np.asarray(example[column]) for column in LIST_COLUMNS[1:]))
        if not own.pairs.any():
            raise ValueError(
                f"row {row} of the {name} dataset has no list: no candidate is chosen and has a rejected one behind it in ranks; leave the "
                "row out"
            )
        if not np.isfinite(own.rewards.astype(np.float64)).all():
            raise ValueError(f"row {row} of the {name} dataset has a reward that is not finite: {own.rewards.tolist()}")


class TextLists:
    """Tokenises rows of texts for `Dataset.map`: `prompt`, `chosen`, and `rejected`, one Semantic ID or a list of them.

    Args:
        tokenizer: the model's tokenizer.
        name: name of the dataset, for error messages.
    """

    def __init__(self, tokenizer: SidTokenizer, name: str) -> None:
        self.tokenizer, self.name = tokenizer, name

    def __call__(self, example: dict[str, Any], row: int) -> dict[str, list[Any]]:
        """The columns of a row.

        Raises:
            ValueError: a text is no whole Semantic ID, or there is no rejected one.
        """
        rejected = [example["rejected"]] if isinstance(example["rejected"], str) else list(example["rejected"])
        if not rejected:
            raise ValueError(f"row {row} of the {self.name} dataset has no rejected Semantic ID; leave the row out")
        sids = np.array([self._sid(text, row) for text in (example["chosen"], *rejected)])
        first = np.arange(len(sids)) == 0
        own = Preferences(sids, first, ~first, (~first).astype(np.int64), first.astype(np.float32))
        return {"input_ids": self.tokenizer(example["prompt"])["input_ids"], **own.columns()}

    def _sid(self, text: str, row: int) -> np.ndarray:
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        try:
            (sid,) = self.tokenizer.ids_to_sids(ids)
        except ValueError as error:
            raise ValueError(
                f"row {row} of the {self.name} dataset: {text!r} is not one Semantic ID of this tokenizer ({error}); write it with "
                "tokenizer.sid_string(sid)"
            ) from error
        return sid


__all__ = ["COLUMNS", "LIST_COLUMNS", "PreferenceCollator", "Preferences", "TextLists", "check_lists"]
