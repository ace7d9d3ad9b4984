"""Items that a caller names for the queries of a search: their SIDs, and the hits that they are beside those of the beams.

Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .catalogue_state_onesearch import CatalogueState
from .columns_onesearch import gather
from .hits_onesearch import Hit, log_shares


@dataclass(frozen=True)
class GivenItems:
    """Items that are named for each query of a batch, in one state of the catalogue. `SidIndex.given` makes it.

    Args:
        state: the catalogue.
        mask: (rows,) bool, whether each item passes the filter; None without one.
        rows: the rows of each query's items, (items,) each, no item twice.
        leaves: (queries, sids) numbers of the distinct SIDs of each query's items, ascending; -1 where a query has fewer.
    """

    state: CatalogueState
    mask: np.ndarray | None
    rows: list[np.ndarray]
    leaves: np.ndarray

    @classmethod
    def of(cls, state: CatalogueState, mask: np.ndarray | None, item_ids: Sequence[Sequence[str]]) -> GivenItems:
        """Look up the items of each query. Those that are not in the catalogue, or do not pass the filter, are left out."""
        rows, distinct = [], []
        for own in item_ids:
            found = state.find_rows(list(dict.fromkeys(own)), missing_ok=True)
            found = found[found >= 0]
            rows.append(found if mask is None else found[mask[found]])
            distinct.append(np.unique(_leaves(state, rows[-1])))
        leaves = np.full((len(rows), max(map(len, distinct), default=0)), -1, dtype=np.int64)
        for query, numbers in enumerate(distinct):
            leaves[query, : len(numbers)] = numbers
        return cls(state, mask, rows, leaves)

    def sids(self, device: torch.device) -> torch.Tensor:
        """Codes of the distinct SIDs of each query, (queries, sids, levels); -1 throughout where a query has fewer."""
        leaves = torch.from_numpy(self.leaves).to(device)
        return self.state.trie.to(device).sids_of(leaves.flatten()).view(*leaves.shape, self.state.trie.levels)

    def hits(self, level_scores: torch.Tensor, rank_by: str, explain: bool) -> list[list[Hit]]:
        """The hits of each query, in the order in which its items were named; `SidIndex.hits` documents their scores.

        Args:
            level_scores: (queries, sids, levels) log-probability of each code of the SIDs.
            rank_by: ``sid``, or ``item``, which adds the log of the item's share in its SID.
            explain: put the log-probability of each code into the hits.
        """
        tables, updates = self.state.tables, self.state.updates
        scores = level_scores.sum(-1).cpu().tolist()
        shares: dict[int, dict[int, float]] = {}  # by SID, then by item; the queries of a batch often share SIDs
        hits = []
        for query, rows in enumerate(self.rows):
            leaves = _leaves(self.state, rows)
            places = np.searchsorted(self.leaves[query][self.leaves[query] >= 0], leaves).tolist()
            sids = gather(tables.codes, updates.codes, rows).tolist()
            found = []
            for item_id, row, leaf, place, sid in zip(
                tables.ids.at(rows.tolist(), updates.ids), rows.tolist(), leaves.tolist(), places, sids
            ):
                share = 0.0
                if rank_by == "item":
                    if leaf not in shares:
                        shares[leaf] = self._shares(leaf)
                    share = shares[leaf][row]
                parts = tuple(level_scores[query, place].tolist()) if explain else None
                found.append(Hit(item_id, tuple(sid), scores[query][place] + share, parts))
            hits.append(found)
        return hits

    def _shares(self, leaf: int) -> dict[int, float]:
        """Log of the share of each item of a SID, by row, among those that may be found."""
        rows = self.state.rows_in_sid(leaf, self.mask)
        shares = log_shares(gather(self.state.tables.popularity, self.state.updates.popularity, rows))
        return dict(zip(rows.tolist(), shares.tolist()))


def merged(found: Sequence[Hit], given: Sequence[Hit]) -> list[Hit]:
    """Hits of a beam and given hits in one list, best first. An item that is in both occurs once, as the beam found it."""
    known = {hit.item_id for hit in found}
    return sorted([*found, *(hit for hit in given if hit.item_id not in known)], key=lambda hit: -hit.score)


def _leaves(state: CatalogueState, rows: np.ndarray) -> np.ndarray:
    """Number of the SID of each item, (items,) int64."""
    return gather(state.tables.leaf_of_row, state.leaves, rows).astype(np.int64)


__all__ = ["GivenItems", "merged"]
