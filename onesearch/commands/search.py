"""`onesearch search`: search with a checkpoint."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from .arguments import add_command, checkpoint_folder, positive


def add(commands: Any) -> None:
    """Add `search` to the command line."""
    parser = add_command(commands, "search", _search, "search with a checkpoint")
    parser.add_argument("checkpoint", type=Path, help="checkpoint folder, or a run that has one")
    parser.add_argument("query")
    parser.add_argument("--history", nargs="*", default=[], metavar="ITEM", help="item ids, oldest first")
    parser.add_argument(
        "--purchased", nargs="*", default=[], metavar="ITEM", help="those of them (and older ones) that were bought"
    )
    parser.add_argument("--queries", nargs="*", default=[], metavar="TEXT", help="earlier queries, oldest first")
    parser.add_argument("--profile", nargs="*", default=[], metavar="WORD", help="for instance: female 25-34")
    parser.add_argument("--top-k", type=positive, default=10)
    parser.add_argument("--beams", type=positive, default=50)
    parser.add_argument("--category", nargs="+", metavar="NAME", help="only items with one of these on their category path")
    parser.add_argument("--exclude", nargs="+", metavar="ITEM", help="items that must not be found")
    parser.add_argument("--items-per-sid", type=positive, default=5, help="items shown of one SID (default: %(default)s)")
    parser.add_argument("--explain", action="store_true", help="show the probability of each code")


def _search(options: argparse.Namespace) -> None:
    from onesearch.data.requests import UserContext
    from onesearch.serving.searcher import Searcher

    searcher = Searcher.from_pretrained(checkpoint_folder(options.checkpoint))
    history = options.history
    context = UserContext(options.queries, history, options.purchased, profile=tuple(options.profile))
    hits = searcher.search(
        options.query,
        history,
        options.top_k,
        options.beams,
        context=context,
        exclude=options.exclude,
        categories=options.category,
        items_per_sid=options.items_per_sid,
        explain=options.explain,
    )
    for rank, hit in enumerate(hits, start=1):
        parts = "".join(f"\t{math.exp(part):.3f}" for part in hit.level_scores or ())
        print(f"{rank}\t{hit.item_id}\t{searcher.tokenizer.sid_string(hit.sid)}\t{hit.score:.4f}{parts}")
