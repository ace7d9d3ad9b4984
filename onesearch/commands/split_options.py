"""Flags of the commands that make a market: how its sessions are split."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from onesearch.data.choices import SPLIT_METHODS

if TYPE_CHECKING:
    from onesearch.data.market import Market


def add_split(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the split."""
    group = parser.add_argument_group(
        "split of the sessions into training, validation and test", "Default: the importer's own."
    )
    group.add_argument(
        "--split",
        choices=SPLIT_METHODS,
        help="by time, the last session of each user, searches drawn at random (for comparison with tables that were made so: "
        "training then knows later sessions than the test), or no split",
    )
    group.add_argument(
        "--test-share",
        type=float,
        metavar="SHARE",
        help="share of the searches in the test split (default: 0.1); by time or random",
    )
    group.add_argument(
        "--validation-share",
        type=float,
        metavar="SHARE",
        help="share of the searches in the validation split (default: 0.05); by time or random; 0 leaves it empty",
    )
    group.add_argument("--split-seed", type=int, metavar="N", help="seed of a random split (default: 0)")


def check_split(options: argparse.Namespace) -> None:
    """Refuse flags that fit no split, before anything is read.

    Raises:
        ValueError: a share or the seed is out of range, or does not fit the method.
    """
    from onesearch.data.splits import SplitConfig

    SplitConfig(options.split or "random", **_values(options))


def split_as_asked(market: Market, options: argparse.Namespace) -> Market:
    """Return the market with the split that the flags ask for; as it is without flags.

    Raises:
        ValueError: a share or the seed does not fit the method.
    """
    from onesearch.data.splits import SplitConfig, with_split

    values = _values(options)
    if options.split is None and set(values.values()) == {None}:
        return market
    return with_split(market, SplitConfig(options.split or market.info["split"]["method"], **values))


def _values(options: argparse.Namespace) -> dict[str, Any]:
    """Shares and seed that the flags name, as fields of `SplitConfig`; None for those that are not given."""
    return {"validation": options.validation_share, "test": options.test_share, "seed": options.split_seed}


__all__ = ["add_split", "check_split", "split_as_asked"]
