"""What the search page asks for once: the catalogue's name and categories, queries to try, and users to search as."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pyarrow.compute as pc

from onesearch.data.languages import market_language

from .service import SearchService
from .shoppers import example_queries, shoppers

MOST_CATEGORIES = 500
"""Largest number of categories that the page offers, the most frequent ones; our choice."""


class PageData:
    """Data of the search page.

    Args:
        service: the service.
        shoppers: largest number of users that the page shows with their histories. Whoever reaches the page can read them.
    """

    def __init__(self, service: SearchService, shoppers: int) -> None:
        self.service, self.most_shoppers = service, shoppers

    def catalogue(self) -> dict[str, Any]:
        """The catalogue as the page shows it."""
        market, searcher = self.service.model.market, self.service.searcher
        rankings = ["served"]
        if searcher.config.rerank:
            rankings.append("beam")
        if self.service.text_index is not None:
            rankings.append("text")
        return {
            "name": str(market.info.get("name", "")) if market else self.service.model.checkpoint.name,
            "language": market_language(market) if market else "en",
            "items": len(self.service.index),
            "categories": self._categories,
            "codebook_sizes": list(self.service.index.codebook_sizes),
            "num_beams": searcher.num_beams,
            "reward_model": searcher.config.rerank,
            "rankings": rankings,
            "examples": self._examples,
            "shoppers": self.most_shoppers > 0,
        }

    @cached_property
    def shoppers(self) -> list[dict[str, Any]]:
        """The users, with the details of their items."""
        market = self.service.model.market
        if market is None:
            return []
        found = shoppers(market, self.most_shoppers)
        for shopper in found:
            for part in ("history", "purchased"):
                unknown = set(self.service.unknown_items(shopper[part]))
                shopper[part] = [item for item in shopper[part] if item not in unknown]
            items = shopper["history"]
            sids, details = self.service.index.codes_of(items).tolist(), self.service.details.of(items)
            shopper["history"] = [{"item_id": item, "sid": sid, **detail} for item, sid, detail in zip(items, sids, details)]
        return found

    @cached_property
    def _examples(self) -> list[str]:
        market = self.service.model.market
        return [] if market is None else example_queries(market)

    @cached_property
    def _categories(self) -> list[str]:
        """Names of categories, those with most items first."""
        market, known = self.service.model.market, self.service.index.categories
        if market is None:
            return known[:MOST_CATEGORIES]
        names = pc.list_flatten(market.items.data.column("categories"))
        counted = pc.value_counts(names).to_pylist()
        order = np.argsort([-entry["counts"] for entry in counted], kind="stable").tolist()
        allowed = set(known)
        return [counted[place]["values"] for place in order if counted[place]["values"] in allowed][:MOST_CATEGORIES]


__all__ = ["PageData"]
