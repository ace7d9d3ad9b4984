"""Draws the user, the time, the scene and the mission of every session, in time order. Cold users have sessions in the test period only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .agendas import Agendas, Period, draw_agendas, move_missions, plain_agendas
from .config import ResolvedConfig

EPOCH = 1_735_689_600
"""First second of the simulation: 1 January 2025, UTC, in Unix time."""

DAY = 86_400
"""Seconds of a day."""


@dataclass(frozen=True)
class Visits:
    """User, time and agenda of every session, sorted by time.

    Args:
        users: user number of each session, ``(sessions,)``.
        times: Unix time of each session in seconds, ``(sessions,)``.
        test_start: start of the test period; all sessions of cold users are later.
        before_test: number of sessions before the test period.
        agendas: scene and mission of each session.
    """

    users: np.ndarray
    times: np.ndarray
    test_start: int
    before_test: int
    agendas: Agendas


def schedule_visits(config: ResolvedConfig) -> Visits:
    """Spread the sessions over the users and the simulated days. Every user has at least one session; some are more active.

    Raises:
        ValueError: the cold users have more sessions than the test period holds.
    """
    rng = config.stream("visits")
    cold = np.zeros(config.users, dtype=bool)
    cold[rng.permutation(config.users)[: round(config.cold_users * config.users)]] = True
    activity = rng.gamma(3.0, 1.0, config.users) * np.where(cold, 0.3, 1.0)
    counts = 1 + rng.multinomial(config.sessions - config.users, activity / activity.sum())
    users = np.repeat(np.arange(config.users, dtype=np.int32), counts)
    is_cold = cold[users]
    # The split counts sessions: the test split holds all sessions of cold users and the latest sessions of the others.
    warm_before_test = int(config.sessions * (1 - config.test))
    if is_cold.sum() >= config.sessions - warm_before_test:
        raise ValueError(
            f"cold_users={config.cold_users} have {int(is_cold.sum())} sessions, which fill the test share ({config.test}); "
            f"allowed are fewer than {config.sessions - warm_before_test}: lower cold_users, or raise test or sessions"
        )
    times = np.empty(config.sessions, dtype=np.int64)
    end = EPOCH + config.days * DAY
    times[~is_cold] = _draw_times(rng, int((~is_cold).sum()), EPOCH, end)
    test_start = int(np.sort(times[~is_cold])[warm_before_test])
    times[is_cold] = rng.integers(test_start + 1, end + 2, int(is_cold.sum()))
    order = np.argsort(times, kind="stable")
    users, times = users[order], times[order]
    if not config.missions and not config.recommendations:
        return Visits(users, times, test_start, warm_before_test, plain_agendas(len(users)))
    agendas = draw_agendas(config, users, warm_before_test)
    period = Period(EPOCH, test_start, end, warm_before_test)
    times = move_missions(config, times, agendas, period)
    order = np.argsort(times, kind="stable")
    return Visits(users[order], times[order], test_start, warm_before_test, agendas.take(order))


def _draw_times(rng: np.random.Generator, count: int, start: int, end: int) -> np.ndarray:
    """Draw times: the day is uniform, the hour is normal around 16:00."""
    days = rng.integers(start // DAY, end // DAY, count)
    seconds = np.clip(rng.normal(16.0, 4.0, count), 0, 23.99) * 3600
    return days * DAY + seconds.astype(np.int64)
