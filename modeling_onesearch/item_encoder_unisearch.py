"""Item encoder of UniSearch: an item's text, multimodal features and statistics in, k vectors out (arXiv 2509.06887, "Video Encoder").

The input of transformers' BERT is a row of typed places: text tokens, one place for the features, one for the statistics, and k learnable
tokens, whose states become d¹ … dᵏ. A modality that an item lacks is masked. Every place behind the text has a fixed position, so that the
vectors of an item do not depend on the items beside it in a batch.
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import nn
from transformers import BertConfig, BertModel
from transformers import initialization as init

from .configuration_onesearch import init_std_of

if TYPE_CHECKING:
    from .configuration_unisearch import UniSearchConfig

TEXT, FEATURES, STATISTICS, LEARNED = range(4)
"""Types of the places."""


class ItemEncoder(nn.Module):
    """BERT over the modalities of an item.

    Args:
        config: configuration of the model.
    """

    feature_mean: torch.Tensor
    feature_scale: torch.Tensor
    statistic_mean: torch.Tensor
    statistic_scale: torch.Tensor

    def __init__(self, config: UniSearchConfig) -> None:
        super().__init__()
        width, levels = cast(int, config.d_model), config.sid_levels
        self.max_tokens, self.bound = config.item_max_tokens, config.vector_bound
        self.std = cast(float, config.init_std)
        bert = BertConfig(
            vocab_size=config.sid_offset or config.vocab_size,  # an item's text holds no Semantic ID
            hidden_size=width,
            num_hidden_layers=config.item_layers,
            num_attention_heads=cast(int, config.item_attention_heads),
            intermediate_size=cast(int, config.item_ffn_dim),
            max_position_embeddings=config.item_max_tokens + 2 + levels,
            type_vocab_size=LEARNED + 1,
            hidden_dropout_prob=config.dropout or 0.0,
            attention_probs_dropout_prob=config.attention_dropout or 0.0,
            initializer_range=init_std_of(width),
            pad_token_id=config.pad_token_id
            if cast(int, config.pad_token_id) < (config.sid_offset or config.vocab_size)
            else None,
            is_decoder=config.item_causal,
        )
        self.bert = BertModel(bert, add_pooling_layer=False)
        self.features = nn.Linear(config.item_features, width) if config.item_features else None
        self.statistics = nn.Linear(len(config.item_statistics), width) if config.item_statistics else None
        self.learned = nn.Parameter(torch.zeros(levels, width))
        self.output = nn.Linear(width, cast(int, config.item_dim))
        for name, size in (("feature", config.item_features), ("statistic", len(config.item_statistics))):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_scale", torch.ones(size))

    def reset_parameters(self) -> None:
        """Random learnable tokens; features and statistics are taken as they are until their scale is set."""
        init.normal_(self.learned, std=self.std)
        for name in ("feature", "statistic"):
            init.zeros_(getattr(self, f"{name}_mean"))
            init.ones_(getattr(self, f"{name}_scale"))

    @torch.no_grad()
    def set_scales(self, features: torch.Tensor | None = None, statistics: torch.Tensor | None = None) -> None:
        """Set mean and standard deviation of the features and statistics, (items, dimension) each; NaN marks what is missing."""
        for name, values in (("feature", features), ("statistic", statistics)):
            if values is None or not values.shape[1]:
                continue
            known = ~values.isnan()
            count = known.sum(0).clamp(min=1)
            mean = values.nan_to_num().sum(0) / count
            spread = (torch.where(known, values - mean, 0.0).square().sum(0) / count).sqrt()
            getattr(self, f"{name}_mean").copy_(mean)
            getattr(self, f"{name}_scale").copy_(spread.clamp(min=1e-3))

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        features: torch.Tensor | None = None,
        statistics: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Encode items.

        Args:
            input_ids: (items, length) tokens of their texts, padded on the right; `length` may be 0.
            attention_mask: (items, length), 0 where padded.
            features: (items, item_features); NaN in a row marks an item without features. None masks them for all items.
            statistics: (items, item_statistics); single NaN count as the mean, a row of NaN is masked. None masks them for all items.

        Returns:
            (items, levels, item_dim): d¹ … dᵏ, bounded as `vector_bound` says.

        Raises:
            ValueError: a text is longer than `item_max_tokens`.
        """
        items, length = input_ids.shape
        if length > self.max_tokens:
            raise ValueError(f"item texts of {length} tokens, item_max_tokens={self.max_tokens}: cut them to that number")
        embed = self.bert.embeddings.word_embeddings
        parts, masks = [embed(input_ids)], [attention_mask.bool()]
        types, positions = [TEXT] * length, list(range(length))
        for place, (layer, name, values) in enumerate(
            ((self.features, "feature", features), (self.statistics, "statistic", statistics))
        ):
            if layer is None:
                continue
            vector, is_there = self._modality(layer, name, values, items)
            parts.append(vector[:, None])
            masks.append(is_there[:, None])
            types.append(FEATURES + place)
            positions.append(self.max_tokens + place)
        levels = len(self.learned)
        parts.append(self.learned.expand(items, -1, -1))
        masks.append(torch.ones(items, levels, dtype=torch.bool, device=input_ids.device))
        types += [LEARNED] * levels
        positions += range(self.max_tokens + 2, self.max_tokens + 2 + levels)
        states = self.bert(
            inputs_embeds=torch.cat(parts, 1),
            attention_mask=torch.cat(masks, 1).long(),
            token_type_ids=torch.tensor(types, device=input_ids.device).expand(items, -1),
            position_ids=torch.tensor(positions, device=input_ids.device)[None],
            **({"use_cache": False} if self.bert.config.is_decoder else {}),
        ).last_hidden_state[:, -levels:]
        return bounded(self.output(states), self.bound)

    def _modality(
        self, layer: nn.Linear, name: str, values: torch.Tensor | None, items: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Projection (items, width) of a modality, and whether each item has it, (items,) bool."""
        weight = layer.weight
        if values is None:
            values = weight.new_full((items, weight.shape[1]), torch.nan)
        missing = values.isnan()
        is_there = ~(missing.any(1) if name == "feature" else missing.all(1))
        mean, scale = getattr(self, f"{name}_mean"), getattr(self, f"{name}_scale")
        scaled = torch.where(missing, 0.0, (values.float() - mean) / scale)
        return layer(scaled.to(weight.dtype)), is_there


def bounded(vectors: torch.Tensor, bound: str) -> torch.Tensor:
    """Vectors (..., dim) of length 1 (`sphere`), or of length 1 at most (`ball`)."""
    if bound == "sphere":
        return F.normalize(vectors, dim=-1)
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1.0)


def bounded_sums(sums: torch.Tensor, bound: str) -> torch.Tensor:
    """Sums (..., dim) of bounded vectors: of length 1 again (`sphere`), or as they are (`ball`)."""
    return F.normalize(sums, dim=-1) if bound == "sphere" else sums


def partial_sums(vectors: torch.Tensor, before: torch.Tensor | None, bound: str) -> torch.Tensor:
    """Vectors that the query is compared with at each level: sg[Σ_{m<n} d⁽ᵐ⁾] + d⁽ⁿ⁾. Each d⁽ⁿ⁾ learns the rest that those before left.

    Args:
        vectors: (items, levels, dim) d¹ … dᵏ.
        before: (items, levels, dim) vectors of the levels before, which are summed: d⁽ᵐ⁾ themselves (the paper), or their code vectors.
            None compares with each d⁽ⁿ⁾ alone.
        bound: ``sphere`` scales each sum to length 1.

    Returns:
        (items, levels, dim).
    """
    if before is None:
        return vectors
    fixed = before.detach()
    return bounded_sums(fixed.cumsum(1) - fixed + vectors, bound)


__all__ = ["FEATURES", "LEARNED", "STATISTICS", "TEXT", "ItemEncoder", "bounded", "bounded_sums", "partial_sums"]
