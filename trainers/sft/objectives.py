r"""Supervised objectives beside the plain cross-entropy: label smoothing over the trie's children.

At each code of a target Semantic ID, the smoothed label gives the right code $1 - \varepsilon$, and spreads $\varepsilon$ evenly over the
children that the trie allows after the codes before it, the right one included:

$$\ell = -(1 - \varepsilon) \log p_c - \frac{\varepsilon}{|C|} \sum_{c' \in C} \log p_{c'}$$

A code that no item has gets nothing, so that smoothing does not teach codes that a search never generates. Where a node has one child, the
label stays as it is; so do text and the Semantic IDs of queries. The papers smooth no labels: all of this is our choice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from onesearch.modeling_onesearch.modeling_onesearch import IGNORED
from onesearch.modeling_onesearch.scores_onesearch import TargetGroup, TargetScores
from onesearch.modeling_onesearch.sid_model_onesearch import SidModelMixin

from .target_paths import TEXT, SidLayout, TargetPaths, allowed_codes

GroupLosses: TypeAlias = Callable[[TargetGroup, torch.Tensor], torch.Tensor]
"""`losses(group, log_probs)` gives the loss of each target of a group, (n,), from their log-probabilities (n, classes)."""


class SmoothedLabels:
    """Scores the targets of a batch by smoothed labels; an [`Objective`] of the model's `forward`. Evaluation has plain log-probabilities.

    Args:
        smoothing: ε, the share of a label that is spread over the trie's children.
    """

    def __init__(self, smoothing: float) -> None:
        self.smoothing = smoothing

    def __call__(self, model: SidModelMixin, inputs: dict[str, Any], targets: torch.Tensor) -> TargetScores:
        """Score a batch.

        Args:
            model: the model.
            inputs: inputs of the backbone.
            targets: (batch, length) on the positions that predict them, or -100.

        Returns:
            Scores whose "log-probability" of a target is minus its loss.
        """
        hidden = model.model(**inputs).last_hidden_state
        if not model.training:
            return model.score_targets(hidden, targets)
        groups = model.target_logits(hidden, targets)
        if not groups:  # no target at all: the model's own scores keep a gradient
            return model.score_targets(hidden, targets)
        return scores_of(groups, targets, LabelLosses(model, targets, self.smoothing))


class LabelLosses:
    """Cross-entropy with smoothed labels of the targets of one batch.

    Args:
        model: the model.
        targets: (batch, length) vocabulary ids, or -100.
        smoothing: ε; 0 gives the plain cross-entropy.
    """

    def __init__(self, model: SidModelMixin, targets: torch.Tensor, smoothing: float) -> None:
        self.layout, self.targets, self.smoothing = SidLayout.of(model.config), targets, smoothing
        if smoothing:
            trie = model._require_index().trie.to(targets.device)
            self.paths = TargetPaths.of(targets, self.layout, trie)
            self.allowed = allowed_codes(trie, self.paths.codes, self.layout.sizes)

    def __call__(self, group: TargetGroup, log_probs: torch.Tensor) -> torch.Tensor:
        """Loss of each target of a group, (n,).

        Args:
            group: targets that share a softmax.
            log_probs: (n, classes) log-probabilities of their logits.
        """
        loss = -log_probs.gather(-1, group.places[:, None])[:, 0]
        level = self.layout.level_of(group, self.targets)
        if not self.smoothing or level == TEXT:
            return loss
        path = self.paths.place[group.rows // self.targets.shape[1]]
        inside = (path >= 0).nonzero()[:, 0]
        children = self.allowed[level][path[inside]]
        spread = -log_probs[inside].masked_fill(~children, 0.0).sum(-1) / children.sum(-1)
        return loss.index_add(0, inside, self.smoothing * (spread - loss[inside]))


def scores_of(groups: list[TargetGroup], targets: torch.Tensor, losses: GroupLosses) -> TargetScores:
    """Scores whose "log-probability" of a target is minus its loss, with the entropy and accuracy of the model's own softmax.

    Args:
        groups: logits of the targets; see `ScoringMixin.target_logits`.
        targets: (batch, length) vocabulary ids, or -100.
        losses: makes the loss of each target of a group.
    """
    found = torch.zeros(targets.numel(), device=targets.device)
    entropy, is_top = torch.zeros_like(found), torch.zeros_like(found)
    for group in groups:
        log_probs = group.logits.log_softmax(-1)
        found = found.index_add(0, group.rows, -losses(group, log_probs))
        with torch.no_grad():
            entropy[group.rows] = -torch.linalg.vecdot(log_probs.exp(), log_probs).float()  # bfloat16 under autocast
            is_top[group.rows] = (group.logits.argmax(-1) == group.places).float()
    shape = targets.shape
    return TargetScores(found.view(shape), entropy.view(shape), is_top.view(shape), targets != IGNORED)


__all__ = ["GroupLosses", "LabelLosses", "SmoothedLabels", "scores_of"]
