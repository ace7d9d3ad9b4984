"""Interactions that UniSearch learns from, by quality: the paper's reject-sampling strategy, in our reading.

The paper weights its token loss by a reject-sampling strategy and gives no formula. Here the quality of an interaction is that of its kind,
lowered where the user preferred another item of the same search; weak interactions are dropped and the rest is weighted by quality.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onesearch.data.columns import session_entries
from onesearch.data.market import Market
from onesearch.data.requests import request_rows

from .unisearch_config import EVENTS, UniSearchTrainingConfig


class Interactions(NamedTuple):
    """Examples, sorted by session and item.

    Args:
        sessions: (examples,) row of the session.
        items: (examples,) row of the item.
        weights: (examples,) float32 weight in the token loss; their mean is 1.
        dropped: number of interactions that were too weak.
    """

    sessions: np.ndarray
    items: np.ndarray
    weights: np.ndarray
    dropped: int


def accepted_interactions(market: Market, config: UniSearchTrainingConfig, split: str = "train") -> Interactions:
    """Choose and weight the interactions of one split's requests.

    Steps:
        1. Each item of a search counts once, by its strongest interaction.
        2. Its quality is that of the kind, times `config.passed_over` if another item of the search got a stronger one.
        3. Interactions below `config.least_quality` are dropped, and the weights of the others divided by their mean.

    Args:
        market: sessions and catalogue.
        config: qualities of the kinds, and thresholds.
        split: split of the sessions.

    Raises:
        ValueError: no interaction is left.
    """
    count = max(len(market.items), 1)
    strength = np.full(0, 0, dtype=np.int64)
    keys = np.full(0, 0, dtype=np.int64)
    wanted = np.zeros(len(market.sessions), dtype=bool)
    wanted[request_rows(market, split)] = True
    for place, event in enumerate(EVENTS, 1):
        sessions, items = session_entries(market, event)
        taken = wanted[sessions]
        keys = np.concatenate([keys, sessions[taken] * count + items[taken]])
        strength = np.concatenate([strength, np.full(int(taken.sum()), place)])
    order = np.lexsort((-strength, keys))
    keys, strength = keys[order], strength[order]
    first = np.ones(len(keys), dtype=bool)
    first[1:] = keys[1:] != keys[:-1]
    sessions, items = np.divmod(keys[first], count)
    strength = strength[first]
    strongest = np.zeros(len(market.sessions), dtype=np.int64)
    np.maximum.at(strongest, sessions, strength)
    by_kind = np.array([config.interactions.get(event, 0.0) for event in EVENTS])
    quality = by_kind[strength - 1]
    quality = np.where(strength < strongest[sessions], config.passed_over * quality, quality)
    kept = (quality >= config.least_quality) & (quality > 0)
    if not kept.any():
        raise ValueError(
            f"the {split} split has no interaction of quality {config.least_quality} or more: lower least_quality, or name more kinds in "
            f"interactions={config.interactions}"
        )
    weights = quality[kept] / quality[kept].mean()
    return Interactions(sessions[kept], items[kept], weights.astype(np.float32), int((~kept).sum()))


__all__ = ["Interactions", "accepted_interactions"]
