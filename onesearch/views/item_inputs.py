"""What UniSearch's item encoder sees of an item: the tokens of its text, its multimodal features and its statistics, as columns.

One implementation for training and for new items: rows of a table of items become the arguments of `ItemEncoder.forward`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onesearch.data.market import Market
from onesearch.data.text import item_texts
from onesearch.tokenization_sid.ragged import Ragged

if TYPE_CHECKING:
    import torch

    from onesearch.modeling_onesearch.configuration_unisearch import UniSearchConfig
    from onesearch.tokenization_sid.tokenization_sid import SidTokenizer


@dataclass(frozen=True, eq=False)
class ItemInputs:
    """Inputs of the item encoder for the items of a market.

    Args:
        tokens: tokens of each item's text.
        features: (items, features) float32, NaN in the rows of items without features; None if the encoder reads none.
        statistics: (items, statistics) float32 log(1 + x), NaN where unknown; None if the encoder reads none.
    """

    tokens: Ragged
    features: np.ndarray | None
    statistics: np.ndarray | None

    @classmethod
    def of(cls, market: Market, tokenizer: SidTokenizer, config: UniSearchConfig) -> ItemInputs:
        """Inputs of a market's items.

        Args:
            market: its items.
            tokenizer: tokenizer of the model.
            config: configuration of the model, which says what its encoder reads.

        Raises:
            ValueError: an item has another number of features than the encoder reads.
        """
        texts = item_texts(market)
        rows = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        tokens = Ragged.of([row[: config.item_max_tokens] for row in rows])
        features = feature_rows(market, config.item_features) if config.item_features else None
        statistics = statistic_rows(market, config.item_statistics) if config.item_statistics else None
        return cls(tokens, features, statistics)

    def __len__(self) -> int:
        return len(self.tokens)

    def batch(self, rows: np.ndarray, device: str | torch.device = "cpu") -> dict[str, torch.Tensor]:
        """Arguments of `ItemEncoder.forward` for some items.

        Args:
            rows: (n,) rows of the items.
            device: device of the tensors.
        """
        import torch

        tokens = self.tokens.take(rows)
        padded = tokens.padded(0)
        arrays = {
            "input_ids": padded,
            "attention_mask": (np.arange(padded.shape[1]) < tokens.lengths[:, None]).astype(np.int64),
        }
        for name, values in (("features", self.features), ("statistics", self.statistics)):
            if values is not None:
                arrays[name] = values[rows]
        return {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}


def feature_size(market: Market) -> int:
    """Number of features of the items, 0 if no item has any.

    Raises:
        ValueError: two items have different numbers of features.
    """
    lengths = np.asarray(pc.fill_null(pc.list_value_length(market.items.data.column("features")), 0))
    sizes = np.unique(lengths[lengths > 0])
    if len(sizes) > 1:
        raise ValueError(f"items have {sizes[0]} and {sizes[1]} features; all items with features must have the same number")
    return int(sizes[0]) if len(sizes) else 0


def known_statistics(market: Market, names: Sequence[str]) -> list[str]:
    """Those of the named columns of the items table that hold a value.

    Raises:
        ValueError: a column does not exist or holds no numbers.
    """
    found = []
    for name in names:
        if name not in market.items.column_names or not _is_number(market.items.data.column(name).type):
            raise ValueError(f"statistics names {name!r}; allowed are columns of the items table that hold numbers")
        column = market.items.data.column(name)
        if column.null_count < len(column):
            found.append(name)
    return found


def feature_rows(market: Market, size: int) -> np.ndarray:
    """Features (items, size) float32, NaN in the rows of items without any; ValueError for an item with another number."""
    lists = market.items.data.column("features").combine_chunks()
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0))
    wrong = np.flatnonzero((lengths > 0) & (lengths != size))
    if len(wrong):
        raise ValueError(f"item in row {wrong[0]} has {lengths[wrong[0]]} features, and the item encoder reads {size}")
    rows = np.full((len(lengths), size), np.nan, dtype=np.float32)
    rows[lengths > 0] = np.asarray(pc.list_flatten(lists), dtype=np.float32).reshape(-1, size)
    return rows


def statistic_rows(market: Market, names: Sequence[str]) -> np.ndarray:
    """log(1 + x) of columns of the items table, (items, names) float32, NaN where null."""
    columns = [market.items.data.column(name).combine_chunks().cast(pa.float64()) for name in names]
    values = np.stack([np.asarray(pc.fill_null(column, np.nan)) for column in columns], axis=1)
    return np.log1p(np.maximum(values, 0)).astype(np.float32)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


__all__ = ["ItemInputs", "feature_rows", "feature_size", "known_statistics", "statistic_rows"]
