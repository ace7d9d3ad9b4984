"""Expected purchases of rankings in a simulated market: a measure without the noise of what a user happened to buy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .click_model import fit_constants
from .oracle import expected_chances
from .world import blocks_of

if TYPE_CHECKING:
    from .config import SimulatorConfig


def expected_purchases(
    config: SimulatorConfig, sessions: np.ndarray, rankings: Sequence[Sequence[int]], kind: str = "purchase"
) -> np.ndarray:
    """Expected number of purchases of the ranked items in each session: the sum of their true chances, as the oracle knows them.

    An item's chance averages over the lists that the session might have been shown, so that the order within a ranking does not count.

    Args:
        config: settings that the market was simulated with, ``market.info["config"]``.
        sessions: rows of the sessions table, distinct and ascending, ``(n,)``.
        rankings: rows of the items table of each ranking, n of them.
        kind: ``purchase`` or ``click``.

    Returns:
        ``(n,)`` float64.
    """
    from . import build_world

    world = build_world(config.resolved())
    constants = fit_constants(world)
    place_of = {session: place for place, session in enumerate(sessions.tolist())}
    chances = np.zeros((len(sessions), world.config.items))
    random = world.config.stream("oracle", 2)
    for block in blocks_of(world, sessions):
        rows = np.array([place_of[session] for session in block.sessions.tolist()])
        chances[np.ix_(rows, block.items)] = expected_chances(world, constants, block, kind, random)
    return np.array([chances[row, list(own)].sum() for row, own in enumerate(rankings)])


__all__ = ["expected_purchases"]
