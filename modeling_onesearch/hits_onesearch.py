"""What a search returns, and what each item of it scores.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_ITEMS_PER_SID = 5
"""Items that one SID expands to at most (PRQ-KMeans' evaluation protocol, arXiv 2026)."""

RANKINGS = ("sid", "item")
"""By what hits are ranked: the log-probability of their SID, the more popular of one SID first, or their own; see `log_shares`."""


@dataclass(frozen=True, slots=True)
class Hit:
    """One item found.

    Args:
        item_id: the item.
        sid: its codes, one per level.
        score: log-probability of the SID, renormalised over the allowed codes of each level; at most 0. Ranked by `item`, that of the
            item: the log of its share in the SID comes on top.
        level_scores: log-probability of each code given those before it, if asked for; they add up to that of the SID.
    """

    item_id: str
    sid: tuple[int, ...]
    score: float
    level_scores: tuple[float, ...] | None = None


def log_shares(popularity: np.ndarray) -> np.ndarray:
    """Log-probability of each item given that it is one of this SID's: (n,) → (n,).

    p(item | query) = p(SID | query) · p(item | SID). A model that emits SIDs says nothing of the second factor; popularity, one added to
    each so that no item is impossible, is our estimate. An item alone on its SID has all of it; a popularity below 0 counts as 0.
    """
    counts = np.maximum(np.asarray(popularity, dtype=np.float64), 0.0) + 1.0
    return np.log(counts / counts.sum())


__all__ = ["MAX_ITEMS_PER_SID", "RANKINGS", "Hit", "log_shares"]
