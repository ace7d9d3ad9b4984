"""A simulated marketplace: users with latent tastes search a generated catalogue. The demo and the tests run on it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa

from onesearch.data.market import MARKET_FOLDER, Market
from onesearch.data.schema import INFO_NAME, arrow_schema
from onesearch.files import atomic_folder, check_target, write_json
from onesearch.parquet_files import table_writer

from .catalogue import build_catalogue
from .click_model import fit_constants
from .config import ResolvedConfig, SimulatorConfig
from .intents import TYPE_SHARES, draw_intents, follow_wishes, write_queries
from .item_rows import item_tables, numbered_ids, user_tables
from .oracle import score_oracle
from .past import item_statistics
from .relevance import judge_queries
from .sessions import play_sessions, session_tables
from .users import build_users
from .visits import schedule_visits
from .vocabulary import build_vocabulary
from .wishes import draw_wishes
from .world import World

__all__ = ["SimulatorConfig", "simulate"]


def simulate(config: SimulatorConfig, folder: str | Path, overwrite: bool = False) -> Market:
    """Simulate a market and write it to `folder`, whole or not at all.

    The same settings give byte-identical tables. Latent state (tastes, intents, item popularity) is never written. The best
    score that any model could reach follows from it and is written to ``market.info["oracle"]``.

    Args:
        config: settings of the market; see `SimulatorConfig`.
        folder: market folder to write.
        overwrite: replace a market that the folder holds.

    Returns:
        The market, loaded from `folder`.

    Raises:
        FileExistsError: the folder holds a market and `overwrite` is False, or it holds anything else.
        ValueError: the cold users have more sessions than the test period holds.

    Example:
        >>> market = simulate(SimulatorConfig(items=300, sessions=2000), tmp_path / "market")
        >>> market.info["oracle"]["purchase"]["HR@10"]
        0.97...
    """
    check_target(folder, MARKET_FOLDER, overwrite=overwrite)
    resolved = config.resolved()
    world = build_world(resolved)
    constants = fit_constants(world)
    log = play_sessions(world, constants)
    queries = write_queries(resolved, world.vocabulary, world.intents, world.visits.agendas.searched)
    statistics = item_statistics(world, constants)
    item_ids, user_ids = numbered_ids("item", resolved.items), numbered_ids("user", resolved.users)
    info = _info(resolved)
    if resolved.oracle_requests:
        info["oracle"] = score_oracle(world, constants, log)
    check_target(folder, MARKET_FOLDER, overwrite=overwrite)  # again: the simulation takes minutes
    with atomic_folder(folder, replaces=[INFO_NAME]) as temporary:
        rows = {
            "items": _write(temporary, "items", item_tables(resolved, world.vocabulary, world.catalogue, item_ids, statistics)),
            "users": _write(temporary, "users", user_tables(world.users, user_ids)),
            "sessions": _write(temporary, "sessions", session_tables(world, log, queries, item_ids, user_ids)),
            "relevance": _write(temporary, "relevance", [judge_queries(world, queries, item_ids)]),
        }
        write_json(temporary / INFO_NAME, {**info, "rows": rows})
    del world, log, queries
    return Market.load(folder)


def build_world(config: ResolvedConfig) -> World:
    """Draw all latent state: catalogue, users, visits, intents and wishes."""
    vocabulary = build_vocabulary(config)
    visits = schedule_visits(config)
    catalogue = build_catalogue(config, vocabulary, visits)
    users = build_users(config, vocabulary, catalogue)
    intents = draw_intents(config, vocabulary, catalogue, users, visits)
    wishes = draw_wishes(config, catalogue, visits, intents.leaves, TYPE_SHARES)
    if config.missions or config.recommendations:
        intents = follow_wishes(config, vocabulary, visits, intents, wishes)
    return World(config, vocabulary, catalogue, users, visits, intents, wishes)


def _write(folder: Path, name: str, tables: Iterable[pa.Table]) -> int:
    """Write one table chunk by chunk and return its number of rows."""
    rows = 0
    with table_writer(folder / f"{name}.parquet", arrow_schema(name)) as writer:
        for table in tables:
            writer.write_table(table)
            rows += len(table)
    return rows


def _info(config: ResolvedConfig) -> dict[str, Any]:
    """Contents of ``market.json``, without the oracle."""
    text = {"text_fields": ["title"]} if config.silent_titles else {}
    return {
        "name": "simulated",
        "source": "onesearch.simulator: generated, no real users, brands or products",
        "language": "en",
        "seed": config.seed,
        "split": {"method": "time", "validation": config.validation, "test": config.test},
        "queries": "generated: a few words, some of them synonyms or mistyped; equal queries repeat",
        "config": asdict(config),
        **text,
    }
