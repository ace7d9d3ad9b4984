"""`onesearch items`: change the catalogue of a checkpoint."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .arguments import Commands, add_checkpoint, add_command, add_group, checkpoint_folder


def add(commands: Commands) -> None:
    """Add `items` to the command line."""
    actions = add_group(commands, "items", "add items to a checkpoint's catalogue, or remove some, without training")
    more = add_command(actions, "add", _add_items, "add encoded items; published SIDs do not change")
    add_checkpoint(more)
    more.add_argument(
        "table", type=Path, help="parquet file with item_id, codes and optionally popularity, categories and text"
    )
    more.add_argument(
        "--known",
        choices=("raise", "skip"),
        default="raise",
        help="items that the catalogue has already: refuse the table, or leave them out, so that a command that was stopped can be run "
        "again (default: %(default)s)",
    )
    fewer = add_command(actions, "remove", _remove_items, "remove items")
    add_checkpoint(fewer)
    fewer.add_argument("items", nargs="+", metavar="ITEM", help="ids of the items to remove")
    fewer.add_argument(
        "--unknown",
        choices=("raise", "skip"),
        default="raise",
        help="items that the catalogue does not have: refuse the command, or leave them out, so that a command that was stopped can be run "
        "again (default: %(default)s)",
    )


def _add_items(options: argparse.Namespace) -> None:
    from onesearch.serving.catalogue import add_from_table

    with _writing(options) as checkpoint:
        count = add_from_table(checkpoint, options.table, known=options.known)
    print(f"{count:,} items in the catalogue now")


def _remove_items(options: argparse.Namespace) -> None:
    from onesearch.serving.catalogue import remove

    with _writing(options) as checkpoint:
        count = remove(checkpoint, options.items, unknown=options.unknown)
    print(f"{count:,} items in the catalogue now")


@contextmanager
def _writing(options: argparse.Namespace) -> Iterator[Path]:
    """Give the folder of the checkpoint. Commands of this module wait for each other; others that write into its run are refused."""
    from onesearch.files import LOCK_TIMEOUT
    from onesearch.pipeline.run_lock import writing_into

    checkpoint = checkpoint_folder(options.checkpoint)
    with writing_into(checkpoint, "onesearch items", LOCK_TIMEOUT):
        yield checkpoint
