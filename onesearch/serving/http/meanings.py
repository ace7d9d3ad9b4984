"""The meaning of each code of a SID: the facts that the items under its prefixes share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import lru_cache, partial
from typing import Any

import numpy as np

from onesearch.data.market import Market
from onesearch.files import RunFolder
from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex
from onesearch.tokenization_sid.sids.inspection import Catalogue
from onesearch.tokenization_sid.sids.shared_facts import ItemFacts
from onesearch.tokenization_sid.tokenization_sid import sid_token

KEPT = 4096
"""Number of code paths whose meaning is kept."""

TITLES = 3
"""Number of typical titles of each prefix."""


class CodeMeanings:
    """Meanings of codes, looked up when they are asked for.

    Args:
        run: the run; None for a checkpoint without one, of which only item ids are known.
        market: the market of the run.
        index: item index of the checkpoint.
    """

    def __init__(self, run: RunFolder | None, market: Market | None, index: SidIndex) -> None:
        self.run, self.index = run, index
        self.facts = None if market is None else ItemFacts(market.items.data.table)
        self._path: Callable[[tuple[int, ...]], list[dict[str, Any]]] | None = None

    def refresh(self) -> None:
        """Read the catalogue anew when it is next needed, after it has changed."""
        self._path = None

    def of(self, sid: Sequence[int]) -> list[dict[str, Any]]:
        """Describe each code of a SID.

        Returns:
            For each level: the code, its token, the number of items under the prefix that it ends, the facts that they share, and
            typical titles of them.
        """
        path = self._path
        if path is None:
            path = self._path = lru_cache(KEPT)(partial(self._described, self._catalogue()))
        return path(tuple(sid))

    def _catalogue(self) -> Catalogue:
        if self.run is not None and self.run.sids.is_dir():
            return Catalogue.of_run(self.run)
        index = self.index.snapshot()
        return Catalogue.of_index(index.item_ids, index.codes)

    def _described(self, catalogue: Catalogue, sid: tuple[int, ...]) -> list[dict[str, Any]]:
        facts = self.facts
        rows = np.arange(len(catalogue.codes))
        described = []
        for level, code in enumerate(sid):
            above, rows = rows, rows[catalogue.codes[rows, level] == code]
            branch = catalogue.branch(rows, level, code, TITLES)
            shared = [] if facts is None else facts.shared(rows, above)
            described.append(
                {
                    "level": level,
                    "code": code,
                    "token": sid_token(level, code),
                    "items": branch.items,
                    "shared": [asdict(fact) for fact in shared],
                    "titles": list(branch.titles),
                }
            )
        return described


__all__ = ["CodeMeanings"]
