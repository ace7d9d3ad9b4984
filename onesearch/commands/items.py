"""`onesearch items`: change the catalogue of a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .arguments import add_command, checkpoint_folder


def add(commands: Any) -> None:
    """Add `items` to the command line."""
    parser = commands.add_parser("items", help="add items to a checkpoint's catalogue, or take some out, without training")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    add = add_command(actions, "add", _items_add, "add encoded items; a SID that is published never moves")
    add.add_argument("checkpoint", type=Path, help="checkpoint folder, or a run that has one")
    add.add_argument("table", type=Path, help="parquet: item_id, codes, optionally popularity and categories")
    remove = add_command(actions, "remove", _items_remove, "take items out")
    remove.add_argument("checkpoint", type=Path, help="checkpoint folder, or a run that has one")
    remove.add_argument("items", nargs="+", metavar="ITEM")


def _items_add(options: argparse.Namespace) -> None:
    from onesearch.serving.catalogue import add_from_table

    print(f"{add_from_table(checkpoint_folder(options.checkpoint), options.table):,} items in the catalogue now")


def _items_remove(options: argparse.Namespace) -> None:
    from onesearch.serving.catalogue import remove

    print(f"{remove(checkpoint_folder(options.checkpoint), options.items):,} items in the catalogue now")
