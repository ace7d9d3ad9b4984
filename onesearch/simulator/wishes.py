"""Draws the wishes of missions: all searches of a mission look for the same wishes, and each query names only a part of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .catalogue import Catalogue
from .config import ResolvedConfig
from .visits import Visits
from .vocabulary import AUDIENCE, FACETS, PRICE, WORD_TYPES

FIT_WEIGHTS = np.array([1.0] * len(WORD_TYPES) + [0.5, 0.5], dtype=np.float32)
"""Share in the fit of each of `FACETS`: attribute words count fully, audience and price band by half."""

OTHER_LEAF = np.float32(-3.0)
"""Fit of an item of another leaf category than the wished one."""

WITHOUT_WISH = np.float32(0.4)
"""Fit of every item in a session without a mission: about that of the items shown in missions, so that both sell about equally well."""


@dataclass(frozen=True)
class Wishes:
    """Wishes of all missions, in the order in which queries name them: words and the audience in random order, then the price band.

    Args:
        leaves: wished leaf category, ``(missions,)``.
        kinds: facet of each wish, a row of `FACETS`; -1 for none, ``(missions, mission_wishes + 2)``.
        values: wished value of that facet; -1 for none, ``(missions, mission_wishes + 2)``.
    """

    leaves: np.ndarray
    kinds: np.ndarray
    values: np.ndarray

    def fit(self, catalogue: Catalogue, missions: np.ndarray, items: np.ndarray) -> np.ndarray:
        """How well items fit wishes: the sum of the weights of the facets that agree.

        Args:
            catalogue: all items.
            missions: mission of each row, -1 without one, ``(rows,)``.
            items: item numbers, ``(columns,)``.

        Returns:
            float32 ``(rows, columns)``; `WITHOUT_WISH` in rows without a mission.
        """
        fit = np.full((len(missions), len(items)), WITHOUT_WISH)
        rows = np.flatnonzero(missions >= 0)
        wanted, facets = missions[rows], catalogue.facets[:, items]
        own = np.where(catalogue.leaves[items] == self.leaves[wanted, None], np.float32(0.0), OTHER_LEAF)
        for column in range(self.kinds.shape[1]):
            kinds, values = self.kinds[wanted, column], self.values[wanted, column]
            agrees = (facets[kinds] == values[:, None]) & (values >= 0)[:, None]
            own += np.where(agrees, FIT_WEIGHTS[kinds][:, None], np.float32(0.0))
        fit[rows] = own
        return fit

    def asked(self, missions: np.ndarray, turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The wish that a query names. Queries of a mission take turns through its wishes, so that each names another.

        Args:
            missions: mission of each query, ``(queries,)``.
            turns: number of queries of the mission before, ``(queries,)``.

        Returns:
            Facet and value, both ``(queries,)``.
        """
        present = self.values[missions] >= 0
        columns = np.argsort(~present, axis=1, kind="stable")
        taken = columns[np.arange(len(missions)), turns % np.maximum(present.sum(axis=1), 1)]
        return self.kinds[missions, taken], self.values[missions, taken]

    def audiences(self, missions: np.ndarray) -> np.ndarray:
        """Wished audience of some missions, -1 without one, ``(missions,)``."""
        return np.where(self.kinds[missions] == AUDIENCE, self.values[missions], -1).max(axis=1)


def draw_wishes(config: ResolvedConfig, catalogue: Catalogue, visits: Visits, leaves: np.ndarray, shares: np.ndarray) -> Wishes:
    """Draw the wish of every mission: some of the facets of an example item, so that at least one item fits completely.

    Args:
        config: settings.
        catalogue: all items.
        visits: missions of the sessions.
        leaves: category that each session would look for on its own, ``(sessions,)``; a mission takes that of its first search, or with
            the probability `mission_explore` any category.
        shares: how often a query asks for each of the types of words, ``(types,)``.
    """
    rng = config.stream("wishes")
    agendas = visits.agendas
    count = agendas.mission_count
    first = np.zeros(count, dtype=np.int64)
    begins = np.flatnonzero((agendas.missions >= 0) & (agendas.steps == 0))
    first[agendas.missions[begins]] = begins
    anywhere = rng.integers(0, config.leaves, count)
    wanted = np.where(rng.random(count) < config.mission_explore, anywhere, leaves[first]).astype(np.int32)
    sizes = np.diff(catalogue.offsets)[wanted]
    examples = catalogue.order[catalogue.offsets[wanted] + (rng.random(count) * sizes).astype(np.int64)]
    facets = catalogue.facets[:, examples].T
    noisy = np.log(shares) + rng.gumbel(size=(count, len(WORD_TYPES)))
    noisy[facets[:, : len(WORD_TYPES)] < 0] = -np.inf
    kinds = np.argsort(-noisy, axis=1, kind="stable")[:, : config.mission_wishes]
    kinds = rng.permuted(np.concatenate([kinds, np.full((count, 1), AUDIENCE)], axis=1), axis=1)
    kinds = np.concatenate([kinds, np.full((count, 1), PRICE)], axis=1)
    values = np.take_along_axis(facets, kinds, axis=1)
    return Wishes(wanted, np.where(values >= 0, kinds, -1).astype(np.int8), values.astype(np.int32))


def running_missions(visits: Visits) -> tuple[np.ndarray, np.ndarray]:
    """Find what a recommendation may follow.

    Returns:
        For every session, the latest earlier search of its user (-1 without one), and the mission that this search leaves unfinished
        (-1 without one), both ``(sessions,)``.
    """
    agendas, count = visits.agendas, len(visits.users)
    order = np.argsort(visits.users, kind="stable")
    place = np.arange(count)
    users = visits.users[order]
    begins = np.maximum.accumulate(np.where(np.append(True, users[1:] != users[:-1]), place, 0))
    searched = np.maximum.accumulate(np.where(agendas.searched[order], place, -1))
    before = np.append(-1, searched[:-1])
    latest = np.full(count, -1, dtype=np.int64)
    latest[order] = np.where(before >= begins, order[before], -1)
    open_mission = np.where((latest >= 0) & ~agendas.ends[latest], agendas.missions[latest], -1)
    return latest, open_mission


__all__ = ["FACETS", "FIT_WEIGHTS", "Wishes", "draw_wishes", "running_missions"]
