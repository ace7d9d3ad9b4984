"""Judged queries by how often their words stand in the titles of relevant items.

Where they do, a text index finds these items; where they do not, a search must know the meaning of the words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from onesearch.data.languages import market_language
from onesearch.data.market import Market

from .analysis import make_tokenizer

GROUPS = ("up to a third", "a third to two thirds", "above two thirds")
"""Names of the groups of `title_word_groups`."""


def title_word_shares(market: Market, queries: Sequence[str], relevant: Sequence[Mapping[str, float]]) -> np.ndarray:
    """Share of each query's relevant items whose title has every term of the query, float64 ``(queries,)``; NaN without a relevant item.

    Args:
        market: catalogue; terms are made as BM25 makes them in its language.
        queries: n queries.
        relevant: relevant items of each.

    Raises:
        MissingExtraError: the extra ``evaluation`` is not installed.
    """
    terms = make_tokenizer(market_language(market))
    columns = (market.items.data.column(name).to_pylist() for name in ("item_id", "title"))
    wanted = {item for items in relevant for item in items}
    titles = {item: set(terms(title or "")) for item, title in zip(*columns) if item in wanted}
    shares = np.full(len(queries), np.nan)
    for place, (query, items) in enumerate(zip(queries, relevant)):
        if items:
            words = set(terms(query))
            shares[place] = np.mean([words <= titles.get(item, set()) for item in items])
    return shares


def title_word_groups(shares: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of the queries in each of `GROUPS`, which holds a share of up to 1/3, of up to 2/3, or above; empty groups are left out."""
    group = np.where(np.isnan(shares), -1, np.digitize(shares, [1 / 3, 2 / 3], right=True))
    rows = {name: np.flatnonzero(group == number) for number, name in enumerate(GROUPS)}
    return {name: own for name, own in rows.items() if len(own)}


__all__ = ["GROUPS", "title_word_groups", "title_word_shares"]
