"""The check that a sound market has requests to train on and to measure."""

from __future__ import annotations

from collections.abc import Iterator

from .column_checks import Problem
from .market import Market
from .requests import request_rows

NEEDED = {"train": "training", "test": "evaluation"}
"""Split → stage that fails or measures nothing without a request of it."""


def check_requests(market: Market) -> Iterator[Problem]:
    """Find splits without requests. A market without sessions, or with the split ``none``, is meant for judgements or training only.

    Args:
        market: market without any other problem.
    """
    method = market.info.get("split", {}).get("method", "none")
    if not len(market.sessions) or method == "none":
        return
    for split, stage in NEEDED.items():
        if not len(request_rows(market, split)):
            message = (
                f"no session of the {split} split is a request (a query with a click or purchase), which {stage} needs; "
                f"the split is {market.info['split']} of {len(market.sessions)} sessions: change it, or add sessions"
            )
            yield Problem("sessions", None, "no_requests", message)


__all__ = ["check_requests"]
