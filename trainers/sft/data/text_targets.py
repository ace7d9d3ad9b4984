"""Targets and teacher's lists for made queries: items that BM25 finds for them, so that the generator learns which items a query is about.

A query such as "laptop" is made of one laptop's title, but a shopper who types it wants any good one. Where no behaviour says which, the
text match does: weak supervision by BM25 (Dehghani et al., SIGIR 2017, arXiv 1704.08803).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from onesearch.data.market import Market
from onesearch.serving.text_index import TextIndex, require_text_search
from onesearch.tokenization_sid.ragged import Ragged, offsets_of

BEST = 10
"""Number of items of a query that can be its target; our choice."""

SHARPNESS = 10.0
"""Logarithm of the mass of an item in a teacher's list: this many times its BM25 score as a share of the query's best one. Our choice."""


class ScoredLists(NamedTuple):
    """The teacher's lists of n queries.

    Attributes:
        items: rows of the items of each list, best first, n rows.
        scores: logarithms of their masses, which need not be normalised, n rows.
    """

    items: Ragged
    scores: Ragged


class TextTargets:
    """Draws an item that fits a query, and lists those that do.

    Args:
        market: the catalogue.
        listed: number of items of a list, at least `BEST`.

    Raises:
        MissingExtraError: the extra ``evaluation`` is not installed.
    """

    def __init__(self, market: Market, listed: int = BEST) -> None:
        require_text_search("a task or teacher that reads the text match")
        self._listed = max(listed, BEST)
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
        rows = self._best(query)[0][:BEST]
        if not rows:
            return item
        sums = _SUMS[: len(rows)]
        return rows[int(np.searchsorted(sums, random.random() * sums[-1], side="right"))]

    def lists(self, queries: Sequence[str]) -> ScoredLists:
        """The items that BM25 finds for each query, as a teacher's lists; empty where no item shares a term with the query."""
        found = [self._best(query) for query in queries]
        offsets = offsets_of(np.array([len(rows) for rows, _ in found], dtype=np.int64))
        items = np.array([row for rows, _ in found for row in rows], dtype=np.int64)
        scores = np.array([score for _, own in found for score in own], dtype=np.float32)
        return ScoredLists(Ragged(items, offsets), Ragged(scores, offsets))

    def _search(self, query: str) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Rows of the items and logarithms of their masses."""
        ranked = self._index.ranked(query, self._listed)
        best = ranked[0][1] if ranked else 1.0
        return tuple(self._row_of[item_id] for item_id, _ in ranked), tuple(SHARPNESS * score / best for _, score in ranked)


_SUMS = np.cumsum(1 / np.log2(np.arange(2, BEST + 2)))

__all__ = ["BEST", "ScoredLists", "TextTargets"]
