"""The `onesearch` command: one strict parser that dispatches to `onesearch.commands`. No work starts before all flags are understood.

Importing this module, and the help of every command, import neither torch nor transformers.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from onesearch.commands import data, evaluate, info, items, run, search, sids, study, train
from onesearch.commands.arguments import StrictParser
from onesearch.extras import MissingExtraError

REFUSED = 2
"""Exit code of a command whose input was refused, or that lacks an extra."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    A refused input and a missing extra print one line, not a traceback.

    Args:
        arguments: words of the command line; default: those of this process.

    Returns:
        The exit code: 0, `REFUSED`, or that of the command.
    """
    options = build_parser().parse_args(arguments)
    level = logging.INFO if options.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("onesearch").setLevel(logging.INFO)
    try:
        return options.command(options) or 0
    except (ValueError, TypeError, KeyError, OSError, MissingExtraError) as error:
        if options.traceback:
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"onesearch: {' '.join(str(message).split())}", file=sys.stderr)
        return REFUSED


def build_parser() -> StrictParser:
    """The parser of the whole command line."""
    parser = StrictParser(prog="onesearch", description="Open generative search.")
    parser.add_argument("--verbose", action="store_true", help="show the log messages of all libraries")
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error")
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
