"""Batches of labelled searches for the reward model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from onesearch.modeling_onesearch.modeling_reward_onesearch import IGNORED
from onesearch.tokenization_sid.ragged import Ragged, offsets_of
from onesearch.views.reward.inputs import UNKNOWN_GAP, RewardInputs
from onesearch.views.reward.session_columns import SessionColumns

from .levels import Interactions, tower_labels


class LabelledSearches(Dataset):
    """One example per search that has labelled items.

    Args:
        interactions: labelled pairs.
        towers: whether each tower learns; see `known_towers`.
    """

    def __init__(self, interactions: Interactions, towers: Sequence[bool] = (True, True, True)) -> None:
        self.sessions, counts = np.unique(interactions.sessions, return_counts=True)
        offsets = offsets_of(counts)
        self.items = Ragged(interactions.items, offsets)
        self.levels = Ragged(interactions.levels, offsets)
        self.towers = tuple(towers)

    def __len__(self) -> int:
        return len(self.sessions)

    def __getitem__(self, place: int) -> int:
        return place

    def padded(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Candidates ``(searches, candidates)``, -1 for padding, and labels ``(searches, candidates, 3)`` of some searches."""
        candidates = self.items.take(places).padded(-1)
        levels = self.levels.take(places).padded(0)
        labels = tower_labels(levels)
        labels[levels == 0] = IGNORED
        labels[..., [not learns for learns in self.towers]] = IGNORED
        return candidates, labels


class RewardCollator:
    """Makes the model's arguments of a batch of searches.

    Args:
        searches: labelled searches.
        columns: what was known before each.
        inputs: makes tensors of columns.
        hidden_gaps: share of the searches whose events have unknown times, so that the model learns to do without them.
        seed: seeds which searches these are.
    """

    def __init__(
        self, searches: LabelledSearches, columns: SessionColumns, inputs: RewardInputs, hidden_gaps: float = 0.0, seed: int = 0
    ) -> None:
        self.searches, self.columns, self.inputs = searches, columns, inputs
        self.hides = np.random.default_rng([seed, 17]).random(len(searches)) < hidden_gaps

    def __call__(self, places: Sequence[int]) -> dict[str, Any]:
        """The arguments of `OneSearchRewardModel.forward` with labels; `places` are numbers of searches."""
        rows = np.sort(np.asarray(places, dtype=np.int64))
        candidates, labels = self.searches.padded(rows)
        columns = self.columns.of(self.searches.sessions[rows], candidates)
        hidden = np.repeat(self.hides[rows], columns.history.lengths)
        tensors = self.inputs.tensors(columns._replace(gaps=np.where(hidden, UNKNOWN_GAP, columns.gaps)))
        return {**tensors, "labels": torch.from_numpy(labels)}


def known_towers(interactions: Interactions) -> tuple[bool, bool, bool]:
    """Whether a market can teach click, purchase, and both: each tower needs pairs with label 1 and, for clicks, pairs at level 3."""
    counts = interactions.counts()
    bought = counts[1] + counts[2] > 0
    return counts[3] > 0, bought, bought


__all__ = ["LabelledSearches", "RewardCollator", "known_towers"]
