"""Checks of the rows that a user trains on. A row that teaches nothing, or something else than it seems to, is refused by its number."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset, IterableDataset
from transformers import PretrainedConfig, PreTrainedTokenizerBase

if TYPE_CHECKING:
    from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex

CODE_LIKE = re.compile(r"<u?[a-z]_\d+>", re.IGNORECASE)
"""Text that looks like the token of a code."""


@dataclass(frozen=True)
class RowLimits:
    """What a model can read and write.

    Args:
        vocabulary: number of tokens.
        positions: most tokens of a prompt and of a target; for a decoder-only model of both together.
        together: whether prompt and target share the positions.
        offset: vocabulary id of code 0 of level 0.
        codebook_sizes: codebook size of each level.
    """

    vocabulary: int
    positions: int
    together: bool
    offset: int
    codebook_sizes: tuple[int, ...]

    @classmethod
    def of(cls, config: PretrainedConfig) -> RowLimits:
        """Limits of a model with Semantic IDs, from its configuration."""
        return cls(
            config.vocab_size,
            config.max_position_embeddings,
            not config.is_encoder_decoder,
            config.sid_offset,
            tuple(config.sid_codebook_sizes),
        )

    def broken_sid(self, ids: Sequence[int]) -> bool:
        """Whether codes stand in `ids` that do not form whole SIDs, level after level."""
        starts = self.offset + np.concatenate([[0], np.cumsum(self.codebook_sizes)])
        tokens, levels = np.asarray(ids), len(self.codebook_sizes)
        places = np.flatnonzero((tokens >= starts[0]) & (tokens < starts[-1]))
        if len(places) % levels:
            return True
        sids = places.reshape(-1, levels)
        of_level = np.searchsorted(starts, tokens[sids], side="right") - 1
        return bool((of_level != np.arange(levels)).any() or (np.diff(sids, axis=1) != 1).any())


@dataclass(frozen=True)
class TextRows:
    """Tokenises rows of texts for `Dataset.map(..., with_indices=True, batched=True)`.

    Args:
        tokenizer: tokenizer of the model.
        limits: limits of the model.
        name: name of the dataset, for error messages.
    """

    tokenizer: PreTrainedTokenizerBase
    limits: RowLimits
    name: str

    def __call__(self, batch: dict[str, list[str]], rows: list[int]) -> dict[str, list[Any]]:
        """Token ids of a batch.

        Args:
            batch: texts of the columns ``prompt`` and ``completion``.
            rows: number of each row.

        Returns:
            Columns ``input_ids``, ``labels`` and ``length``.

        Raises:
            ValueError: a text is missing or blank, has too many tokens, names a code that does not exist, or a completion holds a part of
                a SID.
        """
        for row, prompt, completion in zip(rows, batch["prompt"], batch["completion"]):
            self._check_text(row, "prompt", prompt)
            self._check_text(row, "completion", completion)
        prompts = self.tokenizer(batch["prompt"]).input_ids
        completions = self.tokenizer(batch["completion"], add_special_tokens=False).input_ids
        for row, text, prompt, completion in zip(rows, batch["completion"], prompts, completions):
            where = f"row {row} of the {self.name} dataset"
            if self.limits.broken_sid(completion):
                raise ValueError(
                    f"{where}: completion {_short(text)} holds a part of a SID; a SID has {len(self.limits.codebook_sizes)} codes side by "
                    "side, one of each level: write it with tokenizer.sid_string(sid)"
                )
            _refuse_long(where, len(prompt), len(completion), self.limits)
        return {"input_ids": prompts, "labels": completions, "length": [len(prompt) for prompt in prompts]}

    def _check_text(self, row: int, column: str, text: Any) -> None:
        where = f"row {row} of the {self.name} dataset: {column}"
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{where} is {text!r}, and a text that is not blank is needed; correct the row or leave it out")
        known = self.tokenizer.get_added_vocab()
        wrong = [token for token in CODE_LIKE.findall(text) if token not in known]
        if wrong:
            raise ValueError(
                f"{where} {_short(text)} names {wrong[0]}, which is no code of this tokenizer (its codebook sizes are "
                f"{list(self.limits.codebook_sizes)}); write SIDs with tokenizer.sid_string(sid)"
            )


def refuse_item_ids(dataset: Dataset | IterableDataset, index: SidIndex | None, name: str) -> None:
    """Refuse completions that are ids of items: a model learns the SIDs of items, and an id would train as text.

    Args:
        dataset: dataset with a column ``completion``; a streamed one is not read.
        index: item index of the model; None checks nothing.
        name: name of the dataset, for the error message.

    Raises:
        ValueError: a completion is the id of an item.
    """
    if index is None or isinstance(dataset, IterableDataset):
        return
    completions = [text for text in dataset["completion"]]
    texts = [text.strip() if isinstance(text, str) else "" for text in completions]
    found = np.flatnonzero(index.contains(texts))
    if len(found):
        row = int(found[0])
        raise ValueError(
            f"row {row} of the {name} dataset: completion {completions[row]!r} is the id of an item and would train as text; write the "
            "item's SID: tokenizer.sid_string(model.sid_index.sid_of(item_id))"
        )


def check_token_rows(dataset: Dataset | IterableDataset, limits: RowLimits, name: str) -> None:
    """Check rows of token ids, without a copy of the dataset.

    Args:
        dataset: dataset with the columns ``input_ids`` and ``labels``; a streamed one is not read, and its empty rows are refused when they
            are collated.
        limits: limits of the model.
        name: name of the dataset, for error messages.

    Raises:
        ValueError: a list is missing, empty or too long, or an id is outside the vocabulary.
    """
    if isinstance(dataset, IterableDataset):
        return
    # All rows of the files are checked first; only if one is bad, those that the dataset selects are read.
    tables = [dataset.data] if dataset._indices is None else [dataset.data, dataset.with_format("arrow")[:]]
    problem: ValueError | None = None
    for table in tables:
        try:
            _check_table(table, limits, name)
            return
        except ValueError as error:
            problem = error
    if problem is not None:
        raise problem


def _check_table(table: Any, limits: RowLimits, name: str) -> None:
    start = 0
    chunks = zip(table.column("input_ids").chunks, table.column("labels").chunks)
    for prompts, targets in chunks:
        for column, lists in (("input_ids", prompts), ("labels", targets)):
            _check_lists(column, lists, start, limits, name)
        lengths = pc.list_value_length(prompts).to_numpy(), pc.list_value_length(targets).to_numpy()
        most = lengths[0] + lengths[1] if limits.together else np.maximum(*lengths)
        if len(most) and most.max() > limits.positions:
            row = int(most.argmax())
            _refuse_long(f"row {start + row} of the {name} dataset", int(lengths[0][row]), int(lengths[1][row]), limits)
        start += len(prompts)


def _check_lists(column: str, lists: pa.Array, start: int, limits: RowLimits, name: str) -> None:
    """Refuse lists that are missing or empty, and ids outside the vocabulary; `start` is the number of the first row."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    if len(lengths) and lengths.min() == 0:
        row = int(lengths.argmin())
        raise ValueError(
            f"row {start + row} of the {name} dataset: {column} is {lists[row].as_py()}, and at least one token is needed; correct the row "
            "or leave it out"
        )
    values = pc.list_flatten(lists)
    wrong = pc.fill_null(pc.or_(pc.less(values, 0), pc.greater_equal(values, limits.vocabulary)), True)
    place = pc.index(wrong, True).as_py()
    if place >= 0:
        row = int(np.searchsorted(np.cumsum(lengths), place, side="right"))
        raise ValueError(
            f"row {start + row} of the {name} dataset: {column} holds {values[place].as_py()}, and the vocabulary has the ids 0 to "
            f"{limits.vocabulary - 1}; make the ids with the model's own tokenizer"
        )


def _refuse_long(where: str, prompt: int, target: int, limits: RowLimits) -> None:
    """Refuse a row that has more tokens than the model has positions."""
    counted = (
        {"prompt and target together": prompt + target} if limits.together else {"the prompt": prompt, "the target": target}
    )
    for part, tokens in counted.items():
        if tokens > limits.positions:
            raise ValueError(
                f"{where}: {part} has {tokens:,} tokens, the model reads at most {limits.positions:,}; shorten the row, for instance with "
                "tokenizer.render_prompt, which cuts long texts"
            )


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}…")


__all__ = ["RowLimits", "TextRows", "check_token_rows", "refuse_item_ids"]
