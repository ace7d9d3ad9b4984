"""Log-probabilities of given SIDs under a trie: teacher forcing, with the scores that a beam search gives the same SIDs.

Codes are numbered per level (0 … codebook size - 1); vocabulary ids do not occur here.
Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

import torch

from .frontier_onesearch import log_totals
from .generation_onesearch import StepFunction
from .trie_onesearch import NONE, SidTrie
from .trie_view_onesearch import TrieView


def score_given(step: StepFunction, trie: SidTrie | TrieView, sids: torch.Tensor, finish_early: bool = True) -> torch.Tensor:
    """Score given SIDs as `beam_search` scores those that it finds.

    At each level:

    1. The model runs for the *open* SIDs, whose next code has to be decided: their prefix has further SIDs.
    2. The log-probability of each open SID's code is its logit minus the normaliser of its prefix, which is that of the beam search: over
       the children that the trie allows, unless `step` gives normalisers.
    3. SIDs whose prefix no other SID has keep their score: the rest of their codes is certain.

    Args:
        step: the model; its codes are those of the open SIDs, its rows theirs.
        trie: the SIDs that may be found.
        sids: (queries, sids, levels) codes; -1 throughout where a query has fewer SIDs.
        finish_early: as for `beam_search`.

    Returns:
        (queries, sids, levels) float32, the log-probability of each code given the codes before it; -inf at the first code of a SID that
        the trie does not have, so that the sum over its levels is -inf.
    """
    queries, count, levels = sids.shape
    scores = torch.zeros(sids.shape, device=sids.device)
    if not queries * count:
        return scores
    states = trie.start(queries * count).view(queries, count)
    row_states = trie.start(queries)
    row_of = torch.arange(queries, device=sids.device)[:, None].expand(queries, count)  # row of the logits of each SID
    is_open = torch.ones_like(states, dtype=torch.bool)
    codes: torch.Tensor | None = None
    parents: torch.Tensor | None = None
    for level in range(levels):
        logits, totals = step(codes, parents, level)
        logits, wanted = logits.float(), sids[..., level]
        if totals is None:
            children = trie.expand(level, row_states)
            values = logits.flatten().index_select(0, children.rows * logits.shape[1] + children.codes)
            totals = log_totals(values, children.rows, len(logits))
        own = logits[row_of, wanted.clamp(min=0)] - totals[row_of]
        after = trie.child(level, states.flatten(), wanted.flatten()).view(queries, count)
        lost = (states != NONE) & (after == NONE)
        scores[..., level] = torch.where(is_open, own, 0.0).masked_fill(states == NONE, 0.0).masked_fill(lost, -torch.inf)
        states = after
        is_open = trie.is_open(states) if finish_early else states != NONE
        width = int(is_open.sum(1).max())
        if not width:
            break  # every SID is decided
        places = (~is_open).to(torch.uint8).argsort(dim=1, stable=True)[:, :width]  # open SIDs first, then any others
        codes, parents = wanted.clamp(min=0).gather(1, places), row_of.gather(1, places).flatten()
        row_states = states.masked_fill(~is_open, NONE).gather(1, places).flatten()
        rows = torch.arange(queries * width, device=sids.device).view(queries, width)
        row_of = torch.zeros_like(states).scatter(1, places, rows)
    return scores


__all__ = ["score_given"]
