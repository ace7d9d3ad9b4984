"""The `onesearch` command: one strict parser that dispatches to `onesearch.commands`. No work starts before all flags are understood.

Importing this module, and the help of every command, import neither torch nor transformers.
"""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Sequence

import onesearch
from onesearch.commands import (
    data,
    dense,
    evaluate,
    export,
    info,
    items,
    new,
    preference,
    push,
    report,
    reward,
    run,
    search,
    serve,
    sids,
    study,
    train,
)
from onesearch.commands.arguments import StrictParser
from onesearch.extras import MissingExtraError

REFUSED = 2
"""Exit code of a command whose input was refused, that lacks an extra, or that a library or the system stopped."""

STOPPED = 130
"""Exit code of a command that was stopped by Ctrl-C, as shells give it."""

REFUSALS: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    KeyError,
    OSError,
    RuntimeError,
    ImportError,
    MemoryError,
    MissingExtraError,
)
"""Errors that print one line. Others, such as AttributeError, are faults of this package, whose traceback is needed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    A refused input, a missing extra, a full disk, a failed library and Ctrl-C print one line; ``--traceback`` shows the traceback.

    Args:
        arguments: words of the command line; default: those of this process.

    Returns:
        The exit code: 0, `REFUSED`, `STOPPED`, or that of the command.
    """
    options = build_parser().parse_args(arguments)
    level = logging.INFO if options.verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("onesearch").setLevel(logging.INFO)
    try:
        return options.command(options) or 0
    except KeyboardInterrupt:
        if options.traceback:
            raise
        resume = (
            f"; {options.resume_hint}" if "resume_hint" in options else "; --resume continues it" if "resume" in options else ""
        )
        print(f"onesearch: stopped{resume}", file=sys.stderr)
        return STOPPED
    except _refusals() as error:
        if options.traceback:
            raise
        print(f"onesearch: {_line(error)}", file=sys.stderr)
        return REFUSED


def _refusals() -> tuple[type[Exception], ...]:
    """`REFUSALS`, and the error of safetensors if a command has imported it: importing it here would import it for every command."""
    module = sys.modules.get("safetensors")
    return REFUSALS if module is None else (*REFUSALS, module.SafetensorError)


def _line(error: BaseException) -> str:
    """The message of an error in one line, which says so if the disk is full."""
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    line = " ".join(str(message).split()) or type(error).__name__
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or os.strerror(errno.ENOSPC) in line:
        return f"the disk is full ({line}); make room and run the command again"
    return line


def build_parser() -> StrictParser:
    """The parser of the whole command line."""
    parser = StrictParser(prog="onesearch", description="Open generative search.")
    parser.add_argument(
        "--version", action="version", version=f"onesearch {onesearch.__version__}", help="print the version and exit"
    )
    parser.add_argument("--verbose", action="store_true", help="show the log messages of all libraries")
    parser.add_argument("--traceback", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND", parser_class=StrictParser)
    new.add(commands)
    run.add_demo(commands)
    run.add_run(commands)
    study.add(commands)
    data.add(commands)
    sids.add(commands)
    train.add(commands)
    dense.add(commands)
    reward.add(commands)
    preference.add(commands)
    evaluate.add(commands)
    report.add(commands)
    search.add(commands)
    serve.add(commands)
    items.add(commands)
    push.add(commands)
    export.add(commands)
    info.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
