"""Users and queries of a market that the search page offers to try."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc

from onesearch.data.market import Market
from onesearch.data.requests import SPLITS, Request, build_requests

EXAMPLES = 8
"""Number of queries that the page offers; our choice."""

FREQUENT = 3
"""Least number of sessions with a query that the page offers, so that it shows nobody's private words; our choice."""

HISTORY = 20
"""Number of latest items of a user that the page shows."""


def shoppers(market: Market, count: int) -> list[dict[str, Any]]:
    """Choose users with a history, each as it was before the user's last request of the test split.

    Args:
        market: sessions.
        count: largest number of users; those of the latest requests come first.

    Returns:
        For each: user id, profile, the latest items, earlier queries, the query of that request, and the items bought or clicked in it.
    """
    if count < 1:
        return []
    for split in reversed(SPLITS):
        requests = build_requests(market, split)
        chosen: dict[str, Request] = {}
        for request in reversed(requests):
            if len(chosen) == count:
                break
            if len(request.history) >= 2:
                chosen.setdefault(request.user_id, request)
        if chosen:
            return [_described(request) for request in chosen.values()]
    return []


def _described(request: Request) -> dict[str, Any]:
    return {
        "user_id": request.user_id,
        "profile": list(request.context.profile),
        "history": list(request.history[-HISTORY:]),
        "purchased": list(request.context.purchased[-HISTORY:]),
        "queries": list(request.context.queries[-5:]),
        "query": request.query,
        "wanted": list(request.purchased or request.clicked),
    }


def example_queries(market: Market) -> list[str]:
    """Return the most frequent queries of a market, the most frequent first."""
    counted = pc.value_counts(market.sessions.data.column("query")).to_pylist()
    frequent = [(entry["counts"], entry["values"]) for entry in counted if entry["values"] and entry["values"].strip()]
    frequent = sorted((entry for entry in frequent if entry[0] >= FREQUENT), key=lambda entry: (-entry[0], entry[1]))
    return [query for _, query in frequent[:EXAMPLES]]


__all__ = ["example_queries", "shoppers"]
