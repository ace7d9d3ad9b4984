"""Shared parts of the commands: the strict parser, types of arguments, and flags that several commands have."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from onesearch.files import RunFolder
from onesearch.modeling_onesearch.search_config_onesearch import CANDIDATES, VIEWS

Commands: TypeAlias = "argparse._SubParsersAction[StrictParser]"
"""The object that `add_subparsers` returns."""


class StrictParser(argparse.ArgumentParser):
    """A parser that refuses abbreviated flags, on every level.

    Every command takes the folder of its run as ``--run RUN``. One whose first argument is that folder (`takes_run`) takes it there, too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["allow_abbrev"] = False
        super().__init__(*args, **kwargs)
        self.takes_run = False

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override]
        """As in argparse, after the value of ``--run`` has become the first argument of a command that `takes_run`."""
        words = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(self._run_first(words) if self.takes_run else words, namespace)

    def _run_first(self, words: list[str]) -> list[str]:
        for place, word in enumerate(words):
            if word.startswith("--run="):
                return [word.removeprefix("--run="), *words[:place], *words[place + 1 :]]
            if word == "--run":
                if place + 1 == len(words):
                    self.error("argument --run: expected the folder of the run")
                return [words[place + 1], *words[:place], *words[place + 2 :]]
        return words


def add_command(commands: Commands, name: str, run: Callable[[argparse.Namespace], int | None], text: str) -> StrictParser:
    """Add a command.

    Args:
        commands: where it is added.
        name: name of the command.
        run: function that does the work and returns the exit code; None is 0.
        text: help and description.
    """
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=run)
    return parser


def add_group(commands: Commands, name: str, text: str) -> Commands:
    """Add a command that consists of actions, and return the object to which they are added."""
    parser = commands.add_parser(name, help=text, description=text)
    return parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=StrictParser)


def add_run_folder(parser: StrictParser) -> None:
    """Add the first argument `run`, which ``--run`` gives as well."""
    parser.add_argument("run", type=Path, help="folder of the run; also --run RUN")
    parser.takes_run = True


def add_checkpoint(parser: StrictParser) -> None:
    """Add the first argument `checkpoint`, which ``--run`` gives as well."""
    parser.add_argument("checkpoint", type=Path, help="folder of a checkpoint, or of a run that has one; also --run RUN")
    parser.takes_run = True


def add_search_settings(parser: argparse.ArgumentParser) -> None:
    """Add the flags that replace the search settings of a checkpoint for one call."""
    group = parser.add_argument_group("search settings", "Default: the settings that the checkpoint was saved with.")
    group.add_argument(
        "--beams", type=positive, metavar="N", help="SIDs kept at each level; more beams find more items and take more time"
    )
    group.add_argument(
        "--rank-by",
        choices=("sid", "item"),
        help="order of the hits: by the probability of the SID, then by popularity within it, or by the probability of the item",
    )
    group.add_argument(
        "--items-per-sid",
        type=positive,
        metavar="N",
        help="items of one SID that may be among the hits; a larger number shows more items of the same SID",
    )
    group.add_argument(
        "--exclude-history",
        action=argparse.BooleanOptionalAction,
        help="leave the items of the user's history out of the hits",
    )
    group.add_argument(
        "--rerank",
        action=argparse.BooleanOptionalAction,
        help="rank the hits of all beams by the checkpoint's reward model",
    )
    group.add_argument(
        "--candidates",
        choices=CANDIDATES,
        help="items that are ranked: those of the beams, and beside them the best of the checkpoint's text index (BM25) or dense index",
    )
    group.add_argument(
        "--text-items",
        type=positive,
        metavar="N",
        help="items of the text index, and of the dense index, that join the beams; a larger number takes more time",
    )
    group.add_argument(
        "--text-weight",
        type=float,
        metavar="WEIGHT",
        help="weight of the text match (BM25) in the order of the hits; a large one gives BM25's order, 0 leaves it out",
    )
    group.add_argument(
        "--text-popularity",
        type=float,
        metavar="WEIGHT",
        help="weight of an item's popularity in its text match; it orders items that the words of a query cannot tell apart",
    )
    group.add_argument(
        "--dense-weight",
        type=float,
        metavar="WEIGHT",
        help="weight of the cosine of query and item in the order of the hits; a large one gives dense retrieval's order, 0 leaves it out",
    )
    group.add_argument(
        "--hide",
        nargs="+",
        choices=VIEWS,
        metavar="VIEW",
        help=f"views that the prompts leave out although the model was trained with them, of {', '.join(VIEWS)}",
    )


def search_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Those flags of `add_search_settings` that were given, as fields of `SearchConfig`."""
    return given(
        num_beams=options.beams,
        rank_by=options.rank_by,
        items_per_sid=options.items_per_sid,
        exclude_history=options.exclude_history,
        hidden_views=options.hide,
        rerank=options.rerank,
        candidates=options.candidates,
        text_items=options.text_items,
        text_weight=options.text_weight,
        text_popularity=options.text_popularity,
        dense_weight=options.dense_weight,
    )


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} must be at least 1")
    return value


def positive_number(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be above 0 and finite")
    return value


def codebook_sizes(text: str) -> tuple[int, ...]:
    """Positive numbers that are separated by commas, for example 256,128,64."""
    return tuple(positive(part) for part in text.split(","))


def opq(text: str) -> tuple[int, int]:
    """Number of product codes and codebook size of each, for example 2x64."""
    parts, _, codes = text.partition("x")
    return int(parts), int(codes or 0)


def given(**flags: Any) -> dict[str, Any]:
    """Those flags that were given."""
    return {name: value for name, value in flags.items() if value is not None}


def quiet_libraries() -> None:
    """Show no progress bar of transformers: loading the weights of a checkpoint takes no time."""
    from transformers.utils import logging

    logging.disable_progress_bar()


def checkpoint_folder(folder: Path) -> Path:
    """The checkpoint in `folder`, which is a run or a checkpoint itself.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the checkpoint of the run was trained on other codebooks than the run's SIDs.
    """
    run = RunFolder(folder)
    if run.checkpoint.is_dir():
        from onesearch.tokenization_sid.sids.sid_folder import check_checkpoint

        check_checkpoint(run)
        return run.checkpoint
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} holds no checkpoint (no config.json); train one with `onesearch train` or `onesearch run`"
        )
    return folder
