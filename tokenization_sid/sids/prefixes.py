"""Prefixes of SIDs as numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def prefix_ids(codes: np.ndarray, codebook_sizes: Sequence[int]) -> list[np.ndarray]:
    """Number the distinct prefixes of each length.

    Args:
        codes: (n, levels).
        codebook_sizes: codebook size of each level.

    Returns:
        For the lengths 1, 2, … one array (n,): the number of each SID's prefix, from 0 without gaps, in the order of the prefixes.
    """
    found: list[np.ndarray] = []
    for level, size in enumerate(codebook_sizes):
        key = np.asarray(codes[:, level], dtype=np.int64)
        if found:
            key = key + found[-1] * int(size)
        found.append(np.unique(key, return_inverse=True)[1])
    return found


__all__ = ["prefix_ids"]
