"""A user as two Semantic-ID-like signatures made from behaviour (OneSearch, arXiv 2509.03236, "User ID as SIDs").

A signature is a weighted mean of code numbers. Codes are categories, so it is a hash of what the user did lately rather than a place among
items; it gets tokens of its own and is never looked up in the catalogue.
Travels to the Hub with the tokenizer: imports nothing of this package.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .ragged import Ragged, spans


def recency_weights(count: int) -> np.ndarray:
    """(count,) weights λ_i = e^√i / Σ e^√t for i = 1 … count; the last item, the most recent, weighs most."""
    powers = np.exp(np.sqrt(np.arange(1, count + 1, dtype=np.float64)))
    return powers / powers.sum()


def user_signatures(histories: Ragged, codebook_sizes: Sequence[int]) -> np.ndarray:
    """Signatures of users: per level ⌈Σ λ_i · code_i⌉, clipped to the level.

    Args:
        histories: per user the codes (items, levels) of a sequence, oldest first; may be empty.
        codebook sizes: codes of each level.

    Returns:
        (users, levels) int64, -1 throughout for a user without items.

    Raises:
        ValueError: histories of another number of levels, or a code outside its level.
    """
    codebook_sizes = np.asarray(codebook_sizes, dtype=np.int64)
    codes, lengths = histories.values, histories.lengths
    signatures = np.full((len(histories), len(codebook_sizes)), -1, dtype=np.int64)
    if codes.ndim != 2 or codes.shape[1] != len(codebook_sizes):
        raise ValueError(f"histories hold codes of shape {codes.shape[1:]} per item, expected {len(codebook_sizes)} levels")
    if (codes < 0).any() or (codes >= codebook_sizes).any():
        row, level = np.argwhere((codes < 0) | (codes >= codebook_sizes))[0].tolist()
        raise ValueError(f"code {codes[row, level]} at level {level} is outside 0..{codebook_sizes[level] - 1}")
    filled = lengths > 0
    if not filled.any():
        return signatures
    starts = histories.offsets[:-1][filled]
    powers = np.exp(np.sqrt(spans(np.ones(len(histories), dtype=np.int64), lengths), dtype=np.float64))  # place 1 is the oldest
    totals = np.add.reduceat(powers, starts)
    means = np.add.reduceat(codes * powers[:, None], starts, axis=0) / totals[:, None]
    # Equal codes have their own number as mean; the rounding error of the sum must not lift it to the next.
    signatures[filled] = np.minimum(np.ceil(means - 1e-9).astype(np.int64), codebook_sizes - 1)
    return signatures


__all__ = ["recency_weights", "user_signatures"]
