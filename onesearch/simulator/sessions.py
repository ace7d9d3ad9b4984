"""Play all sessions: show a list, draw clicks and a purchase, and write the log that a search engine would have kept."""

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
        purchased: position of the purchase, -1 without one, ``(sessions,)``.
    """

    shown: np.ndarray
    clicked: np.ndarray
    purchased: np.ndarray


def play_sessions(world: World, constants: Constants) -> Log:
    """Draw the shown list, the clicks and the purchase of every session."""
    count = len(world.visits.users)
    log = Log(
        shown=np.full((count, world.config.list_max), -1, dtype=np.int32),
        clicked=np.zeros((count, world.config.list_max), dtype=bool),
        purchased=np.full(count, -1, dtype=np.int8),
    )
    rng = world.config.stream("sessions")
    for block in blocks_of(world, np.arange(count)):
        shown = show(world, block, rng)
        width = shown.columns.shape[1]
        clicked = rng.random(shown.columns.shape) < click_chances(shown, constants)
        convinced = clicked & (rng.random(shown.columns.shape) < sigmoid(shown.buy + constants.buy))
        log.shown[block.sessions, :width] = np.where(shown.examined > 0, block.items[shown.columns], -1)
        log.clicked[block.sessions, :width] = clicked
        log.purchased[block.sessions] = np.where(convinced.any(axis=1), convinced.argmax(axis=1), -1)
    return log


def session_tables(
    world: World, log: Log, queries: pa.DictionaryArray, item_ids: pa.Array, user_ids: pa.Array
) -> Iterator[pa.Table]:
    """Yield the sessions table, chunk by chunk."""
    for start in range(0, len(log.purchased), CHUNK):
        part = slice(start, min(start + CHUNK, len(log.purchased)))
        shown, purchased = log.shown[part], log.purchased[part]
        columns = {
            "session_id": pa.array([f"session-{number:08d}" for number in range(part.start, part.stop)]),
            "user_id": user_ids.take(pa.array(world.visits.users[part])),
            "time": pa.array(world.visits.times[part]),
            "query": queries[part].dictionary_decode(),
            "impressed": _id_lists(item_ids, shown, shown >= 0),
            "clicked": _id_lists(item_ids, shown, log.clicked[part]),
            "purchased": _id_lists(item_ids, shown, np.arange(shown.shape[1]) == purchased[:, None]),
        }
        yield conform("sessions", pa.table(columns), "simulated sessions")


def _id_lists(item_ids: pa.Array, items: np.ndarray, kept: np.ndarray) -> pa.ListArray:
    """One list of ids per session: the items at positions where `kept` is true; `items` and `kept` are ``(sessions, list_max)``."""
    offsets = np.concatenate([[0], np.cumsum(kept.sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), item_ids.take(pa.array(items[kept])))
