"""Scores of targets under a model that emits Semantic IDs: the softmax of each target, its loss, and slices of the head.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from transformers.modeling_outputs import CausalLMOutputWithPast, Seq2SeqLMOutput

from .catalogue_onesearch import SID_INDEX_NAME, SidIndex
from .configuration_onesearch import SID_SOFTMAXES
from .products_onesearch import linear
from .trie_onesearch import SidTrie
from .trie_view_onesearch import TrieView

if TYPE_CHECKING:
    from .configuration_onesearch import OneSearchConfig, OneSearchQwen3Config

IGNORED = -100
"""Label of positions that do not count in the loss."""

OUTSIDE = torch.iinfo(torch.long).min
"""In place of a state of the trie, where a target belongs to no Semantic ID of the catalogue."""


class TargetScores(NamedTuple):
    """Scores of the targets of a batch, each (batch, length), 0 where there is no target.

    Args:
        log_probs: log-probability of each target under its own softmax, with gradient.
        entropy: entropy of that softmax.
        is_top: 1 where the target is its most likely token.
        is_target: whether there is a target.
    """

    log_probs: torch.Tensor
    entropy: torch.Tensor
    is_top: torch.Tensor
    is_target: torch.Tensor

    def loss(self, num_items_in_batch: torch.Tensor | int | None = None) -> torch.Tensor:
        """Sum of the targets' negative log-likelihoods over a number of targets.

        Args:
            num_items_in_batch: number of targets in the whole optimiser step, over all processes. Default: the targets of this batch.
        """
        count = self.is_target.sum() if num_items_in_batch is None else num_items_in_batch
        return (-self.log_probs).sum() / torch.as_tensor(count).clamp(min=1)


class TargetGroup(NamedTuple):
    """Targets that share a softmax: those of one level, or text.

    Args:
        rows: (n,) places of the targets in the flattened batch, ascending.
        logits: (n, classes) in float32.
        places: (n,) places of the targets among the classes.
    """

    rows: torch.Tensor
    logits: torch.Tensor
    places: torch.Tensor


Objective = Callable[[Any, dict[str, Any], torch.Tensor], TargetScores]
"""`objective(model, inputs, targets)` scores the targets (batch, length) in place of `score_targets`; `inputs` are the backbone's."""


@dataclass
class SidSeq2SeqOutput(Seq2SeqLMOutput):
    """Output of `OneSearchForConditionalGeneration`: with labels it also holds the scores of the targets."""

    target_scores: TargetScores | None = None


@dataclass
class SidCausalOutput(CausalLMOutputWithPast):
    """Output of `OneSearchForCausalLM`: with labels it also holds the scores of the targets."""

    target_scores: TargetScores | None = None


