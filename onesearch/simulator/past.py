"""Statistics of items from before the first session: a plain period of searches, played with the same users, items and click model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from onesearch.data.schema import STATISTICS

from .agendas import plain_agendas
from .click_model import Constants
from .intents import draw_intents
from .sessions import play_sessions
from .visits import EPOCH, Visits
from .world import World


def item_statistics(world: World, constants: Constants) -> dict[str, np.ndarray]:
    """Count impressions, clicks, additions to a cart and purchases of every item over `past_days` days before the first session.

    The period has as many sessions a day as the market, each a search without a mission. Items that launch later have counts of 0.

    Args:
        world: all latent state.
        constants: constants of the logits.

    Returns:
        Counts by column of `STATISTICS`, each int64 ``(items,)``; empty if `past_days` is 0. A market without carts has no ``cart_count``.
    """
    config = world.config
    if not config.past_days:
        return {}
    count = max(1, round(config.sessions * config.past_days / config.days))
    users = config.stream("past").integers(0, config.users, count).astype(np.int32)
    visits = Visits(users, np.full(count, EPOCH, dtype=np.int64), world.visits.test_start, count, plain_agendas(count))
    intents = draw_intents(config, world.vocabulary, world.catalogue, world.users, visits, stream="past intents")
    log = play_sessions(replace(world, visits=visits, intents=intents), constants, stream="past sessions")
    events = (log.shown >= 0, log.clicked, log.carted, log.purchased)
    counts = {name: np.bincount(log.shown[happened], minlength=config.items) for name, happened in zip(STATISTICS, events)}
    if not config.carts:
        del counts["cart_count"]
    return counts


__all__ = ["item_statistics"]
