"""Constrained decoding: the trie of all Semantic IDs, its logits processor for `generate`, and beam search over SIDs alone.

Codes are level-local throughout (0 .. width-1); vocabulary ids appear only where a model's logits or tokens are touched.
Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from transformers import LogitsProcessor

from .trie_onesearch import NONE, ROOT, SidTrie, TrieView, pack


class TrieLogitsProcessor(LogitsProcessor):
    """Masks every token that does not continue a SID of the trie. Works inside `generate` for greedy, beam search and sampling.

    Stateless: the prefix is read from `input_ids`, so one instance serves any number of calls and batches. After a complete SID only
    `eos_token_id` is allowed, and after that only it again.

    Args:
        trie: the SIDs of the whole catalogue, or of the items that pass a filter.
        sid_offset: vocabulary id of code 0 of level 0.
        eos_token_id: allowed after a complete SID; may be None when generation stops by length.
        prompt_length: how many tokens of each row precede the SID (1 for an encoder-decoder: the start token). Without it the SID is
            the run of codes of levels 0, 1, … at the end of the row, which serves prompts of any length but none that ends in a SID.

    Raises:
        ValueError: from a call, when a prefix is in no SID of the trie (an empty allowed set would silently lift the constraint).
    """

    def __init__(
        self,
        trie: SidTrie | TrieView,
        sid_offset: int,
        eos_token_id: int | None = None,
        prompt_length: int | None = None,
    ):
        self.trie = trie
        self.sid_offset = sid_offset
        self.eos_token_id = eos_token_id
        self.prompt_length = prompt_length
        bounds = np.concatenate([[0], np.cumsum(trie.codebook_sizes)]) + sid_offset
        self.level_bounds = torch.from_numpy(bounds)  # (levels + 1,)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """`input_ids`: (rows, length); `scores`: (rows, vocabulary). Returns the masked scores, same shape."""
        depth = self._depth(input_ids)
        masked = torch.full_like(scores, float("-inf"))
        self.trie.to(input_ids.device)
        for length in depth.unique().tolist():
            rows = (depth == length).nonzero()[:, 0]
            if length == self.trie.levels:
                if self.eos_token_id is None:
                    raise ValueError(
                        f"generation went on after a complete SID of {length} codes; set max_new_tokens={length} or pass eos_token_id"
                    )
                masked[rows, self.eos_token_id] = scores[rows, self.eos_token_id]
                continue
            start = input_ids.shape[1] - length
            codes = input_ids[rows, start:] - self.level_bounds.to(input_ids.device)[:length]
            row, code, _ = self.trie.expand(length, self._walk(codes))
            token = code + self.level_bounds[length].item()
            masked[rows[row], token] = scores[rows[row], token]
        return masked

    def _walk(self, codes: torch.Tensor) -> torch.Tensor:
        states = self.trie.walk(codes)
        if (states == NONE).any():
            prefix = tuple(codes[(states == NONE).nonzero()[0, 0]].tolist())
            raise ValueError(f"no SID of the catalogue starts with the codes {prefix}: generation left the trie")
        return states

    def _depth(self, input_ids: torch.Tensor) -> torch.Tensor:
        """(rows,) length of the SID prefix at the end of each row."""
        if self.prompt_length is not None:
            length = min(input_ids.shape[1] - self.prompt_length, self.trie.levels)  # what follows a SID only repeats its end
            if length < 0:
                raise ValueError(f"prompt_length={self.prompt_length}, but the rows have {input_ids.shape[1]} tokens")
            return torch.full(input_ids.shape[:1], length, device=input_ids.device)
        tail = input_ids[:, -self.trie.levels :]
        bounds = self.level_bounds.to(input_ids.device)
        level = torch.bucketize(tail.contiguous(), bounds, right=True) - 1  # -1 before the SID slice, `levels` after it
        depth = torch.zeros(input_ids.shape[0], dtype=torch.long, device=input_ids.device)
        for length in range(1, tail.shape[1] + 1):
            expected = torch.arange(length, device=input_ids.device)
            complete = (level[:, tail.shape[1] - length :] == expected).all(1)
            depth = torch.where(complete, length, depth)
        return depth


StepFunction = Callable[[torch.Tensor | None, torch.Tensor | None, int], tuple[torch.Tensor, torch.Tensor | None]]
"""`step(codes, parents, level)` → logits (rows, codebook_sizes[level]) of one level, and the log-normaliser (rows,) of each row, or None
where
scores are normalised over the allowed children. `codes`: (queries, live beams) of the level before (None at the root); `parents`: (rows,)
rows of the previous step that these beams extend, rows = queries * live beams."""


@dataclass(frozen=True)
class Beams:
    """What a beam search found, best first.

    Args:
        leaves: (queries, beams) SIDs as `SidTrie.leaf_of` names them, -1 where there is none.
        scores: (queries, beams) log-probabilities, -inf where there is no SID.
        level_scores: (queries, beams, levels) their parts.
    """

    leaves: torch.Tensor
    scores: torch.Tensor
    level_scores: torch.Tensor


def beam_search(
    step: StepFunction,
    trie: SidTrie | TrieView,
    queries: int,
    num_beams: int,
    settle: bool = True,
    compiled: bool | None = None,
) -> Beams:
    """Beam search over the SIDs of a trie, level by level; only allowed children are scored.

    Scores are log-probabilities renormalised over the allowed children of each prefix, as `generate` gives them with
    `TrieLogitsProcessor` and `renormalize_logits=True`, unless `step` gives normalisers of its own. Where a single SID is left under a
    prefix its remaining codes are certain: the beam is settled, keeps its score, and the model does not run for it any more. A query
    with fewer SIDs than beams gets fewer.

    Args:
        step: the model (see `StepFunction`).
        trie: the catalogue.
        queries: number of queries in the batch.
        num_beams: beams kept per query.
        settle: whether settled beams rest; must be False when `step` gives normalisers, since then the remaining codes count.
        compiled: use the compiled kernel; None where it is installed and the tables are on a processor.
    """
    frontier = _frontier(trie, compiled)(trie, queries, num_beams, settle)
    for level in range(trie.levels):
        if level and not frontier.codes.shape[1]:
            break
        frontier.advance(level, *step(frontier.codes if level else None, frontier.parents if level else None, level))
    states, scores, history = frontier.finish()
    return Beams(trie.leaf_of(states), scores, history.diff(dim=-1, prepend=torch.zeros_like(history[..., :1])))


def _frontier(trie: SidTrie | TrieView, compiled: bool | None) -> type:
    from .kernels_onesearch import AVAILABLE

    on_processor = trie.device.type == "cpu"
    if compiled and not (AVAILABLE and on_processor):
        raise ValueError("compiled=True needs numba (`pip install onesearch[fast]`) and a trie on the processor")
    return _CompiledFrontier if (compiled or compiled is None and AVAILABLE and on_processor) else _Frontier


class _Frontier:
    """The beams of a search at one level, in torch operations.

    After each `advance`, `codes` (queries, live) and `parents` (queries * live,) are what the model runs for next; shorter queries are
    filled up with any row.
    """

    def __init__(self, trie: SidTrie | TrieView, queries: int, num_beams: int, settle: bool):
        self.trie, self.num_beams, self.settle = trie, num_beams, settle
        self.scores = torch.zeros(queries, 1, device=trie.device)  # (queries, beams)
        self.states = torch.full((queries, 1), ROOT, device=trie.device)
        self.history = self.scores.new_zeros(queries, 1, 0)  # scores after each level
        self.places = torch.zeros_like(self.states)  # (queries, live) which beams are live
        self.live = torch.ones_like(self.states, dtype=torch.bool)  # (queries, beams)
        self.first = torch.arange(queries, device=trie.device)[:, None]
        self.codes = self.parents = self.states

    def advance(self, level: int, logits: torch.Tensor, totals: torch.Tensor | None) -> None:
        """Keep the best among all children of the live beams and the beams at rest."""
        queries, width = self.places.shape
        row, code, state, values = self._children(level, logits.float(), totals)
        resting = self.scores.masked_fill(self.live, -torch.inf)  # (queries, beams)
        self.scores, index = _best(torch.where(self.states == NONE, -torch.inf, resting), values, row // width, self.num_beams)
        is_child = index >= queries * resting.shape[1]
        child = (index - queries * resting.shape[1]).clamp(min=0)
        beam = torch.where(is_child, self.places.gather(1, row[child] % width), index % resting.shape[1])  # it comes from
        self.states = torch.where(is_child, state[child], self.states.gather(1, beam))
        self.states.masked_fill_(self.scores == -torch.inf, NONE)
        past = self.history.gather(1, beam[..., None].expand(-1, -1, level))
        self.history = torch.cat([past, self.scores[..., None]], dim=-1)
        self.live = self.trie.is_open(self.states) if self.settle else self.states != NONE
        count = int(self.live.sum(1).max())
        self.places = (~self.live).to(torch.uint8).argsort(dim=1, stable=True)[:, :count]  # live beams first, in order
        self.codes = code[child].gather(1, self.places)
        self.parents = torch.where(is_child, row[child], self.first * width).gather(1, self.places).view(-1)

    def _children(
        self, level: int, logits: torch.Tensor, totals: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """All children of the live beams: row among the logits, code, state and score, each (children,)."""
        is_live = self.live.gather(1, self.places)
        states = self.states.gather(1, self.places).masked_fill(~is_live, NONE)
        row, code, state = self.trie.expand(level, states.view(-1))
        values = logits.view(-1).index_select(0, row * logits.shape[1] + code)
        totals = _log_totals(values, row, len(logits)) if totals is None else totals
        values += (self.scores.gather(1, self.places).view(-1) - totals).index_select(0, row)
        return row, code, state, values

    def finish(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """States, scores and the scores after each level, (queries, beams, levels)."""
        missing = self.trie.levels - self.history.shape[2]  # every beam was settled before the last level
        return self.states, self.scores, torch.cat([self.history, *[self.history[..., -1:]] * missing], dim=-1)


def _best(resting: torch.Tensor, values: torch.Tensor, query: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The best `count` of each query among its beams at rest and its children.

    Args:
        resting: (queries, beams), -inf where there is none; values, query: (children,), `query` ascending.

    Returns:
        scores (queries, count or fewer), best first, and their places among all beams at rest, then all children.
    """
    queries, beams = resting.shape
    sizes = torch.bincount(query, minlength=queries)
    first = sizes.cumsum(0) - sizes
    pool = values.new_full((queries, beams + int(sizes.max())), -torch.inf)
    pool[:, :beams] = resting
    pool[query, torch.arange(len(query), device=query.device) + (beams - first)[query]] = values
    top, index = pool.topk(min(count, pool.shape[1]), dim=1)
    at_rest = index + beams * torch.arange(queries, device=query.device)[:, None]
    child = (index - beams + first[:, None]).clamp(max=len(query) - 1)
    return top, torch.where(index < beams, at_rest, queries * beams + child)


