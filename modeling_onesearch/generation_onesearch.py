"""Beam search over the SIDs of a trie. Two engines give the same beams: torch operations, and a kernel compiled by numba.

Codes are numbered per level (0 … codebook size - 1); vocabulary ids do not occur here.
Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from .active_sids_onesearch import ActiveSids
from .engines_onesearch import compiled_wanted
from .frontier_onesearch import FinalBeams, Frontier, TorchFrontier
from .kernel_arrays_onesearch import BeamArrays, LevelTables, Marks
from .trie_onesearch import NONE, ROOT, SidTrie
from .trie_view_onesearch import TrieView, pack

StepFunction = Callable[[torch.Tensor | None, torch.Tensor | None, int], tuple[torch.Tensor, torch.Tensor | None]]
"""The model as `step(codes, parents, level)`, which returns the logits of one level and their normalisers.

* ``codes``: (queries, active beams), the last code of each active beam; None at level 0.
* ``parents``: (queries · active beams,), the row of the previous step that each active beam extends; None at level 0.
* ``level``: the level to predict.
* It returns the logits (rows, codebook_sizes[level]), where rows = queries · active beams, or the number of queries at level 0; and the
  log-normaliser (rows,) of each row, or None where scores are normalised over the allowed children.
"""


@dataclass(frozen=True)
class Beams:
    """The SIDs that a beam search found, best first.

    Args:
        leaves: (queries, beams) numbers of the SIDs as `Trie.leaf_of` gives them, -1 where a query has fewer SIDs than beams.
        scores: (queries, beams) log-probabilities, -inf where there is no SID.
        level_scores: (queries, beams, levels) the log-probability of each code; their sum is the score.
    """

    leaves: torch.Tensor
    scores: torch.Tensor
    level_scores: torch.Tensor


def beam_search(
    step: StepFunction,
    trie: SidTrie | TrieView,
    queries: int,
    num_beams: int,
    finish_early: bool = True,
    compiled: bool | None = None,
) -> Beams:
    """Find the best SIDs of a trie by beam search, level by level. Only codes that the trie allows are scored.

    At each level, for each query:

    1. The model runs for the *active* beams, those whose next code has to be decided.
    2. Each active beam is replaced by its children in the trie. A child's score is the beam's plus the log-probability of its code,
       normalised over the beam's children, or over more if `step` gives normalisers.
    3. *Finished* beams, whose prefix only one SID has, keep their score: the rest of their SID is certain.
    4. The best `num_beams` among children and finished beams are kept.

    Invariant: the beams of a query are distinct prefixes, best first, and each has at least one SID that may be found.

    Scores are those of `generate` with `TrieLogitsProcessor` and `renormalize_logits=True`, unless `step` gives normalisers. A query with
    fewer SIDs than beams gets fewer.

    Args:
        step: the model.
        trie: the SIDs that may be found.
        queries: number of queries in the batch.
        num_beams: number of beams kept for each query, at least 1. More beams find better SIDs and take longer. There are never more than
            SIDs in the trie, so a larger number gives the same result at the same cost.
        finish_early: whether the model stops running for finished beams. Set it to False when `step` gives normalisers, since the
            remaining codes then change the score.
        compiled: whether to use the compiled kernel; None uses it where numba is installed, the tables are on the CPU and
            `prefer_compiled` was not switched off.

    Raises:
        ValueError: `num_beams` is below 1, or `compiled=True` without numba or with a trie that is not on the CPU.
    """
    if num_beams < 1:
        raise ValueError(f"num_beams={num_beams} must be at least 1")
    num_beams = min(num_beams, len(trie))
    wanted = compiled_wanted() if compiled is None else compiled
    if wanted:
        from .kernels_onesearch import AVAILABLE  # numba takes long to import

        possible = AVAILABLE and trie.device.type == "cpu"
        if compiled and not possible:
            raise ValueError("compiled=True needs numba (`pip install onesearch[fast]`) and a trie on the CPU")
        wanted = possible
    engine = CompiledFrontier if wanted else TorchFrontier
    frontier: Frontier = engine(trie, queries, num_beams, finish_early)
    advance_all(step, trie.levels, frontier)
    states, scores, history = frontier.finish()
    return Beams(trie.leaf_of(states), scores, history.diff(dim=-1, prepend=torch.zeros_like(history[..., :1])))


def advance_all(step: StepFunction, levels: int, frontier: Frontier) -> None:
    """Extend the beams of a frontier level by level, until all are finished; `step` is the model."""
    for level in range(levels):
        if level and not frontier.codes.shape[1]:
            break  # every beam is finished
        frontier.advance(level, *step(frontier.codes if level else None, frontier.parents if level else None, level))


class CompiledFrontier:
    """The beams of a search in machine code, on the CPU; see `Frontier`. Children that cannot enter the beam are not looked at.

    Args:
        trie: the SIDs that may be found.
        queries: number of queries.
        num_beams: number of beams kept for each query.
        finish_early: whether the model stops running for finished beams.
    """

    def __init__(self, trie: SidTrie | TrieView, queries: int, num_beams: int, finish_early: bool) -> None:
        from .kernels_onesearch import advance, follow

        self.kernel, self.follow, self.finish_early, self.level = advance, follow, finish_early, 0
        active: ActiveSids | None = None
        added: SidTrie | None = None
        if isinstance(trie, TrieView):
            base, active, added = trie.base, trie.active, trie.added
        else:
            base = trie
        self.has_added = added is not None
        self.base = [LevelTables(t.inner_starts.numpy(), t.leaf_starts.numpy(), t.codes.numpy(), t.inner) for t in base.tables]
        self.added = self.base  # not read where there is no added trie
        if added is not None:
            self.added = [
                LevelTables(t.inner_starts.numpy(), t.leaf_starts.numpy(), t.codes.numpy(), t.inner) for t in added.tables
            ]
        self.marks = [Marks(ALL_MARKED, ALL_MARKED)] * trie.levels
        self.is_marked = active is not None
        if active is not None:
            leaves = active.leaves.numpy()
            self.marks = [Marks(inner.numpy(), leaves) for inner in active.inner]
        scores = np.full((queries, num_beams), -np.inf, dtype=np.float32)
        states = np.full((2, queries, num_beams), NONE, dtype=np.int64)
        scores[:, 0], states[0, :, 0], states[1, :, 0] = 0, ROOT, ROOT if self.has_added else NONE
        history = np.zeros((queries, num_beams, trie.levels), dtype=np.float32)
        self.beams = BeamArrays(scores, states, history, np.zeros((queries, 1), np.int64), np.ones(queries, np.int64))
        self.codes = self.parents = torch.zeros(queries, 1, dtype=torch.long)

    def advance(self, level: int, logits: torch.Tensor, totals: torch.Tensor | None) -> None:
        """See `Frontier.advance` and `kernels_onesearch.advance`."""
        self.beams, codes, parents = self.kernel(
            self.base[level],
            self.marks[level],
            self.added[level],
            self.finish_early,
            level,
            self.beams,
            logits.float().contiguous().numpy(),
            NO_TOTALS if totals is None else totals.float().numpy(),
        )
        if self.is_marked and self.finish_early:
            codes, parents = self._finish_lonely(level + 1, codes, parents)
        self.codes, self.parents = torch.from_numpy(codes), torch.from_numpy(parents)
        self.level = level + 1

    def _finish_lonely(self, level: int, codes: np.ndarray, parents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finish the beams of which a filter leaves one SID: their remaining codes are certain, so the model need not run for them.

        1. Follow each active beam from its only active child to the next, level by level, until it has none or several.
        2. A beam that ends at a SID takes its state, and leaves the active beams.

        Args:
            level: the level of the children.
            codes: (queries, slots) codes of the active beams.
            parents: (queries · slots,) their rows.

        Returns:
            Codes and parents of the beams that are still active.
        """
        scores, states, history, active, counts = self.beams
        there = np.arange(active.shape[1]) < counts[:, None]  # (queries, slots)
        own, added = (np.take_along_axis(part, active, 1) for part in states)
        nodes = np.where(there & (added == NONE), own, NONE).ravel()
        for deeper in range(level, len(self.base)):
            self.follow(nodes, self.base[deeper], self.marks[deeper])
        ends = np.reshape(nodes, active.shape)
        lonely = ends <= -2
        if not lonely.any():
            return codes, parents
        query, slot = np.nonzero(lonely)
        states[0, query, active[query, slot]] = ends[query, slot]
        there &= ~lonely
        still = there.sum(1)
        order = np.argsort(~there, axis=1, kind="stable")[:, : still.max()]
        active, codes, parents = (np.take_along_axis(part, order, 1) for part in (active, codes, parents.reshape(codes.shape)))
        self.beams = BeamArrays(scores, states, history, np.ascontiguousarray(active), np.asarray(still))
        return np.ascontiguousarray(codes), np.ascontiguousarray(parents).reshape(-1)

    def finish(self) -> FinalBeams:
        """See `Frontier.finish`."""
        history = self.beams.history
        history[..., self.level :] = history[..., self.level - 1 : self.level]
        base, added = torch.from_numpy(self.beams.states)
        states = pack(base, added) if self.has_added else base
        return FinalBeams(states, torch.from_numpy(self.beams.scores), torch.from_numpy(history))


ALL_MARKED = np.empty(0, dtype=bool)
"""Marks of a trie of which every SID may be found."""

NO_TOTALS = np.empty(0, dtype=np.float32)
"""The log-normalisers where scores are normalised over the allowed children."""


__all__ = ["Beams", "StepFunction", "advance_all", "beam_search"]
