"""Modules of the long view: frozen centroids that pool long item sequences, and a resampler that turns the pooled sequences into vectors.

The paper (OneSearch, arXiv 2509.03236, "Multi-view behaviour sequences") sums the centroids of a sequence at each residual level, and a
Q-Former turns the sums into `N_M` vectors. Here the sum is a mean followed by a LayerNorm: a sum over 1,000 items would dwarf all other
inputs. Depth, width, initial scales and the vector for an empty long view are our choice; the paper gives none.
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
"""Code that stands for "no item" in `long_view_codes`."""


class CentroidPooling(nn.Module):
    """Mean centroid of each item sequence at each level.

    The centroids are a buffer, not a parameter: nothing trains them (an adapter's `modules_to_save` makes every parameter of a module
    trainable), and they are saved, loaded and moved with the weights.

    Args:
        codebook_sizes: number of centroids of each level.
        dim: dimension of a centroid.
        sequences: number of item sequences per row.
    """

    centroids: torch.Tensor
    """(sum of the codebook sizes, dim) centroids of all levels, one level after the other."""

    def __init__(self, codebook_sizes: Sequence[int], dim: int, sequences: int) -> None:
        super().__init__()
        self.codebook_sizes = tuple(codebook_sizes)
        self.sequences = sequences
        self.register_buffer("centroids", torch.zeros(sum(codebook_sizes), dim))
        self.is_filled = False  # computed at first use: the centroids may also come from a checkpoint

    def set_centroids(self, tables: Sequence[np.ndarray | torch.Tensor]) -> None:
        """Copy the codebooks into the buffer.

        Args:
            tables: (codebook size, dim) centroids of each level.

        Raises:
            ValueError: a shape differs from the configuration, or the values are not finite or all zero.
        """
        expected = [(size, self.centroids.shape[1]) for size in self.codebook_sizes]
        found = [tuple(table.shape) for table in tables]
        if found != expected:
            raise ValueError(
                f"centroid tables of shapes {found}, the model needs {expected}: one per level of long_view_levels, of the sizes in "
                "sid_codebook_sizes and of long_view_dim columns"
            )
        joined = torch.cat([torch.as_tensor(table).float() for table in tables])
        if not joined.isfinite().all() or not joined.any():
            raise ValueError("the centroid tables hold values that are not finite, or only zeros")
        with torch.no_grad():
            self.centroids.copy_(joined)

    def forward(self, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pool item sequences.

        The mean is a histogram of the codes times the centroids. Counts are whole numbers, so neither the order of the items nor the place
        of the padding changes a bit of the result, and no tensor of shape (items, dim) is made.

        1. Each code becomes a row of the joint table of centroids; padding becomes an extra last row.
        2. The rows of each sequence are counted.
        3. At each level, counts times centroids, divided by the sum of the counts.

        Args:
            codes: (batch, sequences, items, levels), -1 at all levels where there is no item.

        Returns:
            Means (batch, sequences, levels, dim), 0 for an empty sequence, and whether a sequence has an item (batch, sequences).

        Raises:
            ValueError: `codes` has another shape or type, a code is out of range, or the centroids were never set.
        """
        if not is_torchdynamo_compiling():
            self._check(codes)
        codes, batch, rows = codes.long(), codes.shape[0], sum(self.codebook_sizes)
        starts = codes.new_tensor([sum(self.codebook_sizes[:level]) for level in range(len(self.codebook_sizes))])
        places = torch.where(codes >= 0, codes + starts, rows).reshape(batch * self.sequences, -1)
        with torch.no_grad(), torch.autocast(codes.device.type, enabled=False):  # half precision cannot count to 1,000
            table = self.centroids.float()
            ones = table.new_ones(()).expand(places.shape)
            counts = table.new_zeros(places.shape[0], rows + 1).scatter_add_(1, places, ones)[:, :rows]
            levels = zip(counts.split(self.codebook_sizes, dim=1), table.split(self.codebook_sizes))
            means = [count @ centroids / count.sum(1, keepdim=True).clamp(min=1) for count, centroids in levels]
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
        for level, size in enumerate(self.codebook_sizes):
            low, high = codes[..., level].aminmax()
            if low < EMPTY or high >= size:
                raise ValueError(
                    f"long_view_codes of level {level} lie in [{low}, {high}], allowed are 0..{size - 1}, and {EMPTY} for no item; codes "
                    "count from 0 within their level, without the vocabulary's offset"
                )
        missing = codes < 0
        if not torch.equal(missing.any(-1), missing.all(-1)):
            raise ValueError(f"long_view_codes: an item has codes at all levels or {EMPTY} at all of them")
        self.is_filled = self.is_filled or bool(self.centroids.any())
        if not self.is_filled and not bool(missing.all()):
            raise ValueError("the model has no centroids for its long view yet: call model.set_long_view_centroids(tables)")


class LongViewResampler(nn.Module):
    """Q-Former: `long_view_tokens` learned queries attend to the pooled sequences and become vectors of the model's width.

    Args:
        layout: configuration with the fields of the long view.
        width: width of the model's hidden states.
        heads: attention heads of the model; `width` must be divisible by it.
        dropout: dropout probability of the model.
        scale: initial size of the vectors' entries, that of the input embeddings which they stand among.

    Raises:
        ValueError: `width` is not divisible by `heads`.
    """

    def __init__(self, layout: LongViewFields, width: int, heads: int, dropout: float, scale: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"the model's width {width} must be divisible by its {heads} heads, which the long view shares")
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
        """Draw initial weights: content, slots and queries get entries of size 1 at any width, the vectors those of size `scale`.

        The scheme is our choice; the paper gives none.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                init.normal_(module.weight, std=module.in_features**-0.5)
        for parameter in (self.slots, self.nothing, self.queries):
            init.normal_(parameter)
        init.constant_(self.norm.weight, self.scale)

    def forward(self, pooled: torch.Tensor, held: torch.Tensor) -> torch.Tensor:
        """Turn pooled sequences into vectors for the prompt.

        Args:
            pooled: (batch, sequences, levels, dim) means of [`CentroidPooling`].
            held: (batch, sequences), False where a sequence is empty; attention does not see it then.

        Returns:
            (batch, long_view_tokens, width).
        """
        batch, levels = pooled.shape[0], pooled.shape[2]
        memory = self.project(self.pooled_norm(pooled.to(self.queries.dtype))) + self.slots
        memory = self.memory_norm(torch.cat([memory.flatten(1, 2), self.nothing.expand(batch, 1, -1)], dim=1))
        visible = torch.cat([held.repeat_interleave(levels, dim=1), held.new_ones(batch, 1)], dim=1)[:, None, None, :]
        hidden = self.queries.expand(batch, -1, -1)
        for block in self.blocks:
            hidden = block(hidden, memory, visible)
        return self.norm(hidden)


class _Block(nn.Module):
    """Self-attention of the queries, cross-attention to the pooled sequences, and a feed-forward layer of four times the width."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
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
    """Attention whose modules have BLIP-2's names, so that an adapter of the backbone's `q_proj` or `out_proj` leaves them alone."""

    def __init__(self, width: int, heads: int) -> None:
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


__all__ = ["EMPTY", "CentroidPooling", "LongViewResampler"]
