"""`onesearch items`: change the catalogue of a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import Commands, add_checkpoint, add_command, add_group, checkpoint_folder


def add(commands: Commands) -> None:
    """Add `items` to the command line."""
    actions = add_group(commands, "items", "add items to a checkpoint's catalogue, or remove some, without training")
    more = add_command(actions, "add", _add_items, "add encoded items; published SIDs do not change")
    add_checkpoint(more)
    more.add_argument("table", type=Path, help="parquet file with item_id, codes and optionally popularity and categories")
    fewer = add_command(actions, "remove", _remove_items, "remove items")
    add_checkpoint(fewer)
    fewer.add_argument("items", nargs="+", metavar="ITEM", help="ids of the items to remove")


def _add_items(options: argparse.Namespace) -> None:
    from onesearch.serving.catalogue import add_from_table

    print(f"{add_from_table(checkpoint_folder(options.checkpoint), options.table):,} items in the catalogue now")


def _remove_items(options: argparse.Namespace) -> None:
    from onesearch.serving.catalogue import remove

    print(f"{remove(checkpoint_folder(options.checkpoint), options.items):,} items in the catalogue now")
