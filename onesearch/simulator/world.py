"""All latent state of a market, and its sessions in blocks: the sessions of one leaf category against the items of that category.

Sums are elementwise, without matrix products, so results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .catalogue import Catalogue
from .config import ResolvedConfig
from .intents import Intents
from .users import Users
from .visits import Visits
from .vocabulary import WORD_TYPES, Vocabulary

_BLOCK_CELLS = 1_000_000
"""Largest number of (session, item) pairs in a block: bounds the memory."""
_AUDIENCE_PENALTY = np.array([[0, -1, 0, 0, 0, 0, 0], [-1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]], dtype=np.float32)
"""Taste for an audience by gender, in the order of `GENDERS` and `AUDIENCES`. The last column is for items without an audience."""


@dataclass(frozen=True)
class World:
    """All latent state of one simulated market.

    Args:
        config: the settings.
        vocabulary: words, leaf categories and brands.
        catalogue: items.
        users: users and their tastes.
        visits: user and time of every session.
        intents: leaf category and attribute that every session looks for.
    """

    config: ResolvedConfig
    vocabulary: Vocabulary
    catalogue: Catalogue
    users: Users
    visits: Visits
    intents: Intents


@dataclass(frozen=True)
class Block:
    """Sessions that look for one leaf category, against the items of that category.

    Args:
        sessions: session numbers, ``(rows,)``.
        items: item numbers, ``(columns,)``.
        match: 1 where the item has the requested attribute word, else 0, ``(rows, columns)``.
        taste: how much the user likes the item, in logits, ``(rows, columns)``.
        shown_score: score of the logging policy before its noise, ``(rows, columns)``; ``-inf`` where the item launches later.
    """

    sessions: np.ndarray
    items: np.ndarray
    match: np.ndarray
    taste: np.ndarray
    shown_score: np.ndarray


def blocks_of(world: World, sessions: np.ndarray) -> Iterator[Block]:
    """Yield blocks that together hold all given sessions once, leaf category by leaf category.

    Args:
        world: all latent state.
        sessions: session numbers, ascending, ``(sessions,)``.
    """
    leaves = world.intents.leaves[sessions]
    by_leaf = sessions[np.argsort(leaves, kind="stable")]
    bounds = np.searchsorted(np.sort(leaves), np.arange(world.config.leaves + 1))
    for leaf, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:])):
        items = world.catalogue.items_of(leaf)
        rows = max(1, _BLOCK_CELLS // len(items))
        for first in range(start, stop, rows):
            yield _score_block(world, by_leaf[first : min(first + rows, stop)], items)


def _score_block(world: World, sessions: np.ndarray, items: np.ndarray) -> Block:
    """Block of some sessions and all items of their leaf category."""
    config, catalogue = world.config, world.catalogue
    match = _match(catalogue.words[:, items], world.intents.kinds[sessions], world.intents.words[sessions])
    taste = _taste(world, world.visits.users[sessions], items)
    score = config.policy_match * match + config.policy_taste * taste
    score += np.float32(config.policy_popularity) * catalogue.log_popularity[items]
    score[world.visits.times[sessions, None] < catalogue.launches[items]] = -np.inf
    return Block(sessions, items, match, taste, score)


def _match(words: np.ndarray, kinds: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """1 where an item has the requested word, ``(rows, columns)``.

    Args:
        words: word numbers of the items, ``(types, columns)``.
        kinds: type of the word that each session requests, ``(rows,)``.
        asked: number of that word, -1 without a request, ``(rows,)``.
    """
    match = (words[kinds] == asked[:, None]).astype(np.float32)
    match[asked < 0] = 0.0
    return match


def _taste(world: World, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Taste of users for items in logits, summed over brand, style, colour, price and audience, ``(users, items)``."""
    config, catalogue, tastes, spans = world.config, world.catalogue, world.users, world.vocabulary.spans
    words = {kind: catalogue.words[WORD_TYPES.index(kind), items] for kind in ("brand", "style", "color")}
    taste = np.float32(config.brand_weight) * _brand_likings(tastes, users, words["brand"] - spans["brand"][0])
    taste += np.float32(config.style_weight) * tastes.styles[users][:, words["style"] - spans["style"][0]]
    taste += np.float32(config.color_weight) * tastes.colors[users][:, words["color"] - spans["color"][0]]
    distance = tastes.price_levels[users, None] - catalogue.price_z[items]
    taste -= np.float32(config.price_weight / 2) * np.minimum(distance * distance, np.float32(6.0))
    taste += np.float32(config.audience_weight) * _AUDIENCE_PENALTY[tastes.genders[users]][:, catalogue.audiences[items]]
    return taste


def _brand_likings(tastes: Users, users: np.ndarray, brands: np.ndarray) -> np.ndarray:
    """Liking of each item's brand, ``(users, items)``; looked up in a table of only those brands that occur among the items."""
    present, columns = np.unique(brands, return_inverse=True)
    likings = np.zeros((len(users), len(present) + 1), dtype=np.float32)
    favourites = tastes.brands[users]
    places = np.minimum(np.searchsorted(present, favourites), len(present) - 1)
    places = np.where(present[places] == favourites, places, len(present))
    for column in reversed(range(favourites.shape[1])):
        likings[np.arange(len(users)), places[:, column]] = tastes.brand_strengths[column]
    return likings[:, columns]
