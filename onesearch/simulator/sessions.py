"""Play all sessions: show a list, draw clicks, carts and purchases, and write the log that a search engine would have kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from onesearch.data.arrow_tables import conform

from .click_model import Constants, click_chances, show, sigmoid
from .item_rows import CHUNK
from .world import World, blocks_of


@dataclass(frozen=True)
class Log:
    """Outcome of every session, in time order.

    Args:
        shown: item numbers by position, -1 past the end of a list, ``(sessions, list_max)``.
        clicked: whether the user clicked the position, ``(sessions, list_max)``.
        carted: whether the user put the item at the position into the cart, ``(sessions, list_max)``.
        purchased: whether the user bought the item at the position, ``(sessions, list_max)``.
    """

    shown: np.ndarray
    clicked: np.ndarray
    carted: np.ndarray
    purchased: np.ndarray


def play_sessions(world: World, constants: Constants, stream: str = "sessions") -> Log:
    """Draw the shown list, the clicks, the carts and the purchases of every session.

    Args:
        world: all latent state.
        constants: constants of the logits.
        stream: name of the random stream.
    """
    config = world.config
    count = len(world.visits.users)
    log = Log(
        np.full((count, config.list_max), -1, dtype=np.int32),
        *(np.zeros((count, config.list_max), dtype=bool) for _ in range(3)),
    )
    rng, carts, again = config.stream(stream), config.stream(f"{stream}: carts"), config.stream(f"{stream}: further purchases")
    for block in blocks_of(world, np.arange(count)):
        shown = show(world, block, rng)
        size = shown.columns.shape
        clicked = rng.random(size) < click_chances(shown, constants)
        convinced = clicked & (rng.random(size) < sigmoid(shown.logits.buy + constants.buy))
        if config.carts:
            carted = clicked & (carts.random(size) < sigmoid(shown.logits.cart + constants.cart))
            convinced &= carted
            log.carted[block.sessions, : size[1]] = carted
        log.shown[block.sessions, : size[1]] = np.where(shown.examined > 0, block.items[shown.columns], -1)
        log.clicked[block.sessions, : size[1]] = clicked
        log.purchased[block.sessions, : size[1]] = _purchases(convinced, config.purchase_again, again)
    return log


def _purchases(convinced: np.ndarray, goes_on: float, rng: np.random.Generator) -> np.ndarray:
    """The convincing positions up to the purchase that ends the session, ``(rows, positions)``.

    Args:
        convinced: positions whose item the user would buy, ``(rows, positions)``.
        goes_on: probability that the user goes on after a purchase.
        rng: random stream; nothing is drawn if every session ends at its first purchase.
    """
    ends = convinced & (rng.random(convinced.shape) >= goes_on) if goes_on else convinced
    ended = np.cumsum(ends, axis=1) - ends
    return convinced & (ended == 0)


def session_tables(
    world: World, log: Log, queries: pa.DictionaryArray, item_ids: pa.Array, user_ids: pa.Array
) -> Iterator[pa.Table]:
    """Yield the sessions table, chunk by chunk."""
    for start in range(0, len(log.purchased), CHUNK):
        part = slice(start, min(start + CHUNK, len(log.purchased)))
        shown, searched = log.shown[part], world.visits.agendas.searched[part]
        columns = {
            "session_id": pa.array([f"session-{number:08d}" for number in range(part.start, part.stop)]),
            "user_id": user_ids.take(pa.array(world.visits.users[part])),
            "time": pa.array(world.visits.times[part]),
            "query": queries[part].dictionary_decode(),
            "scene": pa.array(np.where(searched, "search", "recommendation"), type=pa.string()),
            "impressed": _id_lists(item_ids, shown, shown >= 0),
            "clicked": _id_lists(item_ids, shown, log.clicked[part]),
            "carted": _id_lists(item_ids, shown, log.carted[part]),
            "purchased": _id_lists(item_ids, shown, log.purchased[part]),
        }
        yield conform("sessions", pa.table(columns), "simulated sessions")


def _id_lists(item_ids: pa.Array, items: np.ndarray, kept: np.ndarray) -> pa.ListArray:
    """One list of ids per session: the items at positions where `kept` is true; `items` and `kept` are ``(sessions, list_max)``."""
    offsets = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), item_ids.take(pa.array(items[kept])))
