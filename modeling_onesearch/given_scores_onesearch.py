"""Log-probabilities of given SIDs under a trie: teacher forcing, with the scores that a beam search gives the same SIDs.

A search scores items that somebody names with it; preference training takes the gradients of the same numbers.
Codes are numbered per level (0 … codebook size - 1); vocabulary ids do not occur here.
Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from .frontier_onesearch import log_totals
from .generation_onesearch import StepFunction
from .trie_onesearch import NONE, Children, SidTrie
from .trie_view_onesearch import TrieView

LAST = torch.iinfo(torch.long).max
"""Sorts behind every state of a trie."""


class GivenScores(NamedTuple):
    """Scores of given SIDs, each (queries, sids, levels) float32.

    Args:
        log_probs: log-probability of each code given the codes before it, with gradient; -inf at the first code of a SID that the trie
            does not have, so that the sum over its levels is -inf.
        entropy: entropy of the softmax of each code, 0 where the code is certain; None unless asked for.
        is_top: 1 where the code is the most likely one of its softmax, or certain; None unless asked for.
    """

    log_probs: torch.Tensor
    entropy: torch.Tensor | None = None
    is_top: torch.Tensor | None = None


class Prefixes(NamedTuple):
    """The distinct open prefixes of each query, for which the model runs.

    Args:
        places: (queries, width) a SID of the query that has the prefix; any SID where a query has fewer prefixes.
        filled: (queries, width) whether there is a prefix.
        row_of: (queries, sids) row of each SID's prefix among queries · width; any row where the prefix is not open.
    """

    places: torch.Tensor
    filled: torch.Tensor
    row_of: torch.Tensor


def score_given(
    step: StepFunction,
    trie: SidTrie | TrieView,
    sids: torch.Tensor,
    finish_early: bool = True,
    with_statistics: bool = False,
) -> GivenScores:
    """Score given SIDs as `beam_search` scores those that it finds.

    At each level:

    1. The model runs for the *open* prefixes: those of the SIDs whose next code has to be decided. SIDs of a query with the same prefix
       share a row.
    2. The log-probability of each open SID's code is its logit minus the normaliser of its prefix, which is that of the beam search: over
       the children that the trie allows, unless `step` gives normalisers.
    3. SIDs whose prefix no other SID has keep their score: the rest of their codes is certain.

    Args:
        step: the model. Without `torch.no_grad` around the call the scores have its gradients.
        trie: the SIDs that may be found.
        sids: (queries, sids, levels) codes; -1 throughout where a query has fewer SIDs.
        finish_early: as for `beam_search`.
        with_statistics: also return the entropy of each softmax, and whether the code is its most likely one. They cost a pass over the
            logits.
    """
    queries, count, levels = sids.shape
    blank = torch.zeros((queries, count), device=sids.device)
    log_probs, entropy, is_top = [blank] * levels, [blank] * levels, [blank + 1] * levels  # a column per level
    if not queries * count:
        return _stacked(log_probs, entropy, is_top, with_statistics)
    states = trie.start(queries * count).view(queries, count)
    row_states = trie.start(queries)
    row_of = torch.arange(queries, device=sids.device)[:, None].expand(queries, count)  # row of the logits of each SID
    is_open = torch.ones_like(states, dtype=torch.bool)
    codes: torch.Tensor | None = None
    parents: torch.Tensor | None = None
    for level in range(levels):
        wanted = sids[..., level]
        after = trie.child(level, states.flatten(), wanted.flatten()).view(queries, count)
        lost = (states != NONE) & (after == NONE)
        log_probs[level] = blank.masked_fill(lost, -torch.inf)
        if bool(is_open.any()):
            logits, totals = step(codes, parents, level)
            logits = logits.float()
            children: Children | None = None
            if totals is None:
                children = trie.expand(level, row_states)
                totals = _totals(logits, children)
            own = logits[row_of, wanted.clamp(min=0)] - totals[row_of]
            log_probs[level] = torch.where(is_open & ~lost, own, log_probs[level])
            if with_statistics:
                spread, top = _statistics(logits.detach(), totals.detach(), children)
                entropy[level] = torch.where(is_open, spread[row_of], 0.0)
                is_top[level] = torch.where(is_open, (logits.detach()[row_of, wanted.clamp(min=0)] >= top[row_of]).float(), 1.0)
        states = after
        is_open = trie.is_open(states) if finish_early else states != NONE
        if bool(is_open.any()):
            prefixes = _distinct(states, is_open)
            codes = wanted.clamp(min=0).gather(1, prefixes.places)
            parents = row_of.gather(1, prefixes.places).flatten()
            row_states = states.gather(1, prefixes.places).masked_fill(~prefixes.filled, NONE).flatten()
            row_of = prefixes.row_of
    return _stacked(log_probs, entropy, is_top, with_statistics)


def _stacked(
    log_probs: list[torch.Tensor], entropy: list[torch.Tensor], is_top: list[torch.Tensor], with_statistics: bool
) -> GivenScores:
    """Put the columns of the levels, (queries, sids) each, side by side."""
    scores = torch.stack(log_probs, -1)
    return GivenScores(scores, torch.stack(entropy, -1), torch.stack(is_top, -1)) if with_statistics else GivenScores(scores)


def _distinct(states: torch.Tensor, is_open: torch.Tensor) -> Prefixes:
    """Find the distinct open prefixes of each query.

    Args:
        states: (queries, sids) state of each SID's prefix.
        is_open: (queries, sids) whether the model has to run for it.
    """
    ordered, order = states.masked_fill(~is_open, LAST).sort(dim=1, stable=True)
    is_first = ordered != LAST
    is_first[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    counts = is_first.sum(1, keepdim=True)
    width = int(counts.max())
    slots = torch.zeros_like(states).scatter(1, order, is_first.cumsum(1) - 1).clamp(min=0, max=width - 1)
    first = (~is_first).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
    filled = torch.arange(width, device=states.device) < counts
    queries = torch.arange(len(states), device=states.device)[:, None]
    return Prefixes(order.gather(1, first), filled, queries * width + slots)


def _totals(logits: torch.Tensor, children: Children) -> torch.Tensor:
    """Log-normaliser of each row of logits (rows, codes) over its children: (rows,)."""
    values = logits.flatten().index_select(0, children.rows * logits.shape[1] + children.codes)
    return log_totals(values, children.rows, len(logits))


def _statistics(logits: torch.Tensor, totals: torch.Tensor, children: Children | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Entropy of each row's softmax, over its children or all codes, and its largest logit: (rows,) each."""
    if children is None:
        shares = (logits - totals[:, None]).exp()
        return totals - torch.linalg.vecdot(shares, logits), logits.amax(1)
    values = logits.flatten().index_select(0, children.rows * logits.shape[1] + children.codes)
    logs = values - totals.index_select(0, children.rows)
    entropy = totals.new_zeros(len(totals)).index_add(0, children.rows, -logs.exp() * logs)
    top = totals.new_full((len(totals),), -torch.inf).scatter_reduce(0, children.rows, values, "amax")
    return entropy, top


__all__ = ["GivenScores", "score_given"]
