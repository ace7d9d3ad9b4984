"""Shared parts of the commands: the strict parser, types of arguments and look-ups that several commands use."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from onesearch.files import RunFolder


class StrictParser(argparse.ArgumentParser):
    """No guessing of abbreviated flags, on any level."""

    def __init__(self, *args: Any, **kwargs: Any):
        kwargs["allow_abbrev"] = False
        super().__init__(*args, **kwargs)


def add_command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], int | None], text: str
) -> argparse.ArgumentParser:
    """Add a command that calls `run`; `text` is its help and its description."""
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=run)
    return parser


def add_run_folder(parser: argparse.ArgumentParser) -> None:
    """Add the positional argument `run`."""
    parser.add_argument("run", type=Path, help="folder of the run")


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} must be at least 1")
    return value


def codebook_sizes(text: str) -> tuple[int, ...]:
    """Positive numbers that commas separate, for instance 256,128,64."""
    return tuple(positive(part) for part in text.split(","))


def opq(text: str) -> tuple[int, int]:
    """Number of sub-codes and codes of each, for instance 2x64."""
    parts, _, codes = text.partition("x")
    return int(parts), int(codes or 0)


def given(**flags: Any) -> dict[str, Any]:
    """The flags that were given."""
    return {name: value for name, value in flags.items() if value is not None}


def checkpoint_folder(folder: Path) -> Path:
    """The checkpoint in `folder`, which is a run or a checkpoint itself; FileNotFoundError if there is none."""
    run = RunFolder(folder)
    if run.checkpoint.is_dir():
        return run.checkpoint
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} holds no checkpoint (no config.json); train one with `onesearch train` or `onesearch run`"
        )
    return folder
