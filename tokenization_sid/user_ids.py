"""A user as two signatures in the form of Semantic IDs, made from behaviour (OneSearch, arXiv 2509.03236, "User ID as SIDs").

A signature is a weighted mean of code numbers. Codes are categories, so the mean is no place among the items but a hash of what the user
did lately. It has tokens of its own and is never looked up in the catalogue.
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
    """Signatures of users: at each level ⌈Σ λ_i · code_i⌉, clipped to the codebook size.

    Args:
        histories: for each user the codes (items, levels) of a sequence, oldest first; a sequence may be empty.
        codebook_sizes: number of codes at each level.

    Returns:
        (users, levels) int64; -1 at all levels for a user without items.

    Raises:
        ValueError: the histories have another number of levels, or a code is outside its level.
    """
    sizes = np.asarray(codebook_sizes, dtype=np.int64)
    codes, lengths = histories.values, histories.lengths
    signatures = np.full((len(histories), len(sizes)), -1, dtype=np.int64)
    if codes.ndim != 2 or codes.shape[1] != len(sizes):
        raise ValueError(f"histories hold codes of shape {codes.shape[1:]} per item, expected {len(sizes)} levels")
    if (codes < 0).any() or (codes >= sizes).any():
        row, level = np.argwhere((codes < 0) | (codes >= sizes))[0].tolist()
        raise ValueError(f"code {codes[row, level]} at level {level} is outside 0..{sizes[level] - 1}")
    filled = lengths > 0
    if not filled.any():
        return signatures
    starts = histories.offsets[:-1][filled]
    powers = np.exp(np.sqrt(spans(np.ones(len(histories), dtype=np.int64), lengths), dtype=np.float64))  # place 1 is the oldest
    totals = np.add.reduceat(powers, starts)
    means = np.add.reduceat(codes * powers[:, None], starts, axis=0) / totals[:, None]
    # The mean of equal codes is that code; without the margin, the rounding error of the sum would lift it to the next one.
    signatures[filled] = np.minimum(np.ceil(means - 1e-9).astype(np.int64), sizes - 1)
    return signatures


__all__ = ["recency_weights", "user_signatures"]
