"""A large trie seen through a filter and with SIDs that were added later, without building it anew.

Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

import torch

from .active_sids_onesearch import FEW_SHARE, ActiveSids
from .trie_onesearch import NONE, Children, SidTrie, Trie

SUBSET_SHARE = 0.03
"""A filter that keeps a smaller share of the SIDs builds a trie of its own; a larger one marks what it keeps (our choice, measured)."""


class TrieView(Trie):
    """A large trie without its inactive SIDs and with the SIDs that were added since it was built. It reads like a [`SidTrie`].

    The numbers of the SIDs of `added` follow those of `base`. With an added trie a state packs the states of a prefix in both tries into
    one integer; see `pack`.

    Args:
        base: the large trie; it is not changed.
        active: which SIDs of `base` a search may find; None for all.
        added: a trie of further SIDs, none of which is in `base`; None if there are none.
    """

    def __init__(self, base: SidTrie, active: ActiveSids | None = None, added: SidTrie | None = None) -> None:
        super().__init__(base.codebook_sizes)
        self.base = base
        self.active = active
        self.added = added

    def __len__(self) -> int:
        """Return the number of SIDs, inactive ones included."""
        return len(self.base) + (len(self.added) if self.added is not None else 0)

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return self.base.device

    def to(self, device: torch.device | str) -> TrieView:
        """Move the tables to `device`, in place."""
        self.base.to(device)
        self.active = None if self.active is None else self.active.to(device)
        self.added = None if self.added is None else self.added.to(device)
        return self

    def is_open(self, states: torch.Tensor) -> torch.Tensor:
        """See `Trie.is_open`. A prefix with one active and some inactive SIDs stays open, which costs time and changes no result."""
        if self.added is None:
            return states >= 0
        base, added = unpack(states)
        return (base >= 0) | (added >= 0) | ((base <= -2) & (added <= -2))

    def start(self, rows: int) -> torch.Tensor:
        """See `Trie.start`."""
        base = self.base.start(rows)
        return base if self.added is None else pack(base, self.added.start(rows))

    def child(self, level: int, states: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        """See `Trie.child`."""
        if self.added is None:
            return self._child_in_base(level, states, codes)
        base, added = unpack(states)
        return pack(self._child_in_base(level, base, codes), self.added.child(level, added, codes))

    def _child_in_base(self, level: int, states: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
        found = self.base.child(level, states, codes)
        if self.active is None:
            return found
        return torch.where((found != NONE) & self.active.keeps(level, found), found, NONE)

    def expand(self, level: int, states: torch.Tensor) -> Children:
        """Find all children of each prefix in both tries; see `Trie.expand`.

        1. Expand the prefixes in `base`, dropping inactive children, and in `added`.
        2. Merge by code the children of those prefixes that have children in `added`: `torch.unique` over `row · codebook size + code` puts
           a child of `base` and one of `added` with the same code into one place.
        3. The children of all other prefixes come from `base` alone. A stable sort by row puts both groups in order.

        Invariant: no prefix has two children with the same code.
        """
        in_base = self._expand_base(level, states if self.added is None else unpack(states)[0])
        if self.added is None:
            return in_base
        in_added = self.added.expand(level, unpack(states)[1])
        if not len(in_added.rows):
            return in_base._replace(states=pack(in_base.states, torch.full_like(in_base.states, NONE)))
        has_added = torch.zeros(len(states), dtype=torch.bool, device=states.device)
        has_added[in_added.rows] = True
        to_merge = has_added[in_base.rows]
        merged = _merge_children(Children(*(part[to_merge] for part in in_base)), in_added, self.codebook_sizes[level])
        row, code, state = (part[~to_merge] for part in in_base)
        rows = torch.cat([row, merged.rows])
        order = rows.argsort(stable=True)
        codes = torch.cat([code, merged.codes])
        packed = torch.cat([pack(state, torch.full_like(state, NONE)), merged.states])
        return Children(rows[order], codes[order], packed[order])

    def _expand_base(self, level: int, states: torch.Tensor) -> Children:
        children = self.base.expand(level, states)
        if self.active is None:
            return children
        kept = self.active.keeps(level, children.states)
        return Children(*(part[kept] for part in children))

    def leaf_of(self, states: torch.Tensor) -> torch.Tensor:
        """See `Trie.leaf_of`."""
        if self.added is None:
            return self.base.leaf_of(states)
        base_states, added_states = unpack(states)
        base, added = self.base.leaf_of(base_states), self.added.leaf_of(added_states)
        leaf = torch.where(base >= 0, base, torch.where(added >= 0, len(self.base) + added, NONE))
        return leaf.masked_fill(self.is_open(states), NONE)  # a prefix may be finished in each of the two tries

    def sids_of(self, leaves: torch.Tensor) -> torch.Tensor:
        """See `Trie.sids_of`."""
        if self.added is None:
            return self.base.sids_of(leaves)
        is_base = leaves < len(self.base)
        base = self.base.sids_of(torch.where(is_base, leaves, NONE))
        added = self.added.sids_of(torch.where(is_base, NONE, leaves - len(self.base)))
        return torch.where(is_base[:, None], base, added)


def _merge_children(base: Children, added: Children, codebook_size: int) -> Children:
    """Merge the children of the same prefixes in two tries by row and code; the states of the result are packed."""
    rows, codes = torch.cat([base.rows, added.rows]), torch.cat([base.codes, added.codes])
    keys, place = torch.unique(rows * codebook_size + codes, return_inverse=True)
    states = torch.full((2, len(keys)), NONE, dtype=torch.long, device=rows.device)
    states[0, place[: len(base.rows)]] = base.states
    states[1, place[len(base.rows) :]] = added.states
    return Children(keys // codebook_size, keys % codebook_size, pack(states[0], states[1]))


def restrict(trie: SidTrie | TrieView, kept: torch.Tensor) -> SidTrie | TrieView:
    """Restrict a trie to the SIDs that pass a filter. `leaf_of` calls them by the numbers that the unfiltered trie gives them.

    1. Active SIDs that pass are kept; so are SIDs of the added trie that pass.
    2. If they are few (`SUBSET_SHARE`), they get a trie of their own.
    3. Otherwise the base is marked: path by path where few SIDs are excluded (`FEW_SHARE`), else as a whole.

    Args:
        trie: a whole trie or a view.
        kept: (SIDs,) bool, whether each SID passes.

    Raises:
        ValueError: no SID passes.
    """
    view = trie if isinstance(trie, TrieView) else TrieView(trie)
    base, active, added = view.base, view.active, view.added
    base_kept = kept[: len(base)] if active is None else kept[: len(base)] & active.leaves
    added_kept = kept[len(base) :].nonzero()[:, 0]
    count = int(base_kept.sum()) + len(added_kept)
    if not count:
        raise ValueError("the filter keeps no item of the catalogue; allow more")
    if count < SUBSET_SHARE * len(kept):
        return trie.subset(torch.cat([base_kept.nonzero()[:, 0], len(base) + added_kept]))
    marks = active or ActiveSids.all_of(base)
    excluded = marks.leaves & ~base_kept
    few = int(excluded.sum()) < FEW_SHARE * len(base)
    marks = marks.without(base, excluded.nonzero()[:, 0]) if few else ActiveSids.of(base, base_kept)
    passing = added.subset(added_kept) if added is not None and len(added_kept) else None
    return TrieView(base, marks, passing)


def pack(base: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    """Put two states into one int64, `base` in the upper 32 bits; twice `NONE` gives `NONE`."""
    return (base << 32) | (added & 0xFFFFFFFF)


def unpack(states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the two states that `pack` put together."""
    return states >> 32, ((states & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000


__all__ = ["SUBSET_SHARE", "TrieView", "pack", "restrict", "unpack"]
