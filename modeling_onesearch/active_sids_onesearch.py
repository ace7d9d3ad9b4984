"""Marks of the SIDs of a trie that a search may find.

Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .trie_onesearch import SidTrie, run_of

FEW_SHARE = 0.01
"""Up to this share of the SIDs, marks are removed path by path; for more the whole trie is marked anew (our choice, measured)."""


@dataclass(frozen=True)
class ActiveSids:
    """Which SIDs of a trie are active, that is, may be found: they still have an item, and one that passes the filter.

    Args:
        inner: per level, (inner nodes,) bool, whether an active SID is below each inner node.
        leaves: (SIDs,) bool, whether each SID is active.
    """

    inner: list[torch.Tensor]
    leaves: torch.Tensor

    @classmethod
    def of(cls, trie: SidTrie, leaves: torch.Tensor) -> ActiveSids:
        """Mark the paths to the active SIDs, in time proportional to the trie's size.

        From the last level upwards: the leaves and inner children of a node are two runs of places, so one running count of the marks of
        each gives how many marks every node has below it.

        Args:
            trie: the trie.
            leaves: (SIDs,) bool, which SIDs are active.
        """
        inner: list[torch.Tensor] = [leaves.new_zeros(0)] * trie.levels
        counted = _running_count(leaves)
        for level in range(trie.levels - 1, 0, -1):
            table = trie.tables[level]
            below = _run_counts(counted, table.leaf_starts)
            below += _run_counts(_running_count(inner[level]), table.inner_starts)
            inner[level - 1] = below > 0
        return cls(inner, leaves)

    @classmethod
    def all_of(cls, trie: SidTrie) -> ActiveSids:
        """Mark every SID of a trie."""
        counts = [*(table.inner for table in trie.tables), len(trie)]
        marks = [torch.ones(count, dtype=torch.bool, device=trie.device) for count in counts]
        return cls(marks[:-1], marks[-1])

    def without(self, trie: SidTrie, removed: torch.Tensor) -> ActiveSids:
        """Remove the marks of a few SIDs, in time that does not depend on the trie's size; this object stays as it is.

        From the last level upwards:

        1. The nodes to look at are the parents of the removed leaves that begin at this level, and the parents of the nodes that lost
           their mark one level below.
        2. A node loses its mark if none of its children is marked.

        Invariant: after `level`, all marks of nodes at `level - 1` and below are those that `of` would give.

        Args:
            trie: the trie that these marks belong to.
            removed: (n,) numbers of SIDs.
        """
        leaves = self.leaves.clone()
        leaves[removed] = False
        changed = ActiveSids([marks.clone() for marks in self.inner], leaves)
        unmarked = removed.new_zeros(0)
        for level in range(trie.levels - 1, 0, -1):
            table = trie.tables[level]
            begin_here = removed[(removed >= trie.tables[level - 1].leaves) & (removed < table.leaves)]
            above = torch.cat([run_of(table.leaf_starts, begin_here), run_of(table.inner_starts, unmarked)]).unique()
            children = trie.expand(level, above)
            is_marked = torch.zeros(len(above), dtype=torch.bool, device=removed.device)
            is_marked[children.rows[changed.keeps(level, children.states)]] = True
            unmarked = above[~is_marked]
            changed.inner[level - 1][unmarked] = False
        return changed

    def keeps(self, level: int, states: torch.Tensor) -> torch.Tensor:
        """Return whether an active SID has each prefix: (n,) states of prefixes that end at `level` → (n,) bool."""
        leaf = self.leaves[(-2 - states).clamp(min=0)] & (states <= -2)
        if not len(self.inner[level]):
            return leaf
        return torch.where(states >= 0, self.inner[level][states.clamp(min=0)], leaf)

    def to(self, device: torch.device | str) -> ActiveSids:
        """Return a copy on `device`."""
        return ActiveSids([marks.to(device) for marks in self.inner], self.leaves.to(device))


def _running_count(marks: torch.Tensor) -> torch.Tensor:
    """Return how many marks precede each place: (n,) bool → (n + 1,) int32."""
    count = torch.zeros(len(marks) + 1, dtype=torch.int32, device=marks.device)
    torch.cumsum(marks, 0, dtype=torch.int32, out=count[1:])
    return count


def _run_counts(counted: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """Return the number of marks in each run: (n + 1,) running counts, (runs + 1,) starts → (runs,)."""
    at = counted[starts.long()]
    return at[1:] - at[:-1]


__all__ = ["FEW_SHARE", "ActiveSids"]
