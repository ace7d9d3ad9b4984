"""The items that a search returns, and how several items of one SID are scored.

Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MAX_ITEMS_PER_SID = 5
"""Default for the largest number of items that one SID expands to (evaluation protocol of PRQ-KMeans, arXiv 2026)."""

RANKINGS = ("sid", "item")
"""The rules by which hits are ranked.

* `sid`: by the log-probability of their SID; items of one SID by popularity.
* `item`: by the log-probability of the item itself; see `log_shares`.
"""


@dataclass(frozen=True, slots=True)
class Hit:
    """One item found by a search.

    Args:
        item_id: the item.
        sid: the codes of the item's SID, one per level.
        score: log-probability, at most 0. Ranked by `sid`, it is that of the SID. Ranked by `item`, the log of the item's share in the
            SID is added. Ranked by a reward model, it is the model's score.
        level_scores: log-probability of each code given the codes before it; None unless the search was asked for it. Their sum is the
            log-probability of the SID.
        towers: the reward model's probabilities of a click, of a purchase after a click, and of both; None unless it ranked the hits and
            the search was asked for it.
        title: title of the item. This and the following fields are for people: `Searcher.search` fills them in from the checkpoint's
            ``items.parquet``; None where it does not know the item, and in the hits of the model itself.
        brand: brand of the item.
        price: price of the item, in the currency of the shop.
        url: address of the item's page.
        image: address of a picture of the item.
    """

    item_id: str
    sid: tuple[int, ...]
    score: float
    level_scores: tuple[float, ...] | None = None
    towers: tuple[float, ...] | None = None
    title: str | None = None
    brand: str | None = None
    price: float | None = None
    url: str | None = None
    image: str | None = None

    def with_score(self, score: float, towers: tuple[float, ...] | None = None) -> Hit:
        """The same hit with another score. It is made for many hits of every search, and `dataclasses.replace` takes twice the time.

        Args:
            score: the new score.
            towers: probabilities of the reward model; None keeps those of this hit.
        """
        towers = self.towers if towers is None else towers
        facts = self.title, self.brand, self.price, self.url, self.image
        return Hit(self.item_id, self.sid, score, self.level_scores, towers, *facts)


def log_shares(popularity: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the log-probability of each item of a SID, given that the SID is right: (items,) → (items,).

    p(item | query) = p(SID | query) · p(item | SID). The model emits SIDs, so it does not give the second factor. It is estimated by the
    item's share of the SID's popularity, with 1 added to each item so that no item is impossible (our choice; the paper gives none). A
    popularity below 0 counts as 0.
    """
    counts = np.maximum(np.asarray(popularity, dtype=np.float64), 0.0) + 1.0
    return np.log(counts / counts.sum())


__all__ = ["MAX_ITEMS_PER_SID", "RANKINGS", "Hit", "log_shares"]
