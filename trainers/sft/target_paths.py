"""The Semantic IDs among the targets of a batch, and the trie's children along their paths.

Label smoothing and soft targets apply there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from onesearch.modeling_onesearch.modeling_onesearch import IGNORED
from onesearch.modeling_onesearch.scores_onesearch import TargetGroup
from onesearch.modeling_onesearch.trie_onesearch import SidTrie
from onesearch.modeling_onesearch.trie_view_onesearch import TrieView

TEXT = -1
"""Level of a target that is a token of text."""


class SidLayout(NamedTuple):
    """Where the Semantic IDs lie in a vocabulary.

    Args:
        offset: vocabulary id of the first code of the first level; the codes of one level follow those of the level before it.
        sizes: number of codes of each level.
    """

    offset: int
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, config: Any) -> SidLayout:
        """That of a model's configuration."""
        return cls(config.sid_offset, tuple(config.sid_codebook_sizes))

    def codes(self, tokens: torch.Tensor) -> torch.Tensor:
        """Codes, counted from 0 within each level, of vocabulary ids (..., levels); out of range where a token has another level."""
        sizes = torch.tensor(self.sizes, device=tokens.device)
        return tokens - (self.offset + sizes.cumsum(0) - sizes)

    def tokens(self, codes: torch.Tensor) -> torch.Tensor:
        """Vocabulary ids of codes (..., levels)."""
        sizes = torch.tensor(self.sizes, device=codes.device)
        return codes + (self.offset + sizes.cumsum(0) - sizes)

    def level_of(self, group: TargetGroup, targets: torch.Tensor) -> int:
        """Level of the targets of a group, `TEXT` for tokens of text; `targets` are those that the group was made of."""
        place = int(targets.flatten()[group.rows[0]]) - self.offset
        if place < 0 or place >= sum(self.sizes):
            return TEXT
        level = 0
        while place >= self.sizes[level]:
            place -= self.sizes[level]
            level += 1
        return level


class TargetPaths(NamedTuple):
    """The rows of a batch whose targets are one whole Semantic ID.

    Args:
        rows: (n,) rows of the batch.
        codes: (n, levels) codes of their Semantic IDs, counted from 0 within each level.
        place: (batch,) number of each row among `rows`, -1 for another row.
    """

    rows: torch.Tensor
    codes: torch.Tensor
    place: torch.Tensor

    @classmethod
    def of(cls, targets: torch.Tensor, layout: SidLayout, trie: SidTrie | TrieView | None = None) -> TargetPaths:
        """Find them.

        Args:
            targets: (batch, length) vocabulary ids, -100 where there is no target.
            layout: where the Semantic IDs lie in the vocabulary.
            trie: leaves out Semantic IDs that it does not have, for instance those of queries; None leaves out none.
        """
        is_target = targets != IGNORED
        rows = (is_target.sum(1) == len(layout.sizes)).nonzero()[:, 0]
        codes = layout.codes(targets[rows][is_target[rows]].view(-1, len(layout.sizes)))
        kept = ((codes >= 0) & (codes < torch.tensor(layout.sizes, device=codes.device))).all(1)
        rows, codes = rows[kept], codes[kept]
        if trie is not None:
            known = trie.leaf_of(trie.walk(codes)) >= 0
            rows, codes = rows[known], codes[known]
        place = torch.full((len(targets),), -1, device=targets.device)
        return cls(rows, codes, place.index_copy(0, rows, torch.arange(len(rows), device=rows.device)))


def allowed_codes(trie: SidTrie | TrieView, codes: torch.Tensor, sizes: Sequence[int]) -> list[torch.Tensor]:
    """The children that a trie allows at each node of the paths of Semantic IDs.

    Args:
        trie: the catalogue's trie.
        codes: (n, levels) codes of Semantic IDs of the trie.
        sizes: number of codes of each level.

    Returns:
        Per level (n, codes of the level) bool.
    """
    states, found = trie.start(len(codes)), []
    for level, size in enumerate(sizes):
        children = trie.expand(level, states)
        allowed = torch.zeros((len(codes), size), dtype=torch.bool, device=codes.device)
        allowed[children.rows, children.codes] = True
        found.append(allowed)
        states = trie.child(level, states, codes[:, level])
    return found


__all__ = ["TEXT", "SidLayout", "TargetPaths", "allowed_codes"]
