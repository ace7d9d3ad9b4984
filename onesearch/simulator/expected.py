"""Expected purchases of rankings in a simulated market: a measure without the noise of what a user happened to buy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from .click_model import fit_constants
from .oracle import expected_chances
from .world import blocks_of

if TYPE_CHECKING:
    from .config import ResolvedConfig


def expected_purchases(
    config: ResolvedConfig,
    sessions: np.ndarray,
    rankings: Mapping[str, Sequence[Sequence[int]]],
    kind: str = "purchase",
) -> dict[str, np.ndarray]:
    """Expected number of purchases of the ranked items in each session: the sum of their true chances, as the oracle knows them.

    An item's chance averages over the lists that the session might have been shown, so that the order within a ranking does not count.

    Args:
        config: settings that the market was simulated with, ``market.info["config"]``.
        sessions: rows of the sessions table, distinct and ascending, ``(n,)``.
        rankings: name of a ranker → for each session the rows of the items table that it ranks first.
        kind: ``purchase`` or ``click``.

    Returns:
        Name of the ranker → ``(n,)`` float64.

    Raises:
        ValueError: a ranker has not one ranking per session.
    """
    from . import build_world

    for name, own in rankings.items():
        if len(own) != len(sessions):
            raise ValueError(f"{name!r} has {len(own)} rankings for {len(sessions)} sessions; give one for each")
    world = build_world(config)
    constants = fit_constants(world)
    place_of = {session: place for place, session in enumerate(sessions.tolist())}
    found = {name: np.zeros(len(sessions)) for name in rankings}
    random = world.config.stream("oracle", 2)
    column_of = np.full(world.config.items, -1)
    for block in blocks_of(world, sessions):
        column_of[block.items] = np.arange(len(block.items))
        chances = expected_chances(world, constants, block, kind, random)  # (sessions of the block, items of the block)
        for row, session in enumerate(block.sessions.tolist()):
            for name, own in rankings.items():
                columns = column_of[np.asarray(own[place_of[session]], dtype=np.int64)]
                found[name][place_of[session]] = chances[row, columns[columns >= 0]].sum()
        column_of[block.items] = -1
    return found


__all__ = ["expected_purchases"]
