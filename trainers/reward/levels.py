"""The six interaction levels of a query and an item (OneSearch, arXiv 2509.03236, PARS), from the sessions of a market.

1. bought after the query
2. an item of the query's category, bought elsewhere: by the same user in a recommendation session before the user's next search
3. clicked after the query
4. shown after the query and not clicked
5. an item of the query's category that was not shown
6. any other item, drawn at random

The query's categories are the leaf categories of the items that were clicked or bought after it. Where the paper says "elsewhere" without a
time, "before the next search" is our choice. Each (session, item) pair has one level, the highest that applies (1 is the highest).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from onesearch.data.columns import session_entries
from onesearch.data.market import Market
from onesearch.data.requests import has_query, is_recommendation, is_search

from .negatives import NegativeSampling

LEVELS = {
    1: "bought after the query",
    2: "bought elsewhere, same category",
    3: "clicked",
    4: "shown, not clicked",
    5: "same category, not shown",
    6: "random",
}
"""Level → its meaning."""


class Interactions(NamedTuple):
    """Labelled (session, item) pairs, sorted by session and then by item.

    Attributes:
        sessions: row of each pair's session, int64 ``(pairs,)``.
        items: row of each pair's item, int64 ``(pairs,)``.
        levels: level of each pair, int8 ``(pairs,)``.
    """

    sessions: np.ndarray
    items: np.ndarray
    levels: np.ndarray

    def counts(self) -> dict[int, int]:
        """Number of pairs of each level."""
        found = np.bincount(self.levels, minlength=7)
        return {level: int(found[level]) for level in LEVELS}

    def missing(self) -> list[str]:
        """The levels that the market cannot show, in words: none of their pairs exists."""
        return [f"level {level} ({LEVELS[level]})" for level, count in self.counts().items() if not count]


def label_sessions(
    market: Market,
    leaf: np.ndarray,
    chosen: np.ndarray,
    sampling: NegativeSampling | None = None,
    beams: tuple[np.ndarray, np.ndarray] | None = None,
    seed: int = 0,
) -> Interactions:
    """Label the items of some sessions.

    Args:
        market: sessions and catalogue.
        leaf: leaf category of each item, -1 without one, int64 ``(items,)``.
        chosen: rows of the sessions to label; those without a query, or without any click or purchase, give no pair.
        sampling: number of items per level; None takes the defaults.
        beams: row of the session and row of the item of each hit of the generator, both ``(hits,)``.
        seed: seeds what is drawn; the same seed draws the same items.
    """
    sampling = sampling or NegativeSampling()
    items, sessions = len(leaf), len(market.sessions)
    wanted = np.zeros(sessions, dtype=bool)
    wanted[chosen] = True
    wanted &= has_query(market)
    events = {name: _of(session_entries(market, name), wanted) for name in ("purchased", "clicked", "impressed")}
    touched = _unique(np.concatenate([events["purchased"], events["clicked"]], axis=1), items)
    answered = np.unique(touched[0])
    rng = np.random.default_rng([seed, 15])
    categories = _categories(touched, leaf)
    parts = [
        (1, events["purchased"]),
        (2, _elsewhere(market, wanted, leaf, categories)),
        (3, events["clicked"]),
        (4, _few(events["impressed"], touched, items, answered, sampling.shown, rng)),
        (5, _same_category(categories, leaf, sampling.category, rng)),
        (6, np.stack([np.repeat(answered, sampling.random), rng.integers(0, items, len(answered) * sampling.random)])),
    ]
    if beams is not None and sampling.beam:
        hits = _some_hits(beams, answered, sampling.beam, rng)
        inside = _in_category(hits, categories, leaf)
        parts += [(5, hits[:, inside]), (6, hits[:, ~inside])]
    shown = events["impressed"][0] * items + events["impressed"][1]
    return _highest(parts, shown, items)


def tower_labels(levels: np.ndarray) -> np.ndarray:
    """Labels of click, purchase and click-and-purchase: levels 1 and 2 are (1, 1, 1), level 3 is (1, 0, 0), the others (0, 0, 0).

    Args:
        levels: int8 of any shape.

    Returns:
        float32 ``(..., 3)``.
    """
    bought, clicked = levels <= 2, levels <= 3
    return np.stack([clicked, bought, bought], axis=-1).astype(np.float32)


def _categories(touched: np.ndarray, leaf: np.ndarray) -> np.ndarray:
    """Distinct pairs of a session and a leaf category of its clicked or bought items, sorted, ``(2, pairs)``."""
    own = leaf[touched[1]]
    return _unique(np.stack([touched[0], own])[:, own >= 0], int(leaf.max(initial=0)) + 1)


def _in_category(pairs: np.ndarray, categories: np.ndarray, leaf: np.ndarray) -> np.ndarray:
    """Whether the item of each pair of a session and an item is of one of the session's `categories`, ``(pairs,)``."""
    width = int(leaf.max(initial=0)) + 2  # leaf categories are numbered from -1
    return np.isin(pairs[0] * width + leaf[pairs[1]] + 1, categories[0] * width + categories[1] + 1)


