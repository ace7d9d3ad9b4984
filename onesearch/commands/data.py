"""`onesearch data`: import, simulate and check market tables."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from onesearch.files import RunFolder

from .arguments import Commands, StrictParser, add_command, add_group, positive
from .split_options import add_split, check_split, split_as_asked

if TYPE_CHECKING:
    from onesearch.data.market import Market

FAILED = 1
"""Exit code of a check that found problems."""


def add(commands: Commands) -> None:
    """Add `data` to the command line."""
    actions = add_group(commands, "data", "import, simulate and check market tables")
    check = add_command(actions, "check", _check, "name every problem of a market folder; exit code 1 if there is one")
    check.add_argument("folder", type=Path, help="market folder, or folder of a run that has one; also --run RUN")
    check.takes_run = True
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
    _add_table_options(_add_importer(actions, "tables", _tables, tables))


def _add_simulate(actions: Commands) -> None:
    simulate = add_command(actions, "simulate", _simulate, "simulate a marketplace")
    simulate.add_argument("folder", type=Path, help="market folder to write")
    simulate.add_argument(
        "--preset",
        choices=("plain", "full", "video"),
        default="plain",
        help="plain: each session is a search of its own; full: also missions of several searches, sessions without a query, carts, "
        "several purchases in a session, statistics, features and further texts of items; video: titles say little, and features show what "
        "is seen (default: %(default)s)",
    )
    simulate.set_defaults(source=None)
    simulate.add_argument(
        "--items", type=positive, default=2000, metavar="N", help="size of the catalogue (default: %(default)s)"
    )
    simulate.add_argument("--users", type=positive, metavar="N", help="number of users (default: by the number of items)")
    simulate.add_argument("--sessions", type=positive, metavar="N", help="number of sessions (default: by the number of items)")
    simulate.add_argument("--seed", type=int, default=0, help="seed of the simulation; the same seed gives the same market")
    add_split(simulate)
    _add_overwrite(simulate)


def _add_importer(actions: Commands, name: str, run: Callable[[argparse.Namespace], None], source: str) -> StrictParser:
    importer = add_command(actions, name, run, f"import {name}: {source}")
    importer.add_argument("source", help=source)
    importer.add_argument("folder", type=Path, help="market folder to write")
    importer.add_argument(
        "--bad-rows",
        choices=("raise", "drop"),
        default="raise",
        help="rows that do not fit: name them and write nothing, or leave them out and count them; of a row with a wrong optional value "
        "only the value is left out (default: %(default)s)",
    )
    add_split(importer)
    _add_overwrite(importer)
    return importer


def _add_table_options(tables: argparse.ArgumentParser) -> None:
    tables.add_argument("--name", help="name of the market (default: name of the source folder)")
    tables.add_argument(
        "--language",
        metavar="TAG",
        help="language of the texts, such as en, de or zh-CN, which BM25, the text encoder and the task templates follow "
        "(default: the language of the titles)",
    )
    tables.add_argument("--format", choices=("jsonl", "parquet", "csv"), help="read only files of this format (default: all)")


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace the market that the folder holds")


def _check(options: argparse.Namespace) -> int:
    from onesearch.data.checking import check_market, report

    own = RunFolder(options.folder).market
    problems = check_market(own if own.is_dir() else options.folder)
    print(report(problems, options.limit))
    return FAILED if problems else 0


def _simulate(options: argparse.Namespace) -> None:
    from onesearch.simulator import SimulatorConfig, simulate

    config = SimulatorConfig(
        preset=options.preset, items=options.items, users=options.users, sessions=options.sessions, seed=options.seed
    )
    with _target(options):
        market = simulate(config, options.folder, overwrite=options.overwrite)
        own = split_as_asked(market, options)
        if own is not market:
            own.save(options.folder, overwrite=True)
        _print_market(own, options.folder)


def _amazon(options: argparse.Namespace) -> None:
    from onesearch.data.importers.amazon import import_amazon

    with _target(options):
        _save(import_amazon(options.source, queries=options.queries, bad_rows=options.bad_rows), options)


def _chorus(options: argparse.Namespace) -> None:
    from onesearch.data.importers.chorus import import_chorus

    with _target(options):
        _save(import_chorus(options.source, bad_rows=options.bad_rows), options)


def _kuaisearch(options: argparse.Namespace) -> None:
    from onesearch.data.importers.kuaisearch import import_kuaisearch

    with _target(options):
        _save(import_kuaisearch(options.source, bad_rows=options.bad_rows), options)


def _tables(options: argparse.Namespace) -> None:
    from onesearch.data.importers.tables import import_tables

    chosen = {"language": options.language, "name": options.name, "format": options.format}
    with _target(options):
        _save(import_tables(options.source, bad_rows=options.bad_rows, **chosen), options)


@contextmanager
def _target(options: argparse.Namespace) -> Iterator[None]:
    """Refuse a market folder that must not be written, before anything is read; while it is written, the run around it is locked."""
    from onesearch.data.market import MARKET_FOLDER
    from onesearch.files import check_target
    from onesearch.pipeline.run_lock import writing_into

    check_split(options)
    check_target(options.folder, MARKET_FOLDER, source=options.source, overwrite=options.overwrite)
    with writing_into(options.folder, f"onesearch data {options.action}"):
        yield


def _save(market: Market, options: argparse.Namespace) -> None:
    market = split_as_asked(market, options)
    market.save(options.folder, overwrite=options.overwrite)
    _print_market(market, options.folder)


def _print_market(market: Market, folder: Path) -> None:
    """Counts of the tables, counts of dropped rows, and the oracle of a simulation."""
    from onesearch.data.splits import describe

    counts = f"{len(market.items):,} items, {len(market.users):,} users, {len(market.sessions):,} sessions"
    print(f"{folder}: {counts}, {len(market.relevance):,} judgements")
    print(f"language {market.info.get('language')}, split {describe(market.info['split'])}")
    for reason, count in market.info.get("dropped", {}).items():
        print(f"dropped: {count:,} × {reason}")
    if market.info.get("oracle"):
        print(f"oracle: {market.info['oracle']}")
