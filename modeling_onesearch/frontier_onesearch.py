"""The beams of a search at one level: what every engine does with them, and the engine in torch operations.

Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch

from .trie_onesearch import NONE, ROOT, SidTrie
from .trie_view_onesearch import TrieView


class FinalBeams(NamedTuple):
    """The beams after the last level.

    Args:
        states: (queries, beams) states in the trie.
        scores: (queries, beams) log-probabilities, -inf where there is no beam.
        history: (queries, beams, levels) the score of each beam after each level.
    """

    states: torch.Tensor
    scores: torch.Tensor
    history: torch.Tensor


class Frontier(Protocol):
    """The beams of a search at one level. After `advance`, `codes` and `parents` are the next arguments of the step function."""

    codes: torch.Tensor
    parents: torch.Tensor

    def advance(self, level: int, logits: torch.Tensor, totals: torch.Tensor | None) -> None:
        """Extend the beams by one level.

        Args:
            level: the level of the logits.
            logits: (rows, codebook_sizes[level]) of the active beams.
            totals: (rows,) log-normalisers; None to normalise over the allowed children.
        """

    def finish(self) -> FinalBeams:
        """Return the beams after the last level."""


class TorchFrontier:
    """The beams of a search in torch operations, on any device; see `Frontier`.

    Queries with fewer active beams than others are padded in `codes` and `parents` with arbitrary beams of their own.

    Args:
        trie: the SIDs that may be found.
        queries: number of queries.
        num_beams: number of beams kept for each query.
        finish_early: whether the model stops running for finished beams.
    """

    def __init__(self, trie: SidTrie | TrieView, queries: int, num_beams: int, finish_early: bool) -> None:
        self.trie, self.num_beams, self.finish_early = trie, num_beams, finish_early
        self.scores = torch.zeros(queries, 1, device=trie.device)  # (queries, beams)
        self.states = torch.full((queries, 1), ROOT, device=trie.device)  # (queries, beams)
        self.history = self.scores.new_zeros(queries, 1, 0)  # (queries, beams, levels so far)
        self.places = torch.zeros_like(self.states)  # (queries, active) which beams are active
        self.active = torch.ones_like(self.states, dtype=torch.bool)  # (queries, beams)
        self.first = torch.arange(queries, device=trie.device)[:, None]
        self.codes = self.parents = self.states
        self.origins = Origins(self.active, self.states, self.states)

    def advance(self, level: int, logits: torch.Tensor, totals: torch.Tensor | None) -> None:
        """Extend the beams by one level; see `Frontier.advance`.

        1. Expand the active beams and score their children, (children,).
        2. Select the best `num_beams` of each query among its finished beams and its children.
        3. Take over the states and the history of the selected: a child's from its parent's row, a finished beam's from itself.
        4. List the places of the active beams, for which the model runs next.

        Invariant: a place without a beam has the score -inf and the state `NONE`. `origins` says where each beam comes from.
        """
        queries, slots = self.places.shape
        children = self._children(level, logits.float(), totals)
        finished = self.scores.masked_fill(self.active, -torch.inf)  # (queries, beams)
        finished = torch.where(self.states == NONE, -torch.inf, finished)
        self.scores, index = best_of_each(finished, children.values, children.rows // slots, self.num_beams)
        is_child = index >= queries * finished.shape[1]
        child = (index - queries * finished.shape[1]).clamp(min=0)
        parent_row = children.rows[child]
        parent_beam = torch.where(is_child, self.places.gather(1, parent_row % slots), index % finished.shape[1])
        self.origins = Origins(is_child, child, parent_beam)
        self.states = torch.where(is_child, children.states[child], self.states.gather(1, parent_beam))
        self.states.masked_fill_(self.scores == -torch.inf, NONE)
        past = self.history.gather(1, parent_beam[..., None].expand(-1, -1, level))
        self.history = torch.cat([past, self.scores[..., None]], dim=-1)
        self.active = self.trie.is_open(self.states) if self.finish_early else self.states != NONE
        count = int(self.active.sum(1).max())
        self.places = (~self.active).to(torch.uint8).argsort(dim=1, stable=True)[:, :count]  # active beams first, in order
        self.codes = children.codes[child].gather(1, self.places)
        self.parents = torch.where(is_child, parent_row, self.first * slots).gather(1, self.places).view(-1)

    def _children(self, level: int, logits: torch.Tensor, totals: torch.Tensor | None) -> ScoredChildren:
        """Expand and score the active beams."""
        return self._scored(level, logits, totals, self.scores)

    def _scored(self, level: int, logits: torch.Tensor, totals: torch.Tensor | None, scores: torch.Tensor) -> ScoredChildren:
        """Expand the active beams; a child's value is that of its parent in `scores` (queries, beams) plus its log-probability."""
        is_active = self.active.gather(1, self.places)
        states = self.states.gather(1, self.places).masked_fill(~is_active, NONE)
        row, code, state = self.trie.expand(level, states.view(-1))
        values = logits.reshape(-1).index_select(0, row * logits.shape[1] + code)
        totals = log_totals(values, row, len(logits)) if totals is None else totals
        values += (scores.gather(1, self.places).view(-1) - totals).index_select(0, row)
        return ScoredChildren(row, code, state, values)

    def finish(self) -> FinalBeams:
        """See `Frontier.finish`."""
        missing = self.trie.levels - self.history.shape[2]  # every beam was finished before the last level
        history = torch.cat([self.history, *[self.history[..., -1:]] * missing], dim=-1)
        return FinalBeams(self.states, self.scores, history)


