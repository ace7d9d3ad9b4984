"""Which sessions search and which are recommendations, and missions: several searches of a user for one wish."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .config import ResolvedConfig

_PAUSE = 300
"""Shortest time between two searches of a mission, in seconds."""


@dataclass(frozen=True)
class Agendas:
    """Scene and mission of every session. All arrays are ``(sessions,)``.

    Args:
        searched: whether the session has a query; the others are recommendations.
        missions: number of the session's mission, -1 without one; recommendations have none here.
        steps: place of the session in its mission, from 0.
        ends: whether the session is the last search of its mission.
    """

    searched: np.ndarray
    missions: np.ndarray
    steps: np.ndarray
    ends: np.ndarray

    @property
    def mission_count(self) -> int:
        """Number of missions."""
        return int(self.missions.max(initial=-1)) + 1

    def take(self, order: np.ndarray) -> Agendas:
        """The agendas of the sessions `order`, ``(sessions,)``."""
        return Agendas(self.searched[order], self.missions[order], self.steps[order], self.ends[order])


@dataclass(frozen=True)
class Period:
    """The times at which sessions may lie.

    Args:
        start: first second of the simulation.
        test_start: time of the first test session.
        end: last second of the simulation.
        before_test: number of sessions before the test period.
    """

    start: int
    test_start: int
    end: int
    before_test: int


def plain_agendas(count: int) -> Agendas:
    """Agendas of `count` sessions that are searches without a mission."""
    return Agendas(
        searched=np.ones(count, dtype=bool),
        missions=np.full(count, -1, dtype=np.int32),
        steps=np.zeros(count, dtype=np.int8),
        ends=np.zeros(count, dtype=bool),
    )


def draw_agendas(config: ResolvedConfig, users: np.ndarray, before_test: int) -> Agendas:
    """Draw which sessions are recommendations, and join consecutive searches of a user to missions.

    A mission lies on one side of the border of the test period, so the border stays where it is.

    Args:
        config: settings.
        users: user of each session in time order, ``(sessions,)``.
        before_test: number of sessions before the test period.
    """
    agendas = plain_agendas(len(users))
    agendas.searched[_draw_recommendations(config, before_test)] = False
    if not config.missions:
        return agendas
    rows = np.flatnonzero(agendas.searched)
    groups = 2 * users[rows].astype(np.int64) + (rows >= before_test)
    order = np.argsort(groups, kind="stable")
    rng = config.stream("missions")
    starts = rng.random(len(rows)) < config.missions
    lengths = rng.integers(2, config.mission_searches + 1, len(rows))
    missions, steps = _join(groups[order], starts, lengths)
    rows = rows[order]
    agendas.missions[rows], agendas.steps[rows] = missions, steps
    next_mission = np.append(missions[1:], -1)
    agendas.ends[rows] = (missions >= 0) & (missions != next_mission)
    return agendas


def move_missions(config: ResolvedConfig, times: np.ndarray, agendas: Agendas, period: Period) -> np.ndarray:
    """Move the searches of each mission close together, around the time of one of them.

    Args:
        config: settings.
        times: time of each session, ascending, ``(sessions,)``.
        agendas: missions of the sessions.
        period: allowed times; no session crosses the start of the test period.

    Returns:
        New times, not sorted, ``(sessions,)``.
    """
    rows = np.flatnonzero(agendas.missions >= 0)
    rows = rows[np.lexsort((agendas.steps[rows], agendas.missions[rows]))]
    if not len(rows):
        return times
    rng = config.stream("mission times")
    gaps = _PAUSE + rng.exponential(3600 * config.mission_hours, len(rows)).astype(np.int64)
    first = np.flatnonzero(agendas.steps[rows] == 0)
    sizes = np.diff(np.append(first, len(rows)))
    gaps[first] = 0
    passed = np.cumsum(gaps)
    passed -= np.repeat(passed[first], sizes)
    anchors = times[rows[first + (rng.random(len(first)) * sizes).astype(np.int64)]]
    tested = rows[first] >= period.before_test
    low = np.where(tested, period.test_start + 1, period.start)
    high = np.where(tested, period.end, period.test_start - 1)
    begin = np.clip(anchors, low, np.maximum(low, high - passed[first + sizes - 1]))
    moved = times.copy()
    moved[rows] = np.minimum(np.repeat(begin, sizes) + passed, np.repeat(high, sizes))
    return moved


def _draw_recommendations(config: ResolvedConfig, before_test: int) -> np.ndarray:
    """Sessions without a query. As many lie before the test period as keep the split, which counts searches, at its border."""
    rng = config.stream("recommendations")
    total = round(config.recommendations * config.sessions)
    before = before_test - int((config.sessions - total) * (1 - config.test))
    parts = (
        rng.permutation(before_test)[:before],
        before_test + rng.permutation(config.sessions - before_test)[: total - before],
    )
    return np.concatenate(parts)


def _join(groups: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of the mission (-1 without one) and place in it, of searches in the order of their groups; all ``(searches,)``."""
    missions, steps = np.full(len(groups), -1, dtype=np.int32), np.zeros(len(groups), dtype=np.int8)
    count, remaining, previous = 0, 0, -1
    for row, (group, start, length) in enumerate(zip(groups.tolist(), starts.tolist(), lengths.tolist())):
        if remaining and group == previous:
            missions[row], steps[row] = count - 1, steps[row - 1] + 1
            remaining -= 1
        elif start:
            missions[row] = count
            count, remaining = count + 1, length - 1
        else:
            remaining = 0
        previous = group
    return missions, steps