def _some_hits(beams: tuple[np.ndarray, np.ndarray], answered: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """At most `count` random hits of each answered session, ``(2, pairs)``."""
    hits = np.stack(beams).astype(np.int64)[:, np.isin(beams[0], answered)]
    return _first(hits[:, rng.permutation(hits.shape[1])], count)


def _elsewhere(market: Market, wanted: np.ndarray, leaf: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """Pairs of a search and an item of its categories that the user bought in a recommendation session before the next search.

    Steps:
        1. Sort all sessions by user and time.
        2. Give each recommendation session the latest search of its user before it.
        3. Keep its purchases whose category is one of that search's.
    """
    column = market.sessions.data.column
    recommended = is_recommendation(market)
    empty = np.zeros((2, 0), dtype=np.int64)
    if not recommended.any():
        return empty
    users = np.asarray(column("user_id").combine_chunks().dictionary_encode().indices, dtype=np.int64)
    order = np.lexsort((np.arange(len(users)), np.asarray(column("time")), users))
    searched = is_search(market)[order]
    place = np.maximum.accumulate(np.where(searched, np.arange(len(order)), -1))
    search_of = np.full(len(order), -1, dtype=np.int64)
    found = place >= 0
    found[found] = users[order[place[found]]] == users[order[found]]
    search_of[order[found]] = order[place[found]]
    sessions, items = session_entries(market, "purchased")
    kept = recommended[sessions] & (search_of[sessions] >= 0)
    pairs = np.stack([search_of[sessions[kept]], items[kept]])
    return pairs[:, wanted[pairs[0]] & _in_category(pairs, categories, leaf)]


def _same_category(categories: np.ndarray, leaf: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` random items of the categories of each session, ``(2, pairs)``."""
    sessions, own = np.unique(categories[0], return_index=True)
    if not len(sessions) or not count:
        return np.zeros((2, 0), dtype=np.int64)
    sizes = np.diff(np.append(own, categories.shape[1]))
    pick = np.repeat(own, count) + (rng.random(len(sessions) * count) * np.repeat(sizes, count)).astype(np.int64)
    drawn = categories[1][pick]
    order = np.argsort(leaf, kind="stable")
    begin, end = np.searchsorted(leaf[order], drawn), np.searchsorted(leaf[order], drawn, side="right")
    place = begin + (rng.random(len(drawn)) * (end - begin)).astype(np.int64)
    return np.stack([np.repeat(sessions, count), order[place]])


def _few(
    shown: np.ndarray, touched: np.ndarray, items: int, answered: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """At most `count` items of each answered session that were shown and neither clicked nor bought."""
    other = np.isin(shown[0], answered) & ~np.isin(shown[0] * items + shown[1], touched[0] * items + touched[1])
    kept = shown[:, other]
    return _first(kept[:, rng.permutation(kept.shape[1])], count)


def _first(pairs: np.ndarray, count: int) -> np.ndarray:
    """The first `count` pairs of each session, ``(2, pairs)``."""
    pairs = pairs[:, np.argsort(pairs[0], kind="stable")]
    _, starts, sizes = np.unique(pairs[0], return_index=True, return_counts=True)
    return pairs[:, np.arange(pairs.shape[1]) - np.repeat(starts, sizes) < count]


def _highest(parts: Sequence[tuple[int, np.ndarray]], shown: np.ndarray, items: int) -> Interactions:
    """One level per pair, the smallest number; what was shown is not at level 5 or 6."""
    keys = np.concatenate([pairs[0] * items + pairs[1] for _, pairs in parts])
    levels = np.concatenate([np.full(pairs.shape[1], level, dtype=np.int8) for level, pairs in parts])
    kept = (levels < 5) | ~np.isin(keys, shown)
    keys, levels = keys[kept], levels[kept]
    order = np.lexsort((levels, keys))
    keys, first = np.unique(keys[order], return_index=True)
    sessions, rows = np.divmod(keys, items)
    return Interactions(sessions, rows, levels[order][first])


def _of(pairs: tuple[np.ndarray, np.ndarray], wanted: np.ndarray) -> np.ndarray:
    """The pairs of the wanted sessions, ``(2, pairs)``."""
    kept = wanted[pairs[0]]
    return np.stack([pairs[0][kept], pairs[1][kept]]).astype(np.int64)


def _unique(pairs: np.ndarray, width: int) -> np.ndarray:
    """Distinct pairs, sorted, ``(2, pairs)``; the second numbers are below `width`."""
    return np.stack(np.divmod(np.unique(pairs[0] * width + pairs[1]), width))


__all__ = ["LEVELS", "Interactions", "label_sessions", "tower_labels"]
