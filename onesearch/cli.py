"""The `onesearch` command: one strict parser. Work starts after every flag has been understood."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from onesearch.commands import data, evaluate, info, items, run, search, sids, study, train
from onesearch.commands.arguments import StrictParser
from onesearch.extras import MissingExtraError

REFUSED = 2
"""Exit code: the input was refused."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. A refused input and a missing extra print one line, not a traceback."""
    options = build_parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S"
    )
    logging.getLogger("onesearch").setLevel(logging.INFO)
    try:
        return options.command(options) or 0
    except (ValueError, TypeError, KeyError, OSError, MissingExtraError) as error:
        if options.traceback:
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"onesearch: {' '.join(str(message).split())}", file=sys.stderr)
        return REFUSED


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = StrictParser(prog="onesearch", description="Open generative search.")
    parser.add_argument("--verbose", action="store_true", help="log what every library does")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND", parser_class=StrictParser)
    run.add_demo(commands)
    run.add_run(commands)
    study.add(commands)
    data.add(commands)
    sids.add(commands)
    train.add(commands)
    evaluate.add(commands)
    search.add(commands)
    items.add(commands)
    info.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