class ScoringMixin:
    """Scores of a language model with a plain `lm_head` and the layout of the Semantic IDs in its configuration."""

    if TYPE_CHECKING:
        config: OneSearchConfig | OneSearchQwen3Config
        lm_head: nn.Module

    sid_index: SidIndex | None = None
    """The item index: which item has which Semantic ID."""

    def set_sid_index(self, index: SidIndex) -> None:
        """Attach the catalogue whose items `search` returns.

        Raises:
            ValueError: the codebook sizes or the fingerprint of the index differ from the model's.
        """
        if tuple(index.codebook_sizes) != tuple(self.config.sid_codebook_sizes):
            raise ValueError(
                f"the item index has codebook sizes {list(index.codebook_sizes)}, the model {self.config.sid_codebook_sizes}; encode the "
                "catalogue with the model's codebooks"
            )
        if self.config.sid_fingerprint is not None and index.fingerprint != self.config.sid_fingerprint:
            raise ValueError(
                f"the item index was made with codebooks {index.fingerprint[:12]}…, the model was trained on "
                f"{self.config.sid_fingerprint[:12]}…; each fingerprint has SIDs of its own. Encode this catalogue with the model's "
                "codebooks, or train a model on these"
            )
        self.sid_index = index

    def score_targets(self, hidden_states: torch.Tensor, targets: torch.Tensor) -> TargetScores:
        """Score each target under its own softmax; see `target_logits`.

        Args:
            hidden_states: (batch, length, d_model) states of the positions that predict the targets.
            targets: (batch, length) vocabulary ids, or -100 where there is no target.
        """
        groups = self.target_logits(hidden_states, targets)
        log_probs, entropy, is_top = [], [], []
        for _, logits, places in groups:
            own = logits.log_softmax(-1)
            log_probs.append(own.gather(-1, places[:, None])[:, 0])
            with torch.no_grad():
                entropy.append(-torch.linalg.vecdot(own.exp(), own))
                is_top.append((logits.argmax(-1) == places).float())
        rows = [group.rows for group in groups]
        spread = _spread(targets, rows, log_probs)
        if not groups:  # data parallelism waits for the gradients of the head and of all before it, also without any target
            spread = spread + 0.0 * self.project(hidden_states.flatten(0, -2)[:1], 0, 1).float().sum()
        return TargetScores(
            spread, _spread(targets, rows, entropy), _spread(targets, rows, is_top), is_target=targets != IGNORED
        )

    def target_logits(self, hidden_states: torch.Tensor, targets: torch.Tensor) -> list[TargetGroup]:
        """Logits of each target's own softmax, gathered per softmax: text first, then the levels; only those that occur.

        A text token competes with the whole vocabulary. The configuration's `sid_softmax` sets the codes that a token of a SID competes
        with: all codes of its `level`, or the `children` that the catalogue's trie allows after the codes before it, as in `search`; all
        other codes then have the lowest float for a logit. Targets that are no whole SID of the catalogue (a query's, say) compete with
        their level.

        Equal targets give equal rows, so the results of two calls can be compared entry by entry.

        Args:
            hidden_states: (..., d_model) states of the positions that predict the targets.
            targets: (...) vocabulary ids, or -100 where there is no target.

        Raises:
            ValueError: `sid_softmax` is not allowed, or it is `children` and the model has no item index; or the targets have another shape
                than the states, or lie outside the vocabulary.
        """
        _check_targets(hidden_states, targets, self.config.vocab_size)
        if self.config.sid_softmax not in SID_SOFTMAXES:
            raise ValueError(f"sid_softmax={self.config.sid_softmax!r}: allowed are {' and '.join(map(repr, SID_SOFTMAXES))}")
        codebook_sizes, flat = list(self.config.sid_codebook_sizes), targets.flatten()
        starts = [self.config.sid_offset + sum(codebook_sizes[:level]) for level in range(len(codebook_sizes) + 1)]
        group = torch.bucketize(flat, torch.tensor(starts, device=flat.device), right=True)
        group = group % len(starts)  # 0: text, below or above the SIDs; from 1: levels
        trie = self._require_index().trie.to(flat.device) if self.config.sid_softmax == "children" else None
        states = None if trie is None else _states_before(trie, flat, group, starts)
        counts = group.masked_fill_(flat == IGNORED, len(starts)).bincount(minlength=len(starts) + 1).tolist()[:-1]
        order = group.argsort(stable=True)[: sum(counts)]
        hidden = hidden_states.flatten(0, -2).index_select(0, order).split(counts)
        # One cut for all levels: its gradient is written into the vocabulary's once, not once per level.
        cut = self._head_rows(starts[0], starts[-1]) if any(counts[1:]) else None
        heads: list[torch.Tensor | None] = [None] * len(starts) if cut is None else [None, *cut.split(codebook_sizes)]
        ranges = [(0, self.config.vocab_size), *zip(starts, starts[1:])]
        found = []
        for level, (rows, part, head, (start, stop)) in enumerate(zip(order.split(counts), hidden, heads, ranges), -1):
            if not len(rows):
                continue
            logits = (self.project(part, start, stop) if head is None else F.linear(part, head)).float()
            if trie is not None and states is not None and level >= 0:
                logits = _only_children(trie, level, states[rows], logits)
            found.append(TargetGroup(rows, logits, flat[rows] - start))
        return found

    def project(self, hidden_states: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Logits of the vocabulary slice [start, stop): (..., d_model) → (..., stop - start)."""
        if type(self.lm_head) is nn.Linear:
            return linear(hidden_states, self.lm_head.weight[start:stop])
        rows = self._head_rows(start, stop)
        if rows is not None:
            return linear(hidden_states, rows)
        return self.lm_head(hidden_states)[..., start:stop]  # an adapter wraps the head: go through it

    def _head_rows(self, start: int, stop: int) -> torch.Tensor | None:
        """Rows [start, stop) of the head; None where they cannot be had without the others."""
        if type(self.lm_head) is nn.Linear:
            return self.lm_head.weight[start:stop]
        if type(self.lm_head).__name__ == "TrainableTokensWrapper":
            return _trained_rows(self.lm_head, start, stop)
        return None

    def _require_index(self) -> SidIndex:
        if self.sid_index is None:
            raise ValueError(f"the model has no item index: put {SID_INDEX_NAME} beside its weights or call set_sid_index")
        return self.sid_index


def _check_targets(hidden_states: torch.Tensor, targets: torch.Tensor, vocab_size: int) -> None:
    """Raise ValueError if targets have another shape than the states that predict them, or lie outside the vocabulary."""
    if hidden_states.shape[:-1] != targets.shape:
        raise ValueError(
            f"targets {tuple(targets.shape)} for states {tuple(hidden_states.shape[:-1])}: labels have a place for each position of a "
            "decoder-only model's inputs, or of the decoder's inputs"
        )
    wrong = (targets != IGNORED) & ((targets < 0) | (targets >= vocab_size))
    if bool(wrong.any()):
        raise ValueError(
            f"label {int(targets[wrong][0])} is no token: allowed are 0..{vocab_size - 1}, and {IGNORED} where nothing is predicted"
        )


def _spread(targets: torch.Tensor, rows: Sequence[torch.Tensor], values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Values of the targets in the shape of `targets`, 0 elsewhere.

    Args:
        targets: (batch, length).
        rows: per softmax (n,) places in the flattened batch.
        values: per softmax (n,).
    """
    scores = torch.zeros(targets.numel(), dtype=torch.float32, device=targets.device)
    if rows:
        found = torch.cat(list(values)).float()  # entropies are bfloat16 under autocast, and CUDA copies equal types only
        scores = scores.index_copy(0, torch.cat(list(rows)), found)
    return scores.view(targets.shape)


def _trained_rows(head: Any, start: int, stop: int) -> torch.Tensor | None:
    """Rows [start, stop) of a head whose new rows PEFT trains; its own `get_merged_weights` copies the whole vocabulary.

    Args:
        head: PEFT's `TrainableTokensWrapper`; PEFT is not imported here.

    Returns:
        None while the adapter is merged, switched off or one of several.
    """
    adapter, active = head.token_adapter, head.active_adapters
    if head.disable_adapters or adapter.disable_adapters or adapter.merged or len(active) != 1:
        return None
    rows = adapter.base_layer.weight[start:stop]
    trained = torch.tensor(adapter.token_indices[active[0]], device=rows.device)
    (inside,) = torch.where((trained >= start) & (trained < stop))
    delta = adapter.trainable_tokens_delta[active[0]][inside].to(rows)
    return rows.index_copy(0, trained[inside] - start, delta)


def _states_before(trie: SidTrie | TrieView, flat: torch.Tensor, group: torch.Tensor, starts: Sequence[int]) -> torch.Tensor:
    """State of the trie before each target (n,), `OUTSIDE` where it belongs to no whole SID of the catalogue.

    Args:
        flat: (n,) targets, the codes of a SID one after another.
        group: (n,) level + 1 of each target.
        starts: first token of each level, and the end of the last.
    """
    steps = torch.arange(trie.levels, device=flat.device)
    first = (group[: max(0, len(flat) - trie.levels + 1)] == 1).nonzero()  # (SIDs, 1)
    first = first[(group[first + steps] == steps + 1).all(1)]
    codes = flat[first + steps] - torch.tensor(starts[:-1], device=flat.device)  # (SIDs, levels)
    before = [trie.start(len(codes))]
    for level in range(trie.levels):
        before.append(trie.child(level, before[-1], codes[:, level]))
    whole = trie.leaf_of(before[-1]) >= 0
    states = torch.full_like(flat, OUTSIDE)
    states[(first + steps)[whole]] = torch.stack(before[:-1], 1)[whole]
    return states


def _only_children(trie: SidTrie | TrieView, level: int, states: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Logits (n, codes) of a level with the lowest float wherever `states` (n,) have no child."""
    inside = (states != OUTSIDE).nonzero()[:, 0]
    rows, codes, _ = trie.expand(level, states[inside])
    barred = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
    barred[inside] = True
    barred[inside[rows], codes] = False
    return logits.masked_fill(barred, torch.finfo(logits.dtype).min)


__all__ = ["IGNORED", "Objective", "ScoringMixin", "SidCausalOutput", "SidSeq2SeqOutput", "TargetGroup", "TargetScores"]
