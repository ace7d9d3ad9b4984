"""All latent state of a market, and its sessions in blocks: the sessions of one scope (leaf category or product group) and its items.

Sums are elementwise, without matrix products, so results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .catalogue import Catalogue
from .config import ResolvedConfig
from .intents import Intents
from .users import Users
from .visits import Visits
from .vocabulary import WORD_TYPES, Vocabulary
from .wishes import Wishes

_BLOCK_CELLS = 1_000_000
"""Largest number of (session, item) pairs in a block: bounds the memory."""
_AUDIENCE_PENALTY = np.array([[0, -1, 0, 0, 0, 0, 0], [-1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]], dtype=np.float32)
"""Taste for an audience by gender, in the order of `GENDERS` and `AUDIENCES`. The last column is for items without an audience."""


SEARCHES_ON = np.float32(2.5)
"""Reduction of the logit of a click in a search that does not end its mission: a user who searches again has found little."""

RECOMMENDED = np.float32(1.2)
"""Reduction of the logit of a click in a recommendation, and of that of a purchase there and in a search that does not end its mission."""


@dataclass(frozen=True)
class World:
    """All latent state of one simulated market.

    Args:
        config: the settings.
        vocabulary: words, leaf categories and brands.
        catalogue: items.
        users: users and their tastes.
        visits: user, time and agenda of every session.
        intents: leaf category and attribute that every session looks for.
        wishes: what the missions look for.
    """

    config: ResolvedConfig
    vocabulary: Vocabulary
    catalogue: Catalogue
    users: Users
    visits: Visits
    intents: Intents
    wishes: Wishes

    @cached_property
    def mission_sessions(self) -> np.ndarray:
        """Session of each mission and step, -1 past the end of the mission, ``(missions, mission_searches)``."""
        agendas = self.visits.agendas
        found = np.full((agendas.mission_count, self.config.mission_searches), -1, dtype=np.int64)
        rows = np.flatnonzero(agendas.missions >= 0)
        found[agendas.missions[rows], agendas.steps[rows]] = rows
        return found


@dataclass(frozen=True)
class Block:
    """Sessions of one scope, against the items of that leaf category or product group.

    Args:
        sessions: session numbers, ``(rows,)``.
        items: item numbers, ``(columns,)``.
        match: 1 where the item has the requested attribute word or, in a recommendation, belongs to the leaf category; else 0,
            ``(rows, columns)``.
        taste: how much the user likes the item, in logits, ``(rows, columns)``.
        fit: how well the item fits the wish of the session's mission, ``(rows, columns)``; None in a market without missions.
        less_clicked: how much lower the logit of a click is than in other sessions, ``(rows,)``.
        less_bought: how much lower the logit of a purchase is than in other sessions, ``(rows,)``.
        shown_score: score of the logging policy before its noise, ``(rows, columns)``; ``-inf`` where the item launches later.
    """

    sessions: np.ndarray
    items: np.ndarray
    match: np.ndarray
    taste: np.ndarray
    fit: np.ndarray | None
    less_clicked: np.ndarray
    less_bought: np.ndarray
    shown_score: np.ndarray


def blocks_of(world: World, sessions: np.ndarray) -> Iterator[Block]:
    """Yield blocks that together hold all given sessions once, scope by scope.

    Args:
        world: all latent state.
        sessions: session numbers, ascending, ``(sessions,)``.
    """
    scopes = world.intents.scopes[sessions]
    by_scope = sessions[np.argsort(scopes, kind="stable")]
    count = world.config.leaves + int(world.vocabulary.groups.max()) + 1
    bounds = np.searchsorted(np.sort(scopes), np.arange(count + 1))
    for scope, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:])):
        if start == stop:
            continue
        items = items_of_scope(world, scope)
        rows = max(1, _BLOCK_CELLS // len(items))
        for first in range(start, stop, rows):
            yield _score_block(world, by_scope[first : min(first + rows, stop)], items)


def items_of_scope(world: World, scope: int) -> np.ndarray:
    """Item numbers of a leaf category or, from the number of leaf categories on, of a product group."""
    if scope < world.config.leaves:
        return world.catalogue.items_of(scope)
    members = np.flatnonzero(world.vocabulary.groups == scope - world.config.leaves)
    return np.concatenate([world.catalogue.items_of(leaf) for leaf in members.tolist()])


def _score_block(world: World, sessions: np.ndarray, items: np.ndarray) -> Block:
    """Block of some sessions and all items of their scope."""
    config, catalogue, intents, agendas = world.config, world.catalogue, world.intents, world.visits.agendas
    match = _match(catalogue.facets[:, items], intents.kinds[sessions], intents.words[sessions])
    recommended = np.flatnonzero(~agendas.searched[sessions])
    match[recommended] = catalogue.leaves[items] == intents.leaves[sessions[recommended], None]
    taste = _taste(world, world.visits.users[sessions], items)
    score = config.policy_match * match + config.policy_taste * taste
    score += np.float32(config.policy_popularity) * catalogue.log_popularity[items]
    if agendas.mission_count:
        score += np.float32(config.policy_recent) * _told(world, sessions, items)
    score[world.visits.times[sessions, None] < catalogue.launches[items]] = -np.inf
    fit = world.wishes.fit(catalogue, intents.missions[sessions], items) if config.missions else None
    searches_on = (agendas.missions[sessions] >= 0) & ~agendas.ends[sessions]
    less_clicked = np.where(searches_on, SEARCHES_ON, np.where(agendas.searched[sessions], np.float32(0.0), RECOMMENDED))
    less_bought = np.where(searches_on | ~agendas.searched[sessions], RECOMMENDED, np.float32(0.0))
    return Block(sessions, items, match, taste, fit, less_clicked, less_bought, score)


def _told(world: World, sessions: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Number of wishes that an item fulfils, of those that earlier queries of a session's mission named; 0 without a mission.

    A wish is the leaf category, a word, the audience or the price band.

    Returns:
        float32 ``(sessions, items)``.
    """
    agendas, intents, facets = world.visits.agendas, world.intents, world.catalogue.facets[:, items]
    told = np.zeros((len(sessions), len(items)), dtype=np.float32)
    leaf_told = np.zeros(len(sessions), dtype=bool)
    for back in range(1, int(agendas.steps[sessions].max(initial=0)) + 1):
        rows = np.flatnonzero(agendas.steps[sessions] >= back)
        earlier = world.mission_sessions[agendas.missions[sessions[rows]], agendas.steps[sessions[rows]] - back]
        told[rows] += _match(facets, intents.kinds[earlier], intents.words[earlier])
        leaf_told[rows] |= intents.scopes[earlier] < world.config.leaves
    rows = np.flatnonzero(leaf_told)
    told[rows] += world.catalogue.leaves[items] == intents.leaves[sessions[rows], None]
    return told


def _match(facets: np.ndarray, kinds: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """1 where an item has the requested value, ``(rows, columns)``.

    Args:
        facets: values of the items for each of `FACETS`, ``(facets, columns)``.
        kinds: facet that each session requests, ``(rows,)``.
        asked: requested value, -1 without a request, ``(rows,)``.
    """
    match = (facets[kinds] == asked[:, None]).astype(np.float32)
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
