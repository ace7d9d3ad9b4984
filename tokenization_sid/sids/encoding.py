"""Codes of all rows of a run, computed by one process or by several together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from onesearch.data.market import Market
from onesearch.data.text import item_texts
from onesearch.files import RunFolder

from ..embedding.embeddings import distinct_queries, embedding_rows
from ..keywords.keyword_files import KEYWORDS_NAME, load_keywords
from ..keywords.keywords import CoreKeywords
from ..parallel.rows import ShardedRows
from ..parallel.shared_rows import make_rows
from ..quantizers.base import Quantizer
from ..quantizers.loading import load_quantizer
from .sid_folder import new_folder

if TYPE_CHECKING:
    from accelerate import Accelerator

ROWS_PER_BLOCK = 4096
"""Number of rows that one of several processes encodes at a time."""


def encode_rows(
    quantizer: Quantizer[Any], count: int, vectors: Callable[[slice], np.ndarray], accelerator: Accelerator | None
) -> np.ndarray:
    """Encode rows; each process encodes a part of them, and all processes get all codes.

    Args:
        quantizer: trained quantizer.
        count: number of rows.
        vectors: gives the vectors (rows, dimension) of a slice.
        accelerator: its processes share the rows; None encodes all of them in this process.

    Returns:
        (count, levels) int32, in every process.
    """
    nothing = np.zeros((0, len(quantizer.config.codebook_sizes)), dtype=np.int32)

    def codes(block: slice) -> np.ndarray:
        return quantizer.encode(vectors(block)) if block.stop > block.start else nothing

    # One process needs no blocks: the quantizer itself cuts rows.
    return make_rows(count, ROWS_PER_BLOCK if accelerator is not None else max(count, 1), codes, accelerator)


def encode_share(run: RunFolder, accelerator: Accelerator) -> None:
    """Work of a process other than the main one: wait for the codebooks, then encode a share of the items and queries."""
    market = Market.load(run.require("market", "onesearch data"))
    accelerator.wait_for_everyone()
    folder = new_folder(run)
    quantizer = load_quantizer(folder)
    core = load_keywords(folder / KEYWORDS_NAME, quantizer.fingerprint)
    texts, further = item_texts(market), core.further_texts(market.items.with_format("arrow")[:])
    rows = embedding_rows(run, "items")
    encode_rows(quantizer, len(rows), partial(_fused, core, texts, further, rows), accelerator)
    queries, rows = distinct_queries(market), embedding_rows(run, "queries")
    encode_rows(quantizer.for_queries, len(rows), partial(_fused, core, queries, [()] * len(queries), rows), accelerator)


def _fused(
    core: CoreKeywords, texts: Sequence[str], further: Sequence[Sequence[str]], rows: ShardedRows, block: slice
) -> np.ndarray:
    """Vectors (rows, dimension) of a block with keywords fused in."""
    return core.fuse(texts[block], rows[block], further[block])


__all__ = ["encode_rows", "encode_share"]
