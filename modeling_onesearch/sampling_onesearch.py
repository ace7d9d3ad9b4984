"""Samples without replacement from a model's distribution over the SIDs of a trie: stochastic beam search (Kool et al. 2019).

Every SID has a key: its log-probability plus Gumbel noise. The SIDs with the largest keys are a sample without replacement. A prefix has
the largest key below it, and keys of children are drawn given that of their parent, so that a beam search over keys finds the largest
ones without looking at all SIDs.
Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from .frontier_onesearch import ScoredChildren, TorchFrontier
from .generation_onesearch import StepFunction, advance_all
from .trie_onesearch import SidTrie
from .trie_view_onesearch import TrieView

ROOT_KEY = 1
"""Number of uniform values that a query draws before the first level, for the key of the empty prefix."""


class LeafSamples(NamedTuple):
    """SIDs that were sampled for each query, in the order of their keys.

    Args:
        leaves: (queries, samples) numbers of the SIDs as `Trie.leaf_of` gives them, -1 where a query has fewer SIDs.
        scores: (queries, samples) log-probabilities under the sampled distribution, -inf where there is no SID.
        level_scores: (queries, samples, levels) the log-probability of each code given the codes before it; 0 where it was certain.
        log_inclusion: (queries, samples) log-probability that the SID is in the sample, given the largest key outside it. A sum of
            f(SID) · exp(score − log_inclusion) over the sample is an unbiased estimate of the mean of f (Kool et al., section 4.1).
    """

    leaves: torch.Tensor
    scores: torch.Tensor
    level_scores: torch.Tensor
    log_inclusion: torch.Tensor


class SidSamples(NamedTuple):
    """Result of `SearchMixin.sample_sids`: as [`LeafSamples`], with the codes of the SIDs.

    Args:
        codes: (queries, samples, levels) codes, -1 throughout where a query has fewer SIDs.
        scores: see [`LeafSamples`].
        level_scores: see [`LeafSamples`].
        log_inclusion: see [`LeafSamples`].
    """

    codes: torch.Tensor
    scores: torch.Tensor
    level_scores: torch.Tensor
    log_inclusion: torch.Tensor


def sample_without_replacement(
    step: StepFunction, trie: SidTrie | TrieView, num_samples: int, seeds: Sequence[int], temperature: float = 1.0
) -> LeafSamples:
    """Sample distinct SIDs for each query, all levels in one batched search.

    The probability of a code is taken over the children that the trie allows, so that the probabilities of all SIDs sum to 1.

    Args:
        step: the model; its normalisers are not used.
        trie: the SIDs that may be sampled.
        num_samples: number of SIDs for each query, at least 1; a trie with fewer SIDs gives all of them.
        seeds: one number per query, from 0. The samples of a query depend on its own seed alone, not on the batch that it is in.
        temperature: the logits are divided by it. A higher temperature makes unlikely codes likelier; scores are then those of the
            distribution that was sampled.

    Raises:
        ValueError: `num_samples` is below 1, or `temperature` is not above 0.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples={num_samples} must be at least 1")
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} must be above 0; a value near 0 takes the most likely codes")
    # One more than wanted: the largest key outside the sample gives the probabilities of inclusion.
    frontier = GumbelFrontier(trie, min(num_samples + 1, len(trie)), seeds)

    def tempered(
        codes: torch.Tensor | None, parents: torch.Tensor | None, level: int
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        return step(codes, parents, level)[0] / temperature, None

    advance_all(tempered, trie.levels, frontier)
    return frontier.samples(num_samples)


class GumbelFrontier(TorchFrontier):
    """Beams with the largest keys. `scores` are the keys, float64; `log_probs` (queries, beams) the log-probabilities.

    Args:
        trie: the SIDs that may be sampled.
        num_beams: number of beams kept for each query.
        seeds: one number per query.
    """

    def __init__(self, trie: SidTrie | TrieView, num_beams: int, seeds: Sequence[int]) -> None:
        super().__init__(trie, len(seeds), num_beams, finish_early=True)
        self.randoms = [np.random.default_rng(seed) for seed in seeds]
        self.scores = self._gumbel([ROOT_KEY] * len(seeds))[:, None]
        self.history = self.scores.new_zeros(len(seeds), 1, 0)
        self.log_probs = torch.zeros_like(self.scores)
        self.log_history = self.history

    def advance(self, level: int, logits: torch.Tensor, totals: torch.Tensor | None) -> None:
        """See `TorchFrontier.advance`; the log-probabilities follow the beams."""
        super().advance(level, logits, totals)
        is_child, child, parent_beam = self.origins
        log_probs = torch.where(is_child, self._child_log_probs[child], self.log_probs.gather(1, parent_beam))
        self.log_probs = log_probs.masked_fill(self.scores == -torch.inf, -torch.inf)
        past = self.log_history.gather(1, parent_beam[..., None].expand(-1, -1, level))
        self.log_history = torch.cat([past, self.log_probs[..., None]], dim=-1)

    def _children(self, level: int, logits: torch.Tensor, totals: torch.Tensor | None) -> ScoredChildren:
        """Expand the active beams and draw the keys of their children, given that the largest of each beam's children is the beam's own.

        With G the beam's key and Z the largest of the children's free keys g, a child's key is −log(e^−G − e^−Z + e^−g).
        """
        children = self._scored(level, logits.double(), totals, self.log_probs)
        self._child_log_probs = children.values
        queries, slots = self.places.shape
        counts = torch.bincount(children.rows // slots, minlength=queries)
        free = children.values + self._gumbel(counts.tolist())
        largest = free.new_full((queries * slots,), -torch.inf).scatter_reduce(0, children.rows, free, "amax")
        own = self.scores.gather(1, self.places).view(-1).index_select(0, children.rows)
        gap = (free - largest.index_select(0, children.rows)).clamp(max=0.0)
        excess = own - free + torch.log(-torch.expm1(gap))  # -inf for the largest child, whose key is the beam's
        keys = own - excess.clamp(min=0.0) - torch.log1p(torch.exp(-excess.abs()))
        return children._replace(values=keys)

    def _gumbel(self, counts: Sequence[int]) -> torch.Tensor:
        """Gumbel noise, float64: `counts` values for each query from its own generator, (sum of the counts,)."""
        uniform = np.concatenate([random.random(count) for random, count in zip(self.randoms, counts)])
        tiny = np.finfo(np.float64).tiny
        return torch.from_numpy(-np.log(-np.log(np.maximum(uniform, tiny)))).to(self.states.device)

    def samples(self, num_samples: int) -> LeafSamples:
        """The `num_samples` beams with the largest keys."""
        missing = self.trie.levels - self.log_history.shape[2]  # every beam was finished before the last level
        history = torch.cat([self.log_history, *[self.log_history[..., -1:]] * missing], dim=-1)
        history = history.masked_fill(self.log_probs[..., None] == -torch.inf, 0.0)
        level_scores = history.diff(dim=-1, prepend=torch.zeros_like(history[..., :1]))
        keys, scores = self.scores[:, :num_samples], self.log_probs[:, :num_samples]
        outside = self.scores[:, num_samples : num_samples + 1]
        threshold = outside if outside.shape[1] else keys.new_full((len(keys), 1), -torch.inf)
        inclusion = torch.log(-torch.expm1(-torch.exp(scores - threshold)))
        inclusion = torch.where(threshold == -torch.inf, torch.zeros_like(inclusion), inclusion)
        leaves = self.trie.leaf_of(self.states[:, :num_samples])
        parts = (scores, level_scores[:, :num_samples], inclusion.masked_fill(scores == -torch.inf, -torch.inf))
        return LeafSamples(leaves, *(part.float() for part in parts))


__all__ = ["GumbelFrontier", "LeafSamples", "SidSamples", "sample_without_replacement"]
