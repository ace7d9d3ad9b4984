"""`onesearch push` and `onesearch pull`: a run on the Hub, and back."""

from __future__ import annotations

import argparse
from pathlib import Path

from onesearch.files import RunFolder

from .arguments import Commands, add_command, add_run_folder


def add(commands: Commands) -> None:
    """Add `push` and `pull` to the command line."""
    text = "publish a run on the Hub: weights, code, index, codebooks, card, plots and evaluation in one commit"
    parser = add_command(commands, "push", _push, text)
    add_run_folder(parser)
    parser.add_argument("repository", help="ORGANISATION/NAME; it is made if it does not exist")
    parser.add_argument("--private", action="store_true", help="make a new repository private; an existing one stays as it is")
    parser.add_argument("--revision", help="branch that is pushed to; it is made if it does not exist (default: main)")
    parser.add_argument("--license", default="apache-2.0", help="licence of the weights in a new card (default: %(default)s)")
    parser.add_argument(
        "--card",
        choices=("hub", "local"),
        help="card whose text is kept if both the one on the Hub and the run's were edited (default: such a push is refused)",
    )
    parser.add_argument("--dry-run", action="store_true", help="list the files and their sizes, and publish nothing")
    fetch = add_command(commands, "pull", _pull, "fetch a published checkpoint into a folder")
    fetch.add_argument("repository", help="ORGANISATION/NAME")
    fetch.add_argument("folder", type=Path, help="new or empty folder")
    fetch.add_argument("--revision", help="branch, tag or commit (default: main)")


def _push(options: argparse.Namespace) -> None:
    from onesearch.model_cards.publishing import plan_push, push_run
    from onesearch.pipeline.run_lock import writing
    from onesearch.tokenization_sid.sids.sid_folder import check_checkpoint

    run = RunFolder(options.run)
    run.require("checkpoint", "onesearch train")
    check_checkpoint(run)
    with writing(run, "onesearch push"):
        if options.dry_run:
            _print_files(plan_push(run))
            return
        published = push_run(
            run,
            options.repository,
            private=options.private or None,
            revision=options.revision,
            card=options.card,
            license=options.license,
        )
    print(f"{len(published.files)} files in one commit: {published.url}")
    print(f"pinned by the tag {published.tag}")


def _print_files(files: list[tuple[str, int]]) -> None:
    for path, size in files:
        print(f"{size:>14,}  {path}")
    print(f"{sum(size for _, size in files):>14,}  bytes in {len(files)} files; nothing was published")


def _pull(options: argparse.Namespace) -> None:
    from onesearch.model_cards.publishing import pull

    folder = pull(options.repository, options.folder, options.revision)
    print(f"{options.repository} is in {folder}; search it with `onesearch search {folder} QUERY`")
