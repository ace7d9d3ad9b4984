"""Made-up catalogues with the paper's codebook sizes, and the trie that public code searches them with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from onesearch import SidIndex

CODEBOOK_SIZES = (4096, 1024, 512, 256, 256)
"""Codes of each level (OneSearch, arXiv 2509.03236); powers of two, which `clustered` relies on."""

FINGERPRINT = "benchmark"

POPULARITY_EXPONENTS = (0.7, 1.05, 0.8, 0.5, 0.5)
"""Zipf exponent of the children of a prefix, per level: prefixes are shared about as often as residual quantisation shares them."""


def clustered(items: int, seed: int = 0) -> np.ndarray:
    """(items, levels) int16 codes. Under every prefix a few children have most of the items, others under each prefix."""
    random = np.random.default_rng(seed)
    codes = np.empty((items, len(CODEBOOK_SIZES)), dtype=np.int16)
    prefix = np.zeros(items, dtype=np.uint64)
    for level, (size, exponent) in enumerate(zip(CODEBOOK_SIZES, POPULARITY_EXPONENTS)):
        share = np.cumsum(np.arange(1, size + 1) ** -exponent)
        rank = np.searchsorted(share / share[-1], random.random(items)).astype(np.uint64)
        mixed = _mixed(prefix + np.uint64(level))
        # Rank → code: an odd factor permutes numbers modulo a power of two, so no two ranks of a prefix share a code.
        code = (rank * (mixed | np.uint64(1)) + (mixed >> np.uint64(20))) % np.uint64(size)
        codes[:, level] = code
        prefix = prefix * np.uint64(size) + code + np.uint64(1)
    return codes


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """A 64-bit hash of each number."""
    numbers = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return numbers ^ (numbers >> np.uint64(32))


def skewed(items: int, seed: int = 0) -> np.ndarray:
    """(items, levels) int16 codes, small ones more frequent, levels independent of each other."""
    return (np.random.default_rng(seed).random((items, len(CODEBOOK_SIZES))) ** 2 * CODEBOOK_SIZES).astype(np.int16)


KINDS = {"clustered": clustered, "skewed": skewed}


def names(items: int, first: int = 0) -> list[str]:
    """Item ids."""
    return [f"item-{row}" for row in range(first, first + items)]


def index_of(codes: np.ndarray, categories: Sequence[Sequence[str]] | None = None) -> SidIndex:
    """An item index without any order inside a SID."""
    return SidIndex.build(
        names(len(codes)), codes, np.zeros(len(codes), dtype=np.float32), CODEBOOK_SIZES, FINGERPRINT, categories
    )


class DictTrie:
    """Nested dicts of vocabulary ids, asked beam by beam through `generate(prefix_allowed_tokens_fn=…)`: what public code does (GENRE,
    arXiv 2010.00904, and its successors).

    Args:
        codes: (items, levels).
        offset: vocabulary id of code 0 of level 0.
        prompt_length: tokens before the SID.
    """

    def __init__(self, codes: np.ndarray, offset: int, prompt_length: int):
        self.root: dict[int, dict] = {}
        self.prompt_length = prompt_length
        for tokens in (codes + (np.cumsum((0, *CODEBOOK_SIZES[:-1])) + offset)).tolist():
            node = self.root
            for token in tokens:
                node = node.setdefault(token, {})

    def __call__(self, batch_id: int, tokens: torch.Tensor) -> list[int]:
        """Tokens that may follow."""
        node = self.root
        for token in tokens.tolist()[self.prompt_length :]:
            node = node[token]
        return list(node)
