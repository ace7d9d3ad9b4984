"""`onesearch new`: from the export of a shop to a search."""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import Commands, add_command, positive, quiet_libraries


def add(commands: Commands) -> None:
    """Add `new` to the command line."""
    text = "read a shop's export, choose a recipe for it, train, measure, and search: everything with settings that follow from the data"
    parser = add_command(commands, "new", _new, text)
    parser.add_argument(
        "products", type=Path, help="products, as csv, tsv, xlsx, json, jsonl or parquet; see docs/first_search.md"
    )
    parser.add_argument(
        "--log",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="events, one per row: time, user, query, item, kind; several files, such as searches and orders, are joined by user and time",
    )
    parser.add_argument("--run", type=Path, help="folder of the run (default: runs/ and the name of the products' file)")
    parser.add_argument(
        "--columns",
        type=column_names,
        metavar="NAME=COLUMN,…",
        help="columns of the products that are not recognised by themselves, for example id=sku,title=name; brand=- reads a field from "
        "no column",
    )
    parser.add_argument("--log-columns", type=column_names, metavar="NAME=COLUMN,…", help="the same for the events")
    parser.add_argument(
        "--language", metavar="TAG", help="language of the texts, for example de (default: the language that is recognised)"
    )
    parser.add_argument(
        "--session-minutes",
        type=positive,
        default=30,
        metavar="N",
        help="minutes without an event after which a new session of a user begins (default: %(default)s)",
    )
    parser.add_argument(
        "--no-made-queries",
        dest="made_queries",
        action="store_false",
        help="leave sessions without a query to users' histories alone; by default they get a query that is made of their item's "
        "category, brand, attributes and tags, and are learned from",
    )
    parser.add_argument("--resume", action="store_true", help="continue a run that was stopped")
    parser.add_argument("--overwrite", action="store_true", help="make the run anew")


def column_names(text: str) -> dict[str, str]:
    """Names and columns such as ``id=sku,title=name``."""
    found = {}
    for part in text.split(","):
        name, sign, column = part.partition("=")
        if not (name.strip() and sign and column.strip()):
            raise argparse.ArgumentTypeError(f"{part!r} is no pair NAME=COLUMN, such as id=sku")
        if name.strip() in found:
            raise argparse.ArgumentTypeError(f"{name.strip()!r} is given twice")
        found[name.strip()] = column.strip()
    return found


def _new(options: argparse.Namespace) -> None:
    from onesearch.pipeline.new import new_run, run_name

    folder = options.run or Path("runs") / run_name(options.products.name.split(".")[0])
    options.resume_hint = f"go on with the same command and --resume (the run is in {folder})"
    quiet_libraries()
    new_run(
        options.products,
        folder,
        options.log,
        columns=options.columns,
        log_columns=options.log_columns,
        language=options.language,
        session_minutes=options.session_minutes,
        made_queries=options.made_queries,
        resume=options.resume,
        overwrite=options.overwrite,
        say=_say,
    )


def _say(text: str) -> None:
    print(text, flush=True)
