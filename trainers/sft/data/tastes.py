"""Made users: a history of items that share facets with the target, and a short query, so that a model learns what a taste says of items.

In the log each item is bought a few times, which is little to learn from how brand, style or price of a history lead to an item. Here every
item of the catalogue is a target as often as wanted, for users who love some of its facets. Our addition; the papers have none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from onesearch.data.made_queries import facets_of
from onesearch.data.market import Market
from onesearch.tokenization_sid.ragged import Ragged, offsets_of
from onesearch.views.reward.facets import item_facets

LOVED = 0.5
"""Probability that a made user loves a facet of the target; our choice."""

ALIKE = 0.7
"""Probability that an item of a made history has a loved facet; any other item is drawn from the whole catalogue. Our choice."""

NAMED = 0.5
"""Probability that a made query names an attribute of the target beside its category; our choice."""

BOUGHT = 0.3
"""Probability that an item of a made history was bought, not only clicked; our choice."""

LONGEST = 20
"""Largest number of items of a made history; each length from 1 on is drawn equally often. Our choice."""


class MadeUsers(NamedTuple):
    """Made users, one per target.

    Attributes:
        queries: text of each query.
        items: rows of the items of each history, oldest first.
        bought: whether each of them was bought, aligned with ``items.values``.
    """

    queries: list[str]
    items: Ragged
    bought: np.ndarray


class Tastes:
    """Draws made users.

    Args:
        market: its items; those without any facet that another item shares have histories of random items.
        longest: largest number of items of a history, at most `LONGEST`.
    """

    def __init__(self, market: Market, longest: int) -> None:
        facets = item_facets(market.items.data.table).frequent(2)
        self.of_items, self.count, self.longest = facets.of_items, len(market.items), max(min(longest, LONGEST), 1)
        owner = np.repeat(np.arange(self.count), self.of_items.lengths)
        order = np.argsort(self.of_items.values, kind="stable")
        counts = np.bincount(self.of_items.values, minlength=len(facets.kind_of))
        self.with_facet = Ragged(owner[order], offsets_of(counts))  # rows of the items that have each facet
        self.words = facets_of(market)

    def draw(self, targets: np.ndarray, random: np.random.Generator) -> MadeUsers:
        """One user for each target, (n,) rows of items."""
        histories = [self._history(int(target), random) for target in targets]
        items = Ragged.of(histories)
        queries = [self._query(self.words[target], random) for target in targets.tolist()]
        return MadeUsers(queries, items, random.random(len(items.values)) < BOUGHT)

    def _history(self, target: int, random: np.random.Generator) -> np.ndarray:
        """Rows of the items of a user who loves some facets of the target; the target itself is left out."""
        length = int(random.integers(1, self.longest + 1))
        items = random.integers(0, self.count, length)
        facets = self.of_items[target]
        loved = facets[random.random(len(facets)) < LOVED]
        if len(loved):
            chosen = loved[random.integers(0, len(loved), length)]
            begin, end = self.with_facet.offsets[chosen], self.with_facet.offsets[chosen + 1]
            alike = self.with_facet.values[begin + (random.random(length) * (end - begin)).astype(np.int64)]
            items = np.where(random.random(length) < ALIKE, alike, items)
        return items[items != target]

    @staticmethod
    def _query(words: Sequence[str], random: np.random.Generator) -> str:
        """The category of an item, with one of its other facets before it or without."""
        if not words:
            return ""
        category, others = words[0], words[1:]
        if others and random.random() < NAMED:
            return f"{others[int(random.integers(len(others)))]} {category}".lower()
        return category.lower()


__all__ = ["MadeUsers", "Tastes"]
