"""`onesearch data`: import, simulate and check market tables."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import Commands, add_command, add_group, positive

if TYPE_CHECKING:
    from onesearch.data.market import Market

FAILED = 1
"""Exit code of a check that found problems."""


def add(commands: Commands) -> None:
    """Add `data` to the command line."""
    actions = add_group(commands, "data", "import, simulate and check market tables")
    check = add_command(actions, "check", _check, "name every problem of a market folder; exit code 1 if there is one")
    check.add_argument("folder", type=Path, help="market folder")
    check.add_argument(
        "--limit", type=positive, default=20, metavar="N", help="rows shown for each kind of problem (default: %(default)s)"
    )
    _add_simulate(actions)
    amazon = _add_importer(actions, "amazon", _amazon, "folder with items.jsonl and sequences.jsonl")
    amazon.add_argument(
        "--queries",
        choices=("category", "none"),
        default="category",
        help="query of each session: the category path of the bought item, or none (next-item protocol) (default: %(default)s)",
    )
    _add_importer(actions, "chorus", _chorus, "folder with products.jsonl.gz and the rated queries")
    _add_importer(actions, "kuaisearch", _kuaisearch, "folder or Hub dataset id with the published files")
    tables = "folder with items (and users, sessions, relevance) as .parquet, .jsonl or .csv"
    _add_importer(actions, "tables", _tables, tables)


def _add_simulate(actions: Commands) -> None:
    simulate = add_command(actions, "simulate", _simulate, "simulate a marketplace")
    simulate.add_argument("folder", type=Path, help="market folder to write")
    simulate.add_argument(
        "--items", type=positive, default=2000, metavar="N", help="size of the catalogue (default: %(default)s)"
    )
    simulate.add_argument("--users", type=positive, metavar="N", help="number of users (default: by the number of items)")
    simulate.add_argument("--sessions", type=positive, metavar="N", help="number of sessions (default: by the number of items)")
    simulate.add_argument("--seed", type=int, default=0, help="seed of the simulation; the same seed gives the same market")


def _add_importer(
    actions: Commands, name: str, run: Callable[[argparse.Namespace], None], source: str
) -> argparse.ArgumentParser:
    importer = add_command(actions, name, run, f"import {name}: {source}")
    importer.add_argument("source", help=source)
    importer.add_argument("folder", type=Path, help="market folder to write")
    importer.add_argument(
        "--bad-rows",
        choices=("raise", "drop"),
        default="raise",
        help="rows that do not fit the format: stop at the first, or leave them out and count them (default: %(default)s)",
    )
    return importer


def _check(options: argparse.Namespace) -> int:
    from onesearch.data.checking import check_market, report

    problems = check_market(options.folder)
    print(report(problems, options.limit))
    return FAILED if problems else 0


def _simulate(options: argparse.Namespace) -> None:
    from onesearch.simulator import SimulatorConfig, simulate

    config = SimulatorConfig(items=options.items, users=options.users, sessions=options.sessions, seed=options.seed)
    _print_market(simulate(config, options.folder), options.folder)


def _amazon(options: argparse.Namespace) -> None:
    from onesearch.data.importers.amazon import import_amazon

    _save(import_amazon(options.source, queries=options.queries, bad_rows=options.bad_rows), options.folder)


def _chorus(options: argparse.Namespace) -> None:
    from onesearch.data.importers.chorus import import_chorus

    _save(import_chorus(options.source, bad_rows=options.bad_rows), options.folder)


def _kuaisearch(options: argparse.Namespace) -> None:
    from onesearch.data.importers.kuaisearch import import_kuaisearch

    _save(import_kuaisearch(options.source, bad_rows=options.bad_rows), options.folder)


def _tables(options: argparse.Namespace) -> None:
    from onesearch.data.importers.tables import import_tables

    _save(import_tables(options.source, bad_rows=options.bad_rows), options.folder)


def _save(market: Market, folder: Path) -> None:
    market.save(folder)
    _print_market(market, folder)


def _print_market(market: Market, folder: Path) -> None:
    """Counts of the tables, counts of dropped rows, and the oracle of a simulation."""
    counts = f"{len(market.items):,} items, {len(market.users):,} users, {len(market.sessions):,} sessions"
    print(f"{folder}: {counts}, {len(market.relevance):,} judgements")
    for key in ("dropped", "oracle"):
        if market.info.get(key):
            print(f"{key}: {market.info[key]}")
