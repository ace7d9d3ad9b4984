"""The matrix products that a search of an encoder-decoder cannot do without, alone: the bound that its time is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch

from onesearch import OneSearchForConditionalGeneration
from onesearch.modeling_onesearch import products_onesearch
from onesearch.modeling_onesearch.products_onesearch import linear


def products_of(
    model: OneSearchForConditionalGeneration, queries: int, tokens: int, decoder_rows: Sequence[int]
) -> list[tuple[int, int, int, int]]:
    """The products of one search, each as (number of independent ones, rows, inner size, columns).

    Args:
        model: its sizes are read.
        queries: number of prompts.
        tokens: length of each prompt.
        decoder_rows: rows that the decoder runs for at each level, over all queries.
    """
    config = model.config
    width, words = config.d_model, queries * tokens
    found = []
    for _ in range(config.encoder_layers):
        heads, size = config.encoder_attention_heads, width // config.encoder_attention_heads
        found += [(1, words, width, width)] * 4
        found += [(queries * heads, tokens, size, tokens), (queries * heads, tokens, tokens, size)]
        found += [(1, words, width, config.encoder_ffn_dim), (1, words, config.encoder_ffn_dim, width)]
    found += [(1, words, width, width)] * (2 * config.decoder_layers)  # keys and values of the cross-attention
    for level, rows in enumerate(decoder_rows):
        heads, size = config.decoder_attention_heads, width // config.decoder_attention_heads
        for _ in range(config.decoder_layers):
            found += [(1, rows, width, width)] * 6
            found += [(queries * heads, rows // queries, size, tokens), (queries * heads, rows // queries, tokens, size)]
            found += [(1, rows, width, config.decoder_ffn_dim), (1, rows, config.decoder_ffn_dim, width)]
        found.append((1, rows, width, config.sid_codebook_sizes[level]))
    return found


def runner_of(products: Sequence[tuple[int, int, int, int]], dtype: torch.dtype = torch.float32) -> Callable[[], None]:
    """A function that runs products of these shapes, with the weights in the layout of `nn.Linear`, each by the library that the model
    takes. Every product has operands of its own, as the weights of the layers are different ones."""
    prepared: list[tuple[Callable[..., torch.Tensor], torch.Tensor, torch.Tensor]] = []
    for count, rows, inner, columns in products:
        first, second = torch.randn(count, rows, inner, dtype=dtype), torch.randn(count, columns, inner, dtype=dtype)
        prepared.append((linear, first[0], second[0]) if count == 1 else (torch.bmm, first, second.transpose(1, 2)))

    @torch.no_grad()
    def run() -> None:
        for multiply, first, second in prepared:
            multiply(first, second)

    return run


@contextmanager
def without_onednn() -> Iterator[None]:
    """Products by torch's own library, as before `products_onesearch`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products_onesearch, "onednn_is_faster", lambda: False)
        yield
