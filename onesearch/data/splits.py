"""How the sessions of a market are split: the settings in ``market.json`` under ``split``. `requests.split_sessions` applies them.

Reading settings imports no library of tables.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .choices import SPLIT_METHODS

if TYPE_CHECKING:
    from .market import Market

logger = logging.getLogger(__name__)

WITH_SHARES = ("time", "random")
"""Methods that take the shares ``validation`` and ``test``."""

SHARES = {"validation": 0.05, "test": 0.1}
"""Shares where none are given; our choice."""


@dataclass(frozen=True)
class SplitConfig:
    """How the sessions of a market are split into training, validation and test.

    Args:
        method: ``time``, ``leave_last_out``, ``random`` or ``none``; see `onesearch.data.requests.split_sessions`.
        validation: share of the searches in the validation split, 0 or more. Default: 0.05. `time` and `random` alone have shares.
        test: share of the searches in the test split, above 0. Default: 0.1.
        seed: which searches a random split draws. Default: 0. Other seeds give other splits of the same market.

    Raises:
        ValueError: the method is unknown, does not take a value that is given, or a value is out of range.
    """

    method: str = "time"
    validation: float | None = None
    test: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.method not in SPLIT_METHODS:
            raise ValueError(f"split method {self.method!r} is unknown; allowed are {', '.join(SPLIT_METHODS)}")
        shares = {"validation": self.validation, "test": self.test}
        unused = {name: share for name, share in shares.items() if share is not None and self.method not in WITH_SHARES}
        if self.seed is not None and self.method != "random":
            unused["seed"] = self.seed
        if unused:
            name, value = next(iter(unused.items()))
            users = "random" if name == "seed" else " or ".join(WITH_SHARES)
            raise ValueError(f"split {name}={value}: the method {self.method} does not use it; leave it out or choose {users}")
        problem = split_values_problem(self.info())
        if problem:
            raise ValueError(problem)

    def info(self) -> dict[str, Any]:
        """The value of ``split`` in ``market.json``, with the defaults filled in."""
        if self.method not in WITH_SHARES:
            return {"method": self.method}
        given = {"validation": self.validation, "test": self.test}
        shares = {name: SHARES[name] if share is None else share for name, share in given.items()}
        return {"method": self.method, **shares, **({"seed": self.seed or 0} if self.method == "random" else {})}


def with_split(market: Market, config: SplitConfig) -> Market:
    """Return the market with another split. The tables are shared; a simulation's oracle is left out, as it belongs to its own split.

    Statistics of items that an importer counted up to the validation and test sessions (``info["statistics"]``) are left empty where the
    new split holds earlier sessions out: they would count what those requests ask for.

    Example:
        >>> market = with_split(market, SplitConfig("random", validation=0, test=0.1, seed=1))  # doctest: +SKIP
    """
    info = {name: value for name, value in market.info.items() if name != "oracle"}
    changed = replace(market, info={**info, "split": config.info()})
    if "statistics" not in info:
        return changed
    from .importers.kuaisearch_statistics import held_out_from, without_statistics

    before, after = held_out_from(market), held_out_from(changed)
    if after is None or (before is not None and before <= after):
        return changed
    logger.warning("the statistics of the items count sessions that the new split holds out; they are left empty")
    return without_statistics(changed)


def split_values_problem(split: Mapping[str, Any]) -> str | None:
    """Message about shares or a seed that cannot be used; None if they can.

    Args:
        split: value of ``split`` in ``market.json``, whose method is known.
    """
    if split.get("method") not in WITH_SHARES:
        return None
    test, validation = split.get("test", SHARES["test"]), split.get("validation", SHARES["validation"])
    numbers = type(test) in (int, float) and type(validation) in (int, float)
    if not (numbers and test > 0 and validation >= 0 and test + validation < 1):
        return (
            f"split shares are test={test!r} and validation={validation!r}; test must be above 0, validation 0 or more, "
            "and their sum below 1"
        )
    seed = split.get("seed", 0)
    if split["method"] == "random" and (type(seed) is not int or seed < 0):
        return f"split seed is {seed!r}; give a whole number of at least 0"
    return None


def describe(split: Mapping[str, Any]) -> str:
    """Return the split in words, for reports: its method, and of a random split the shares and the seed.

    Example:
        >>> describe({"method": "random", "validation": 0, "test": 0.1, "seed": 1})
        'random, 10 % test, 0 % validation, seed 1'
    """
    method = str(split.get("method", "none")).replace("_", " ")
    if split.get("method") != "random":
        return method
    test, validation = split.get("test", SHARES["test"]), split.get("validation", SHARES["validation"])
    return f"{method}, {100 * test:g} % test, {100 * validation:g} % validation, seed {split.get('seed', 0)}"


RANDOM_NOTE = (
    "the split is random: training holds sessions later than those of the test, also of the same users; compare these figures with "
    "other random splits alone, never with a split by time"
)
"""Sentence of a report on a random split."""


__all__ = ["RANDOM_NOTE", "SHARES", "SplitConfig", "describe", "split_values_problem", "with_split"]
