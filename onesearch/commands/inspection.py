"""`onesearch sids inspect`: the codes of a query or an item."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from onesearch.files import RunFolder

from .arguments import add_command, checkpoint_folder, positive


def add(actions: Any) -> None:
    """Add `sids inspect` to the actions of `sids`."""
    inspect = add_command(actions, "inspect", _inspect_sid, "the codes of a query or an item, and what lies under each prefix")
    inspect.add_argument("text", help="an item's id or title, or a query")
    place = inspect.add_mutually_exclusive_group(required=True)
    place.add_argument("--run", type=Path, help="folder of the run")
    place.add_argument("--checkpoint", type=Path, help="checkpoint folder; outside of its run it knows item ids alone")
    inspect.add_argument("--as", dest="kind", choices=("auto", "item", "query"), default="auto", help="how to read the text")
    inspect.add_argument("--titles", type=positive, default=3, help="typical titles per level (default: %(default)s)")


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


def _catalogue(options: argparse.Namespace) -> Any:
    """Items of a run; of a checkpoint's run if it lies in one, else of the checkpoint's own index."""
    from onesearch.tokenization_sid.sids.inspection import Catalogue

    if options.run is not None:
        return Catalogue.of_run(RunFolder(options.run))
    from onesearch.modeling_onesearch.index_onesearch import SID_INDEX_NAME, SidIndex
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