class _CompiledFrontier:
    """As `_Frontier`, in machine code: never looks at children that cannot enter the beam."""

    def __init__(self, trie: SidTrie | TrieView, queries: int, num_beams: int, settle: bool):
        self.trie, self.settle = trie, settle
        self.base, self.alive, self.added = trie.layers()
        scores = np.full((queries, num_beams), -np.inf, dtype=np.float32)
        states = np.full((2, queries, num_beams), NONE, dtype=np.int64)
        scores[:, 0], states[0, :, 0], states[1, :, 0] = 0, ROOT, NONE if self.added is None else ROOT
        history = np.zeros((queries, num_beams, trie.levels), dtype=np.float32)
        live = np.zeros((queries, 1), dtype=np.int64)
        self.state = (scores, states, history, live, np.ones(queries, dtype=np.int64))
        self.level = 0

    def advance(self, level: int, logits: torch.Tensor, totals: torch.Tensor | None) -> None:
        """See `_Frontier.advance`."""
        from .kernels_onesearch import advance

        marks = (EVERYTHING, EVERYTHING)
        if self.alive is not None:
            marks = (self.alive.inner[level].numpy(), self.alive.leaves.numpy())
        tables = self.base.level_tables(level)
        added = tables if self.added is None else self.added.level_tables(level)
        rows = NO_TOTALS if totals is None else totals.float().numpy()
        self.state, codes, rows = advance(
            tables, marks, added, self.settle, level, self.state, logits.float().contiguous().numpy(), rows
        )
        *rest, live, counts = self.state
        width = int(counts.max())
        self.state = (*rest, np.ascontiguousarray(live[:, :width]), counts)
        self.codes = torch.from_numpy(codes[:, :width])
        self.parents = torch.from_numpy(rows[:, :width].reshape(-1))
        self.level = level + 1

    def finish(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """See `_Frontier.finish`."""
        scores, states, history, _, _ = self.state
        history[..., self.level :] = history[..., self.level - 1 : self.level]
        base, added = torch.from_numpy(states)
        return base if self.added is None else pack(base, added), torch.from_numpy(scores), torch.from_numpy(history)


EVERYTHING = np.empty(0, dtype=bool)
"""Marks of a trie of which all counts."""

NO_TOTALS = np.empty(0, dtype=np.float32)
"""Normalisers where scores are renormalised over the allowed children."""


def _log_totals(values: torch.Tensor, row: torch.Tensor, rows: int) -> torch.Tensor:
    """(rows,) log of the summed exponentials of each row's `values` (entries,)."""
    top = values.new_full((rows,), -torch.inf).scatter_reduce(0, row, values, "amax")
    total = values.new_zeros(rows).index_add(0, row, (values - top.index_select(0, row)).exp())
    return top + total.log()


__all__ = ["Beams", "SidTrie", "TrieLogitsProcessor", "TrieView", "beam_search"]
