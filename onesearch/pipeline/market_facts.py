"""Counts of a market that decide what can be trained on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from onesearch.data.languages import market_language
from onesearch.data.made_queries import UNSPACED
from onesearch.data.market import Market
from onesearch.data.requests import SPLITS, request_rows
from onesearch.data.session_pairs import session_items
from onesearch.data.text import item_texts
from onesearch.data.user_logs import UserLogs
from onesearch.trainers.tasks import TASKS
from onesearch.views.reward.facets import LEAST_ITEMS, item_facets

SHORT_HISTORY = 10
"""Number of latest items that a prompt shows as tokens; a longer history is shown as vectors. Our choice."""

REPEATS = 0.2
"""Share of the items that must have a value which other items have as well, so that a kind of facets tells a taste; our choice."""


@dataclass(frozen=True)
class SplitFacts:
    """Counts of one split.

    Args:
        requests: searches that were answered with a click or a purchase.
        purchase_requests: those of them with a purchase.
        click_requests: those of them with a click.
        purchases: pairs of a search and an item that was bought after it.
        clicks: pairs of a search and an item that was clicked after it and not bought.
        queries: distinct queries of the requests.
        pairs: distinct pairs of a query and a clicked or bought item.
        with_history: requests whose user clicked or bought something before.
        with_long_history: those of them with more than `SHORT_HISTORY` clicks and purchases before.
    """

    requests: int = 0
    purchase_requests: int = 0
    click_requests: int = 0
    purchases: int = 0
    clicks: int = 0
    queries: int = 0
    pairs: int = 0
    with_history: int = 0
    with_long_history: int = 0


@dataclass(frozen=True)
class MarketFacts:
    """Counts of a market.

    Args:
        items: number of items.
        texts: number of distinct item texts; items with equal texts cannot be told apart by their codes.
        with_text: number of items with any text.
        with_category: number of items with a category.
        with_facets: number of items with a category, brand, attribute or tag.
        words: mean number of words of an item's text.
        unspaced: share of the letters of all texts that belong to a script without blanks.
        splits: counts of the sessions by split.
        judged: number of judgements.
        repeating: kinds of facets, such as ``brand`` and ``color``, that differ between items and whose values repeat: `REPEATS` of the
            items have one that at least `LEAST_ITEMS` items share.
        language: language of the texts, for example ``en``.
    """

    items: int
    texts: int
    with_text: int
    with_category: int
    with_facets: int
    words: float
    unspaced: float
    splits: Mapping[str, SplitFacts]
    judged: int
    repeating: tuple[str, ...] = ()
    language: str = ""

    @classmethod
    def of(cls, market: Market) -> MarketFacts:
        """Count a market."""
        texts = item_texts(market)
        column = market.items.data.column
        has_category = pc.greater(pc.fill_null(pc.list_value_length(column("categories")), 0), 0).to_numpy()
        has_brand = pc.not_equal(pc.fill_null(column("brand"), ""), "").to_numpy()
        has_tags = pc.greater(pc.fill_null(pc.list_value_length(column("tags")), 0), 0).to_numpy()
        has_attributes = np.array([any((row or {}).values()) for row in column("attributes").to_pylist()], dtype=bool)
        letters = "".join(texts[:2000])
        shares = item_facets(market.items.data.table).frequent(LEAST_ITEMS).shares()
        return cls(
            items=len(texts),
            texts=len(set(texts)),
            with_text=sum(bool(text) for text in texts),
            with_category=int(has_category.sum()),
            with_facets=int((has_category | has_brand | has_tags | has_attributes).sum()),
            words=float(np.mean([len(text.split()) for text in texts] or [0])),
            unspaced=_share_unspaced(letters),
            splits={split: _split_facts(market, split) for split in SPLITS} if len(market.sessions) else _nothing(),
            judged=len(market.relevance),
            repeating=tuple(kind for kind, share in shares.items() if share >= REPEATS),
            language=market_language(market),
        )

    @property
    def train(self) -> SplitFacts:
        """Counts of the training split."""
        return self.splits["train"]

    @property
    def validation(self) -> SplitFacts:
        """Counts of the validation split."""
        return self.splits["validation"]

    def examples(self, task: str) -> int:
        """Number of training examples of a task, an upper bound for those that need a category or a Semantic ID of a query."""
        rows = TASKS[task].rows
        if rows == "requests":
            return self.train.purchases if TASKS[task].events == "purchased" else self.train.clicks
        if rows == "items" and "category" in (TASKS[task].given[1], TASKS[task].wanted[1]):
            return self.with_category
        counts = {"items": self.items, "words": self.with_text, "facets": self.with_facets, "tastes": self.items}
        counts |= dict.fromkeys(("made-queries", "matches"), self.with_text)
        return {**counts, "queries": self.train.queries, "pairs": self.train.pairs}[rows]


def _nothing() -> dict[str, SplitFacts]:
    return {split: SplitFacts() for split in SPLITS}


def _share_unspaced(letters: str) -> float:
    """Share of the letters that belong to a script without blanks."""
    ranges = [(UNSPACED[place], UNSPACED[place + 2]) for place in range(0, len(UNSPACED), 3)]
    found = sum(any(first <= letter <= last for first, last in ranges) for letter in letters)
    return found / max(sum(letter.isalpha() for letter in letters), 1)


def _split_facts(market: Market, split: str) -> SplitFacts:
    rows = request_rows(market, split)
    logs = UserLogs(market)
    count = max(len(market.items), 1)
    keys = {}
    for kind in ("purchased", "clicked"):
        sessions, items = session_items(market, split, (kind,))
        is_request = np.isin(sessions, rows)
        keys[kind] = np.unique(sessions[is_request] * count + items[is_request])
    queries = logs.query_rows[rows] if len(rows) else np.zeros(0, dtype=np.int64)
    both = np.union1d(keys["purchased"], keys["clicked"])
    pairs = np.unique(logs.query_rows[both // count] * count + both % count) if len(both) else both
    begins, ends = logs.touched.last(rows, SHORT_HISTORY + 1) if len(rows) else (queries, queries)
    lengths = ends - begins
    return SplitFacts(
        requests=len(rows),
        purchase_requests=len(np.unique(keys["purchased"] // count)),
        click_requests=len(np.unique(keys["clicked"] // count)),
        purchases=len(keys["purchased"]),
        clicks=len(np.setdiff1d(keys["clicked"], keys["purchased"])),
        queries=len(np.unique(queries)),
        pairs=len(pairs),
        with_history=int((lengths > 0).sum()),
        with_long_history=int((lengths > SHORT_HISTORY).sum()),
    )


__all__ = ["SHORT_HISTORY", "MarketFacts", "SplitFacts"]
