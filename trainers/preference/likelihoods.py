"""Log-probabilities of candidate Semantic IDs, with gradients: the numbers that every preference loss is made of.

TRL's trainers of preferences write prompt and answer into one sequence. An encoder-decoder then reads the answer in its encoder, so that a
later code moves the log-probability of an earlier one, and each answer costs a pass over its prompt. Here each prompt is read once, all its
candidates are scored by teacher forcing behind it, and the scores are those of the search (`score_given`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from onesearch.modeling_onesearch.history_onesearch import PromptViews
from onesearch.modeling_onesearch.scores_onesearch import TargetScores

SOFTMAXES = ("children", "level")
"""Sets of codes that a candidate's code competes with; see `Candidates`."""

PROMPT_COLUMNS = ("input_ids", "attention_mask", *PromptViews._fields)
"""Entries of a batch that describe the prompts."""


class Likelihoods(NamedTuple):
    """Log-probabilities of the candidates of a batch of prompts.

    Args:
        log_probs: (prompts, candidates, levels) float32, log-probability of each code given the codes before it, with gradient; 0 where a
            prompt has fewer candidates.
        entropy: (prompts, candidates, levels) entropy of the softmax of each code, without gradient.
        is_top: (prompts, candidates, levels) 1 where the code is the most likely one of its softmax, 0 elsewhere.
        is_candidate: (prompts, candidates) whether there is a candidate.
    """

    log_probs: torch.Tensor
    entropy: torch.Tensor
    is_top: torch.Tensor
    is_candidate: torch.Tensor

    def of_sids(self) -> torch.Tensor:
        """Log-probability of each whole Semantic ID: (prompts, candidates)."""
        return self.log_probs.sum(-1)


class GivenSids:
    """An objective of the model's `forward`: scores given Semantic IDs in place of labels.

    It lies within `forward` because data parallelism and mixed precision wrap that call.

    Args:
        softmax: see `candidate_likelihoods`.
    """

    def __init__(self, softmax: str) -> None:
        if softmax not in SOFTMAXES:
            raise ValueError(f"sid_softmax={softmax!r}: allowed are {' and '.join(map(repr, SOFTMAXES))}")
        self.softmax = softmax

    def __call__(self, model: Any, inputs: dict[str, Any], targets: torch.Tensor) -> TargetScores:
        """Score (prompts, candidates, levels) codes behind the prompts of `inputs`.

        Raises:
            ValueError: a candidate is no Semantic ID of the catalogue, or the model has no catalogue.
        """
        prompts = {name: inputs.get(name) for name in PROMPT_COLUMNS}
        given = model.given_scores(sids=targets, normalize=self.softmax, with_statistics=True, **prompts)
        is_candidate = (targets >= 0).any(-1)
        unknown = is_candidate & (given.log_probs == -torch.inf).any(-1)
        if bool(unknown.any()):
            raise ValueError(
                f"candidate {targets[unknown][0].tolist()} is no Semantic ID of the model's catalogue; candidates must be items that a "
                "search can find, so make the preferences anew after the catalogue has changed"
            )
        hidden = ~is_candidate[..., None]
        log_probs, entropy, is_top = (column.masked_fill(hidden, 0.0) for column in given)
        return TargetScores(log_probs, entropy, is_top, ~hidden.expand_as(log_probs))


def candidate_likelihoods(
    model: nn.Module, prompts: Mapping[str, torch.Tensor], sids: torch.Tensor, softmax: str = "children"
) -> Likelihoods:
    """Log-probabilities of the candidates of each prompt, by one call of the model.

    The encoder, or the prompt's part of a decoder-only model, runs once per prompt. Candidates of a prompt share the prefixes that they
    have in common. Gradients flow to all weights, the prompt's included.

    Args:
        model: a model that emits Semantic IDs: itself, with adapters, or wrapped for distribution.
        prompts: `input_ids` and `attention_mask` (prompts, length), padded on either side, and optionally those of `PromptViews`.
        sids: (prompts, candidates, levels) codes, -1 throughout where a prompt has fewer candidates.
        softmax: set of codes that a code competes with: the `children` that the catalogue's trie allows after the codes before it, as in
            `search`, or all codes of its `level`. The policy and its reference must use the same.

    Raises:
        ValueError: `softmax` is not allowed, shapes do not fit, or a candidate is no Semantic ID of the model's catalogue.
    """
    inputs = {name: prompts[name] for name in PROMPT_COLUMNS if prompts.get(name) is not None}
    outputs = model(**inputs, shift_labels=sids, objective=GivenSids(softmax), return_dict=True)
    scores = outputs.target_scores
    return Likelihoods(scores.log_probs, scores.entropy, scores.is_top, (sids >= 0).any(-1))


def padded_candidates(lists: Sequence[Any], levels: int) -> torch.Tensor:
    """Ragged lists of candidates as one tensor.

    Args:
        lists: per prompt the codes of its candidates, (candidates, levels) or an empty list.
        levels: number of codes of a Semantic ID.

    Returns:
        (prompts, longest, levels) int64, -1 throughout where a prompt has fewer candidates.

    Raises:
        ValueError: a candidate has another number of codes.
    """
    table = np.full((len(lists), max(map(len, lists), default=0), levels), -1, dtype=np.int64)
    for row, own in enumerate(lists):
        codes = np.stack(own) if len(own) else np.empty((0, levels), dtype=np.int64)
        if codes.shape != (len(own), levels):
            raise ValueError(f"the candidates of prompt {row} have {codes.shape[-1]} codes each; Semantic IDs have {levels}")
        table[row, : len(codes)] = codes
    return torch.from_numpy(table)


__all__ = ["PROMPT_COLUMNS", "SOFTMAXES", "GivenSids", "Likelihoods", "candidate_likelihoods", "padded_candidates"]
