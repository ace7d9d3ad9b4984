"""All latent state of a market, and its sessions in blocks: the sessions of one leaf category against its items.

Sums run elementwise, without matrix products, so that results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .catalogue import Catalogue
from .config import SimulatorConfig
from .intents import Intents
from .users import Users
from .visits import Visits
from .vocabulary import WORD_TYPES, Vocabulary

_BLOCK_CELLS = 1_000_000
_AUDIENCE_PENALTY = np.array([[0, -1, 0, 0, 0, 0, 0], [-1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]], dtype=np.float32)
"""Gender by audience, in the order of `GENDERS` and `AUDIENCES`; the last column stands for no audience."""


@dataclass(frozen=True)
class World:
    """All latent state of one simulated market."""

    config: SimulatorConfig
    vocabulary: Vocabulary
    catalogue: Catalogue
    users: Users
    visits: Visits
    intents: Intents


@dataclass(frozen=True)
class Block:
    """Sessions of one leaf category against its items.

    Args:
        sessions: session numbers, (rows,).
        items: item numbers, (columns,).
        match: 1 where the item has the word asked for, (rows, columns).
        taste: how much the user likes the item, in logits, (rows, columns).
        shown_score: what the engine that chose the lists ranks by, before its noise, (rows, columns); -inf before launch.
    """

    sessions: np.ndarray
    items: np.ndarray
    match: np.ndarray
    taste: np.ndarray
    shown_score: np.ndarray


def blocks_of(world: World, sessions: np.ndarray) -> Iterator[Block]:
    """Blocks that cover `sessions` (numbers, ascending), leaf by leaf, of bounded size."""
    leaves = world.intents.leaves[sessions]
    by_leaf = sessions[np.argsort(leaves, kind="stable")]
    bounds = np.searchsorted(np.sort(leaves), np.arange(world.config.leaves + 1))
    for leaf, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:])):
        items = world.catalogue.items_of(leaf)
        rows = max(1, _BLOCK_CELLS // len(items))
        for first in range(start, stop, rows):
            yield _score_block(world, by_leaf[first : min(first + rows, stop)], items)


def _score_block(world: World, sessions: np.ndarray, items: np.ndarray) -> Block:
    config, catalogue = world.config, world.catalogue
    match = _match(catalogue.words[:, items], world.intents.kinds[sessions], world.intents.words[sessions])
    taste = _taste(world, world.visits.users[sessions], items)
    score = config.policy_match * match + config.policy_taste * taste
    score += np.float32(config.policy_popularity) * catalogue.log_popularity[items]
    score[world.visits.times[sessions, None] < catalogue.launches[items]] = -np.inf
    return Block(sessions, items, match, taste, score)


def _match(words: np.ndarray, kinds: np.ndarray, asked: np.ndarray) -> np.ndarray:
    match = (words[kinds] == asked[:, None]).astype(np.float32)
    match[asked < 0] = 0.0
    return match


def _taste(world: World, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Sum of what the users think of brand, style, colour, price and audience, (users, items)."""
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
    """Liking of each item's brand, through a table of the few brands that occur here, (users, items)."""
    present, columns = np.unique(brands, return_inverse=True)
    likings = np.zeros((len(users), len(present) + 1), dtype=np.float32)
    favourites = tastes.brands[users]
    places = np.minimum(np.searchsorted(present, favourites), len(present) - 1)
    places = np.where(present[places] == favourites, places, len(present))
    for column in reversed(range(favourites.shape[1])):
        likings[np.arange(len(users)), places[:, column]] = tastes.brand_strengths[column]
    return likings[:, columns]
