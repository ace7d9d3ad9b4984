"""`onesearch sids inspect`: the codes of a query or an item."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from onesearch.files import RunFolder

from .arguments import Commands, add_command, checkpoint_folder, positive

if TYPE_CHECKING:
    from onesearch.tokenization_sid.sids.inspection import Catalogue


def add(actions: Commands) -> None:
    """Add `inspect` to the actions of `sids`."""
    inspect = add_command(
        actions, "inspect", _inspect_sid, "print the codes of a query or an item, and the items below each prefix"
    )
    inspect.add_argument("text", help="id or title of an item, or a query")
    place = inspect.add_mutually_exclusive_group(required=True)
    place.add_argument("--run", type=Path, help="folder of the run")
    place.add_argument("--checkpoint", type=Path, help="checkpoint folder; outside of its run, the text must be an item id")
    inspect.add_argument(
        "--as",
        dest="kind",
        choices=("auto", "item", "query"),
        default="auto",
        help="read the text as an item or as a query (default: an item if there is one)",
    )
    inspect.add_argument(
        "--titles", type=positive, default=3, metavar="N", help="typical titles shown per level (default: %(default)s)"
    )


def _inspect_sid(options: argparse.Namespace) -> None:
    from onesearch.tokenization_sid.sids.inspection import inspect
    from onesearch.tokenization_sid.tokenization_sid import sid_token

    found = inspect(_catalogue(options), options.text, options.kind, options.titles)
    name = f'item {found.item_id} "{found.text}"' if found.kind == "item" else f'query "{found.text}"'
    print(name + (f", {found.same_title} more with this title" if found.same_title else ""))
    if found.kind == "query":
        print(f"keywords: {', '.join(found.keywords) or 'none'}")
    for branch in found.branches:
        token = "  " * branch.level + sid_token(branch.level, branch.code)
        category = f"{branch.category} ({branch.share:.0%})" if branch.category else "no category"
        print(f"{token}\t{branch.items:,} items\t{category}\t{' | '.join(branch.titles)}")


def _catalogue(options: argparse.Namespace) -> Catalogue:
    """The items of the run; with --checkpoint those of the run that holds it, or of the checkpoint's own index."""
    from onesearch.tokenization_sid.sids.inspection import Catalogue

    if options.run is not None:
        return Catalogue.of_run(RunFolder(options.run))
    from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME, SidIndex
    from onesearch.tokenization_sid.sids.code_files import load_codes

    checkpoint = checkpoint_folder(options.checkpoint)
    index = SidIndex.load(checkpoint / SID_INDEX_NAME)
    run = RunFolder(checkpoint.resolve().parent)
    if not run.sids.is_dir():
        return Catalogue.of_index(index.item_ids, index.codes)
    if load_codes(run, "items").fingerprint != index.fingerprint:
        raise ValueError(
            f"{checkpoint} was trained on other codebooks than {run.sids} holds; train again, or inspect with --run"
        )
    return Catalogue.of_run(run)
