"""`onesearch sids levels`: shows how much each level of a run's SIDs tells of category, brand and attributes."""

from __future__ import annotations

import argparse

from onesearch.files import RunFolder

from .arguments import Commands, add_command, add_run_folder


def add(actions: Commands) -> None:
    """Add `levels` to the actions of `sids`."""
    text = "print the share of category, brand and attributes that the first level tells, the first two, and so on"
    add_run_folder(add_command(actions, "levels", _levels, text))


def _levels(options: argparse.Namespace) -> None:
    from onesearch.data.market import Market
    from onesearch.tokenization_sid.sids.code_files import load_codes
    from onesearch.tokenization_sid.sids.level_meaning import item_values, level_meaning, table

    run = RunFolder(options.run)
    market = Market.load(run.require("market", "onesearch data"))
    run.require("sids", "onesearch sids build")
    stored = load_codes(run, "items")
    if len(stored.codes) != len(market.items):
        raise ValueError(
            f"{run.sids} holds codes of {len(stored.codes):,} items, the market {len(market.items):,}: the market has changed; build the "
            "SIDs again"
        )
    print(table(level_meaning(stored.codes, stored.codebook_sizes, item_values(market))))