class Origins(NamedTuple):
    """Where the beams of a level come from.

    Args:
        is_child: (queries, beams) bool, whether the beam is a child; the others were finished before.
        child: (queries, beams) int64, place among the level's children, of those that are children.
        parent_beam: (queries, beams) int64, the beam of the level before that each extends or is.
    """

    is_child: torch.Tensor
    child: torch.Tensor
    parent_beam: torch.Tensor


class ScoredChildren(NamedTuple):
    """The children of the active beams.

    Args:
        rows: (children,) int64, ascending, the row of the logits that each child was scored with.
        codes: (children,) int64.
        states: (children,) int64.
        values: (children,) float32, the score of each child.
    """

    rows: torch.Tensor
    codes: torch.Tensor
    states: torch.Tensor
    values: torch.Tensor


class BestOfEach(NamedTuple):
    """The best candidates of each query.

    Args:
        scores: (queries, count or fewer), best first.
        places: (queries, count or fewer) int64, the place of each among all finished beams (queries · beams), then all children.
    """

    scores: torch.Tensor
    places: torch.Tensor


def best_of_each(finished: torch.Tensor, values: torch.Tensor, query: torch.Tensor, count: int) -> BestOfEach:
    """Select the best `count` candidates of each query among its finished beams and its children.

    Each query gets one row of a padded table, finished beams first, and one `topk` selects from all rows.

    Args:
        finished: (queries, beams) scores, -inf where a beam is not finished.
        values: (children,) scores.
        query: (children,) the query of each child, ascending.
        count: number of candidates to select.
    """
    queries, beams = finished.shape
    sizes = torch.bincount(query, minlength=queries)
    first = sizes.cumsum(0) - sizes
    pool = values.new_full((queries, beams + int(sizes.max())), -torch.inf)
    pool[:, :beams] = finished
    pool[query, torch.arange(len(query), device=query.device) + (beams - first)[query]] = values
    top, index = pool.topk(min(count, pool.shape[1]), dim=1)
    finished_place = index + beams * torch.arange(queries, device=query.device)[:, None]
    child = (index - beams + first[:, None]).clamp(max=len(query) - 1)
    return BestOfEach(top, torch.where(index < beams, finished_place, queries * beams + child))


def log_totals(values: torch.Tensor, row: torch.Tensor, rows: int) -> torch.Tensor:
    """Return the log of the summed exponentials of each row: (entries,) values, (entries,) rows → (rows,); -inf for an empty row."""
    top = values.new_full((rows,), -torch.inf).scatter_reduce(0, row, values.detach(), "amax")
    total = values.new_zeros(rows).index_add(0, row, (values - top.index_select(0, row)).exp())
    return top + total.clamp(min=1).log()  # the largest entry adds exp(0); the clamp keeps the gradient of an empty row finite


__all__ = ["FinalBeams", "Frontier", "ScoredChildren", "TorchFrontier", "best_of_each", "log_totals"]
