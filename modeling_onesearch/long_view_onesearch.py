"""The implicit long view: sequences of up to a thousand items (clicks, purchases, …) as a few vectors among the prompt's embeddings.

The paper (OneSearch, arXiv 2509.03236, "Multi-view behaviour sequences") sums the centroids of a sequence per residual level and lets
a Q-Former make `N_M` vectors of these sums. Here the sum is a mean with a LayerNorm behind it: a sum over 10³ items would drown all else.
Depth, width, initial scales and the learned answer to "nothing known" are ours; the paper does not give them.

The vectors take the places of `long_view_tokens` copies of a placeholder token, so masks and lengths are those of any prompt.
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import initialization as init
from transformers.utils import is_torchdynamo_compiling

if TYPE_CHECKING:
    from .configuration_onesearch import LongViewFields

EMPTY = -1
"""Stands for "no item" in `long_view_codes`."""


class CentroidPooling(nn.Module):
    """Mean centroid of each sequence at each level, from frozen tables.

    The tables are a buffer, not a parameter: nothing trains them (an adapter's `modules_to_save` would make any parameter trainable),
    and they are saved, loaded and moved with the weights.

    Args:
        codebook sizes: codes of each level; dim: width of a centroid; sequences: per row.
    """

    def __init__(self, codebook_sizes: Sequence[int], dim: int, sequences: int):
        super().__init__()
        self.codebook_sizes, self.sequences = tuple(codebook_sizes), sequences
        self.register_buffer("centroids", torch.zeros(sum(codebook_sizes), dim))  # (sum of codebook sizes, dim)
        self.is_filled = False  # looked up once; the tables may also come from a checkpoint

    def set_centroids(self, tables: Sequence[np.ndarray | torch.Tensor]) -> None:
        """Take over the codebooks: (codebook_sizes[level], dim) of each level. ValueError if a shape or value does not fit."""
        expected = [(width, self.centroids.shape[1]) for width in self.codebook_sizes]
        found = [tuple(table.shape) for table in tables]
        if found != expected:
            raise ValueError(
                f"centroid tables of shapes {found}, the model needs {expected}: one per level of long_view_levels, of the sizes in "
                "sid_codebook_sizes and of long_view_dim columns"
            )
        joined = torch.cat([torch.as_tensor(table).float() for table in tables])
        if not joined.isfinite().all() or not joined.any():
            raise ValueError("the centroid tables hold values that are not finite, or nothing but zeros")
        with torch.no_grad():
            self.centroids.copy_(joined)

    def forward(self, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pool sequences of items.

        A histogram times the table: counts are whole numbers, so neither the order of the items nor the place of the padding changes a
        single bit, and no (items, dim) tensor is made.

        Args:
            codes: (batch, sequences, items, levels), -1 in all levels where there is no item.

        Returns:
            means (batch, sequences, levels, dim), zero where there is nothing, and whether a sequence holds an item (batch, sequences).

        Raises:
            ValueError: `codes` has another shape or type, a code is out of range, or the tables were never set.
        """
        if not is_torchdynamo_compiling():
            self._check(codes)
        codes, batch, rows = codes.long(), len(codes), sum(self.codebook_sizes)
        starts = codes.new_tensor([sum(self.codebook_sizes[:level]) for level in range(len(self.codebook_sizes))])
        places = torch.where(codes >= 0, codes + starts, rows).reshape(batch * self.sequences, -1)
        with torch.no_grad(), torch.autocast(codes.device.type, enabled=False):  # half precision cannot count to a thousand
            table = self.centroids.float()
            ones = table.new_ones(()).expand(places.shape)
            counts = table.new_zeros(len(places), rows + 1).scatter_add_(1, places, ones)[:, :rows]
            parts = zip(counts.split(self.codebook_sizes, dim=1), table.split(self.codebook_sizes))
            means = [count @ own / count.sum(1, keepdim=True).clamp(min=1) for count, own in parts]
        held = (counts[:, : self.codebook_sizes[0]].sum(1) > 0).view(batch, self.sequences)
        return torch.stack(means, dim=1).view(batch, self.sequences, len(self.codebook_sizes), -1), held

    def _check(self, codes: torch.Tensor) -> None:
        if codes.ndim != 4 or codes.shape[1] != self.sequences or codes.shape[3] != len(self.codebook_sizes):
            raise ValueError(
                f"long_view_codes of shape {tuple(codes.shape)}, expected (batch, sequences={self.sequences}, items, "
                f"levels={len(self.codebook_sizes)}); pad with {EMPTY} along the items"
            )
        if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
            raise ValueError(f"long_view_codes are {codes.dtype}, expected integers: the codes of the items at each level")
        if codes.numel() == 0:
            return
        for level, width in enumerate(self.codebook_sizes):
            low, high = codes[..., level].aminmax()
            if low < EMPTY or high >= width:
                raise ValueError(
                    f"long_view_codes of level {level} lie in [{low}, {high}], allowed are 0..{width - 1}, and {EMPTY} for no item; codes "
                    "count from 0 within their level, without the vocabulary's offset"
                )
        missing = codes < 0
        if not torch.equal(missing.any(-1), missing.all(-1)):
            raise ValueError(f"long_view_codes: an item has codes at all levels or {EMPTY} at all of them")
        self.is_filled = self.is_filled or bool(self.centroids.any())
        if not self.is_filled and not bool(missing.all()):
            raise ValueError("the model has no centroids for its long view yet: call model.set_long_view_centroids(tables)")


class LongViewResampler(nn.Module):
    """Q-Former: `long_view_tokens` learned queries read the pooled sequences and become vectors of the model's width.

    Args:
        layout: configuration with the fields of the long view.
        width, heads, dropout: the model's.
        scale: size of the vectors' entries at the start, that of the input embeddings which they stand among.
    """

    def __init__(self, layout: LongViewFields, width: int, heads: int, dropout: float, scale: float):
        super().__init__()
        if width % heads:
            raise ValueError(
                f"the long view shares the model's width {width} among its {heads} heads, which does not come out even"
            )
        self.scale = scale
        self.pooled_norm = nn.LayerNorm(layout.long_view_dim)
        self.project = nn.Linear(layout.long_view_dim, width)
        self.slots = nn.Parameter(torch.zeros(layout.long_view_sequences, layout.long_view_levels, width))
        self.nothing = nn.Parameter(torch.zeros(1, width))  # always visible: no softmax runs over an empty set
        self.queries = nn.Parameter(torch.zeros(layout.long_view_tokens, width))
        self.memory_norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(_Block(width, heads, dropout) for _ in range(layout.long_view_layers))
        self.norm = nn.LayerNorm(width)

    def reset_parameters(self) -> None:
        """Our start: everything of size 1 whatever the width, so that content, slot and query count alike; then `scale`."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                init.normal_(module.weight, std=module.in_features**-0.5)
        for parameter in (self.slots, self.nothing, self.queries):
            init.normal_(parameter)
        init.constant_(self.norm.weight, self.scale)

    def forward(self, pooled: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
        """Vectors for the prompt.

        Args:
            pooled: (batch, sequences, levels, dim); held: (batch, sequences), False where a sequence is empty.

        Returns:
            (batch, long_view_tokens, width).
        """
        batch, levels = len(pooled), pooled.shape[2]
        memory = self.project(self.pooled_norm(pooled.to(self.queries.dtype))) + self.slots
        memory = self.memory_norm(torch.cat([memory.flatten(1, 2), self.nothing.expand(batch, 1, -1)], dim=1))
        visible = torch.cat([held.repeat_interleave(levels, dim=1), held.new_ones(batch, 1)], dim=1)[:, None, None, :]
        hidden = self.queries.expand(batch, -1, -1)
        for block in self.blocks:
            hidden = block(hidden, memory, visible)
        return self.norm(hidden)


class _Block(nn.Module):
    """Queries look at each other, then at the memory, then through a feed-forward layer of four times the width."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.self_norm, self.cross_norm, self.feed_norm = (nn.LayerNorm(width) for _ in range(3))
        self.self_attention, self.cross_attention = (_Attention(width, heads) for _ in range(2))
        self.inner, self.outer = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden: torch.Tensor, memory: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        normed = self.self_norm(hidden)
        hidden = hidden + self.dropout(self.self_attention(normed, normed))
        hidden = hidden + self.dropout(self.cross_attention(self.cross_norm(hidden), memory, visible))
        return hidden + self.dropout(self.outer(F.gelu(self.inner(self.feed_norm(hidden)))))


class _Attention(nn.Module):
    """Names are BLIP-2's: an adapter meant for the backbone's `q_proj` or `out_proj` leaves them alone."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(width, width) for _ in range(4))

    def forward(self, hidden: torch.Tensor, memory: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (batch, heads, length, head size)
            for part in (self.query(hidden), self.key(memory), self.value(memory))
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        return self.output(mixed.transpose(1, 2).flatten(2))


class LongViewMixin:
    """For the module that embeds the prompt (`embed_tokens`): BART's encoder, or the decoder-only backbone.

    Its `__init__` ends with `_add_long_view`; its `forward` puts what `_placed` returns in place of its inputs.
    """

    def _add_long_view(self, width: int, heads: int, dropout: float, scale: float) -> None:
        """Resampler and centroids if the configuration asks for them, else nothing: no module, no parameter, no random number."""
        self.long_view = None
        config = self.config
        if config.long_view_tokens:
            config.check_long_view()  # `from_pretrained(..., long_view_tokens=…)` changes a configuration after its own check
            codebook_sizes = config.sid_codebook_sizes[: config.long_view_levels]
            self.long_view = LongViewResampler(config, width, heads, dropout, scale)
            self.long_view_pooling = CentroidPooling(codebook_sizes, config.long_view_dim, config.long_view_sequences)
            self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, LongViewResampler):
            module.reset_parameters()
        elif isinstance(module, CentroidPooling):
            init.zeros_(module.centroids)

    @torch.no_grad()
    def match_long_view_scale(self) -> None:
        """Start the long view's vectors at the size of the embeddings, once those are trained ones."""
        if self.long_view is not None:
            some = torch.arange(min(self.config.vocab_size, 4096), device=self.embed_tokens.weight.device)
            self.long_view.norm.weight.fill_(self.embed_tokens(some).float().square().mean().sqrt())

    def _placed(
        self,
        input_ids: torch.Tensor | None,
        inputs_embeds: torch.Tensor | None,
        codes: torch.Tensor | None,
        is_start: bool = True,
    ) -> dict[str, torch.Tensor | None]:
        """The backbone's `input_ids` and `inputs_embeds` with the long view in place.

        Args:
            codes: `long_view_codes` (batch, sequences, items, levels), or None for rows of which nothing is known.
            is_start: False in later steps of `generate`, whose inputs hold no prompt any more.
        """
        unchanged = {"input_ids": input_ids, "inputs_embeds": inputs_embeds}
        if codes is not None and self.long_view is None:
            raise ValueError("long_view_codes for a model without a long view: its configuration has long_view_tokens=0")
        if codes is not None and inputs_embeds is not None:
            raise ValueError(
                "long_view_codes go with input_ids, not inputs_embeds: long_view_token_id marks the long view's places"
            )
        if self.long_view is None or input_ids is None:
            return unchanged
        is_place = input_ids == self.config.long_view_token_id  # (batch, length)
        if is_torchdynamo_compiling():
            has_places = input_ids.shape[1] >= self.config.long_view_tokens
        else:
            has_places = self._check_places(is_place, codes, is_start)
        if not has_places and not (self.training and torch.is_grad_enabled()):
            return unchanged
        if codes is None or not has_places:
            codes = input_ids.new_full((1, self.config.long_view_sequences, 0, self.config.long_view_levels), EMPTY)
        embeddings = self.embed_tokens(input_ids)
        vectors = self.long_view(*self.long_view_pooling(codes)).to(embeddings.dtype)
        if not has_places:
            # Data parallelism waits for every parameter, also in a batch of prompts without a long view.
            return {"input_ids": None, "inputs_embeds": embeddings + 0.0 * vectors.sum()}
        order = (is_place.cumsum(1) - 1).clamp(0, vectors.shape[1] - 1)[..., None]  # which of its row's vectors a place gets
        vectors = vectors.expand(len(input_ids), -1, -1).gather(1, order.expand(-1, -1, vectors.shape[2]))
        return {"input_ids": None, "inputs_embeds": torch.where(is_place[..., None], vectors, embeddings)}

    def _embedded(self, placed: dict[str, torch.Tensor | None]) -> torch.Tensor:
        """Input embeddings (batch, length, width) of what `_placed` returned."""
        return self.embed_tokens(placed["input_ids"]) if placed["inputs_embeds"] is None else placed["inputs_embeds"]

    def _check_places(self, is_place: torch.Tensor, codes: torch.Tensor | None, is_start: bool) -> bool:
        """Whether any row has places; ValueError where places and codes do not fit."""
        tokens, name = self.config.long_view_tokens, f"long_view_token_id={self.config.long_view_token_id}"
        counts = is_place.sum(1)
        wrong = ((counts != 0) & (counts != tokens)).nonzero()[:, 0]
        if len(wrong):
            raise ValueError(
                f"row {int(wrong[0])} holds {int(counts[wrong[0]])} copies of {name}: a prompt has none, or one per vector of the long "
                f"view, {tokens} (long_view_tokens). Was it cut?"
            )
        if codes is not None and len(codes) != len(is_place):
            raise ValueError(f"long_view_codes of {len(codes)} rows for {len(is_place)} prompts")
        if codes is not None and is_start:
            lost = (codes >= 0).flatten(1).any(1) & (counts == 0)
            if bool(lost.any()):
                raise ValueError(
                    f"rows {lost.nonzero()[:, 0].tolist()} have long_view_codes, but their prompts no place for them: put {tokens} copies "
                    f"of {name} there, or {EMPTY} throughout their codes"
                )
        return bool(counts.any())


__all__ = ["EMPTY", "LongViewMixin", "LongViewResampler", "CentroidPooling"]
