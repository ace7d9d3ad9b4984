"""Targets for made queries: items that BM25 finds for them, so that the generator learns which items a query is about.

A query such as "laptop" is made of one laptop's title, but a shopper who types it wants any good one. Where no behaviour says which, the
text match does: weak supervision by BM25 (Dehghani et al., SIGIR 2017, arXiv 1704.08803).
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from onesearch.data.market import Market
from onesearch.serving.text_index import TextIndex, require_text_search

BEST = 10
"""Number of items of a query that can be its target; our choice."""


class TextTargets:
    """Draws an item that fits a query.

    Args:
        market: the catalogue.

    Raises:
        MissingExtraError: the extra ``evaluation`` is not installed.
    """

    def __init__(self, market: Market) -> None:
        require_text_search("the task item-matches")
        self._index = TextIndex.of(market)
        self._row_of = {item_id: row for row, item_id in enumerate(self._index.item_ids)}
        self._best = lru_cache(maxsize=200_000)(self._search)

    def draw(self, query: str, item: int, random: np.random.Generator) -> int:
        """Row of one of the `BEST` items of the text index; the item at rank r counts 1 / log₂(r + 1), its discount in DCG.

        Args:
            query: words of the query.
            item: row that is returned where no item shares a term with the query.
            random: source of the sampling.
        """
        rows = self._best(query)
        if not rows:
            return item
        sums = _SUMS[: len(rows)]
        return rows[int(np.searchsorted(sums, random.random() * sums[-1], side="right"))]

    def _search(self, query: str) -> tuple[int, ...]:
        return tuple(self._row_of[item_id] for item_id in self._index.search(query, BEST))


_SUMS = np.cumsum(1 / np.log2(np.arange(2, BEST + 2)))

__all__ = ["BEST", "TextTargets"]
