"""`onesearch search`: search with a checkpoint."""

from __future__ import annotations

import argparse
import math

from .arguments import (
    Commands,
    add_checkpoint,
    add_command,
    add_search_settings,
    checkpoint_folder,
    positive,
    quiet_libraries,
    search_settings,
)


def add(commands: Commands) -> None:
    """Add `search` to the command line."""
    parser = add_command(
        commands,
        "search",
        _search,
        "search with a checkpoint; prints rank, item, SID, score, title, brand and price of each hit",
    )
    add_checkpoint(parser)
    parser.add_argument("query", help="text to search for")
    parser.add_argument("--top-k", type=positive, default=10, metavar="N", help="number of hits (default: %(default)s)")
    parser.add_argument(
        "--category", nargs="+", metavar="NAME", help="find only items with one of these on their category path"
    )
    parser.add_argument("--exclude", nargs="+", metavar="ITEM", help="items that must not be found")
    parser.add_argument("--explain", action="store_true", help="also print the probability of each code of the SID")
    user = parser.add_argument_group(
        "user", "Parts of the user context; a part that the checkpoint's prompts lack has no effect."
    )
    user.add_argument(
        "--history", nargs="*", default=[], metavar="ITEM", help="ids of clicked or purchased items, oldest first"
    )
    user.add_argument("--purchased", nargs="*", default=[], metavar="ITEM", help="ids of purchased items, oldest first")
    user.add_argument("--queries", nargs="*", default=[], metavar="TEXT", help="earlier queries, oldest first")
    user.add_argument("--profile", nargs="*", default=[], metavar="WORD", help="profile of the user, for example: female 25-34")
    add_search_settings(parser)


def _search(options: argparse.Namespace) -> None:
    from onesearch.data.requests import UserContext
    from onesearch.modeling_onesearch.engines_onesearch import prefer_compiled
    from onesearch.registration import models_later

    quiet_libraries()
    prefer_compiled(False)  # importing the compiler takes longer than this one search without it
    with models_later():  # the plain model needs none of transformers' own
        from onesearch.serving.searcher import Searcher

        searcher = Searcher.from_pretrained(checkpoint_folder(options.checkpoint), plain=True, **search_settings(options))
        history = options.history
        hits = searcher.search(
            options.query,
            history,
            options.top_k,
            context=UserContext(options.queries, history, options.purchased, profile=tuple(options.profile)),
            exclude=options.exclude,
            categories=options.category,
            explain=options.explain,
        )
    for rank, hit in enumerate(hits, start=1):
        parts = "".join(f"\t{math.exp(part):.3f}" for part in hit.level_scores or ())
        price = "" if hit.price is None else f"{hit.price:.2f}"
        facts = f"{hit.title or ''}\t{hit.brand or ''}\t{price}"
        print(f"{rank}\t{hit.item_id}\t{searcher.tokenizer.sid_string(hit.sid)}\t{hit.score:.4f}\t{facts}{parts}")
