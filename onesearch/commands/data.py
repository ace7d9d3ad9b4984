"""`onesearch data`: import, simulate and check market tables."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .arguments import StrictParser, add_command, positive

FAILED = 1
"""Exit code of a check that found problems."""


def add(commands: Any) -> None:
    """Add `data` to the command line."""
    parser = commands.add_parser("data", help="import, simulate and check market tables", description="Market tables.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=StrictParser)
    check = add_command(actions, "check", _check, "name every problem of a market folder; exit code 1 if there is one")
    check.add_argument("folder", type=Path)
    check.add_argument("--limit", type=positive, default=20, help="rows shown per kind of problem (default: %(default)s)")
    simulate = add_command(actions, "simulate", _simulate, "simulate a marketplace")
    simulate.add_argument("folder", type=Path, help="market folder to write")
    simulate.add_argument("--items", type=positive, default=2000)
    simulate.add_argument("--users", type=positive)
    simulate.add_argument("--sessions", type=positive)
    simulate.add_argument("--seed", type=int, default=0)
    for name, source in (
        ("kuaisearch", "folder or Hub dataset id with the published files"),
        ("amazon", "folder with items.jsonl and sequences.jsonl"),
        ("chorus", "folder with products.jsonl.gz and the rated queries"),
        ("tables", "folder with items (and users, sessions, relevance) as .parquet, .jsonl or .csv"),
    ):
        importer = add_command(actions, name, _import, f"import {name}: {source}")
        importer.add_argument("source", help=source)
        importer.add_argument("folder", type=Path, help="market folder to write")
        importer.add_argument(
            "--bad-rows", choices=("raise", "drop"), default="raise", help="what to do with rows that do not fit"
        )
        if name == "amazon":
            asked = "what sessions ask: the bought item's category path, or nothing (next-item protocol) (default: %(default)s)"
            importer.add_argument("--queries", choices=("category", "none"), default="category", help=asked)


def _check(options: argparse.Namespace) -> int:
    from onesearch.data.checking import check_market, report

    problems = check_market(options.folder)
    print(report(problems, options.limit))
    return FAILED if problems else 0


def _simulate(options: argparse.Namespace) -> None:
    from onesearch.simulator import SimulatorConfig, simulate

    config = SimulatorConfig(items=options.items, users=options.users, sessions=options.sessions, seed=options.seed)
    _print_market(simulate(config, options.folder), options.folder)


def _import(options: argparse.Namespace) -> None:
    from onesearch.pipeline.recipe import MarketConfig
    from onesearch.pipeline.stages import make_market

    chosen = {name: getattr(options, name) for name in ("bad_rows", "queries") if hasattr(options, name)}
    plan = MarketConfig(options.action, options.source, chosen)
    _print_market(make_market(plan, options.folder), options.folder)


def _print_market(market: Any, folder: Path) -> None:
    counts = ", ".join(f"{len(getattr(market, name)):,} {name}" for name in ("items", "users", "sessions"))
    print(f"{folder}: {counts}, {len(market.relevance):,} judgements")
    for key in ("dropped", "oracle"):
        if market.info.get(key):
            print(f"{key}: {market.info[key]}")
