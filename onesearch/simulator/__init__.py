"""A marketplace simulator, the project's embedded data: users with latent tastes search a generated catalogue."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from onesearch.data.market import Market, arrow_schema
from onesearch.files import atomic_folder, write_json

from .catalogue import build_catalogue
from .choices import fit_constants
from .config import SimulatorConfig
from .intents import draw_intents, write_queries
from .item_rows import item_tables, numbered_ids, user_tables
from .oracle import score_oracle
from .relevance import judge_queries
from .sessions import play_sessions, session_tables
from .users import build_users
from .visits import schedule_visits
from .vocabulary import build_vocabulary
from .world import World

__all__ = ["SimulatorConfig", "simulate"]


def simulate(config: SimulatorConfig, folder: str | Path) -> Market:
    """Simulate a market and write it to `folder`, whole or not at all.

    The same configuration gives byte-identical tables. Nothing latent (tastes, intents, item popularity) is written;
    what it implies for the best reachable score is in ``market.info["oracle"]``.

    Args:
        config: what to simulate; see `SimulatorConfig`.
        folder: the market folder; an existing one is replaced.

    Returns:
        The market, loaded from `folder`.

    Raises:
        ValueError: the cold users' sessions alone would fill the test period.

    Example:
        >>> market = simulate(SimulatorConfig(items=300, sessions=2000), tmp_path / "market")
        >>> market.info["oracle"]["purchase"]["HR@10"]
        0.97...
    """
    config = config.resolved()
    world = build_world(config)
    constants = fit_constants(world)
    log = play_sessions(world, constants)
    queries = write_queries(config, world.vocabulary, world.intents)
    item_ids, user_ids = numbered_ids("item", config.items), numbered_ids("user", config.users)
    info = _info(config)
    if config.oracle_requests:
        info["oracle"] = score_oracle(world, constants, log)
    with atomic_folder(folder) as temporary:
        rows = {
            "items": _write(temporary, "items", item_tables(config, world.vocabulary, world.catalogue, item_ids)),
            "users": _write(temporary, "users", user_tables(world.users, user_ids)),
            "sessions": _write(temporary, "sessions", session_tables(world, log, queries, item_ids, user_ids)),
            "relevance": _write(temporary, "relevance", [judge_queries(world, queries, item_ids)]),
        }
        write_json(temporary / "market.json", {**info, "rows": rows})
    del world, log, queries
    return Market.load(folder)


def build_world(config: SimulatorConfig) -> World:
    """Draw all latent state of a resolved configuration: catalogue, users, visits and intents."""
    vocabulary = build_vocabulary(config)
    visits = schedule_visits(config)
    catalogue = build_catalogue(config, vocabulary, visits)
    users = build_users(config, vocabulary, catalogue)
    intents = draw_intents(config, vocabulary, catalogue, users, visits)
    return World(config, vocabulary, catalogue, users, visits, intents)


def _write(folder: Path, name: str, tables: Iterable[pa.Table]) -> int:
    rows = 0
    with pq.ParquetWriter(folder / f"{name}.parquet", arrow_schema(name)) as writer:
        for table in tables:
            writer.write_table(table)
            rows += len(table)
    return rows


def _info(config: SimulatorConfig) -> dict[str, Any]:
    return {
        "name": "simulated",
        "source": "onesearch.simulator: generated, no real users, brands or products",
        "language": "en",
        "seed": config.seed,
        "split": {"method": "time", "validation": config.validation, "test": config.test},
        "queries": "generated: two or three words, some of them synonyms or mistyped; equal queries repeat",
        "config": asdict(config),
    }
