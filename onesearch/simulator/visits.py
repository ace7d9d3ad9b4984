"""Who comes when: a user and a time for every session, in time order. Cold users come only in the test period."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .config import SimulatorConfig

EPOCH = 1_735_689_600
"""First second of the simulation: 1 January 2025, UTC."""
DAY = 86_400


@dataclass(frozen=True)
class Visits:
    """Sessions before anything is asked, sorted by time.

    Args:
        users: user number of each session, (sessions,).
        times: seconds since 1970, (sessions,).
        test_start: time of the first test session; cold users come after it.
    """

    users: np.ndarray
    times: np.ndarray
    test_start: int


def schedule_visits(config: SimulatorConfig) -> Visits:
    """Spread the sessions over users (unequally, each at least one) and over the simulated days.

    Raises:
        ValueError: the cold users' sessions alone would fill the test period.
    """
    rng = config.stream("visits")
    cold = np.zeros(config.users, dtype=bool)
    cold[rng.permutation(config.users)[: round(config.cold_users * config.users)]] = True
    activity = rng.gamma(3.0, 1.0, config.users) * np.where(cold, 0.3, 1.0)
    counts = 1 + rng.multinomial(config.sessions - config.users, activity / activity.sum())
    users = np.repeat(np.arange(config.users, dtype=np.int32), counts)
    is_cold = cold[users]
    # The split is by session count: the last test sessions are all cold ones plus the latest of the others.
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
    return Visits(users[order], times[order], test_start)


def _draw_times(rng: np.random.Generator, count: int, start: int, end: int) -> np.ndarray:
    """Uniform days, and hours around late afternoon."""
    days = rng.integers(start // DAY, end // DAY, count)
    seconds = np.clip(rng.normal(16.0, 4.0, count), 0, 23.99) * 3600
    return days * DAY + seconds.astype(np.int64)
