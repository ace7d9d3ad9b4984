"""What a set of codes is worth: use of the codebooks, collisions, reconstruction error. Every number says what it counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def diagnose(
    codes: np.ndarray, widths: Sequence[int], vectors: np.ndarray | None = None, decoded: np.ndarray | None = None
) -> dict[str, Any]:
    """Measures of the codes of a catalogue (OneSearch, arXiv 2509.03236, Tables 2 and 3).

    Args:
        codes: (items, levels); vectors, decoded: (items, dimension), what was encoded and what the codes stand for.

    Returns:
        * ``cur_per_prefix``: distinct prefixes of length 1, 2, … over the product of their widths (codebook utilisation rate);
        * ``used_codes_per_level``: distinct codes of each level;
        * ``icr_items``: share of items whose SID is theirs alone (the authors' code);
        * ``icr_sids``: share of distinct SIDs that one item owns (PRQ-KMeans' definition);
        * ``largest_bucket``: most items in one SID;
        * ``mse``: mean squared distance between vectors and their reconstruction, if both are given.
    """
    codes = np.asarray(codes)
    report: dict[str, Any] = {
        "items": len(codes),
        "widths": list(map(int, widths)),
        "cur_per_prefix": [],
        "used_codes_per_level": [],
    }
    combinations = 1.0
    for level, width in enumerate(widths):
        combinations *= width
        report["cur_per_prefix"].append(len(np.unique(codes[:, : level + 1], axis=0)) / combinations)
        report["used_codes_per_level"].append(len(np.unique(codes[:, level])))
    _, sizes = np.unique(codes, axis=0, return_counts=True)
    single = int((sizes == 1).sum())
    report |= {
        "distinct_sids": len(sizes),
        "icr_items": single / len(codes),
        "icr_sids": single / len(sizes),
        "largest_bucket": int(sizes.max()),
    }
    if vectors is not None and decoded is not None:
        report["mse"] = float(((vectors - decoded) ** 2).sum(axis=1).mean())
    return report
