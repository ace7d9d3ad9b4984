"""Token loss whose gradient reaches the item encoder: the ablation of the paper's stop-gradient.

Travels to the Hub with the weights: imports nothing of this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .scores_onesearch import IGNORED, TargetScores

LEAST_LOG_PROB = -30.0
"""Log-probabilities are cut here, so that a code that the trie bars has a finite gradient."""


@dataclass
class SoftTargets:
    """Objective (see `Objective`) with targets and decoder inputs that carry a gradient to the item encoder.

    Their values are those of the codes in the labels: a one-hot vector plus p − sg[p], where p is the softmax over the codes of the level.

    Args:
        soft: p of each level, (batch, codes).
        states: states of the encoder, which a call leaves here.
    """

    soft: Sequence[torch.Tensor]
    states: torch.Tensor | None = None

    def __call__(self, model: Any, inputs: dict[str, Any], targets: torch.Tensor) -> TargetScores:
        """Score the targets (batch, levels), a whole Semantic ID each.

        Args:
            model: the model.
            inputs: arguments of its backbone.
            targets: (batch, levels) vocabulary ids.

        Raises:
            ValueError: a target is no whole Semantic ID.
        """
        config = model.config
        if targets.shape[1] != config.sid_levels or bool((targets == IGNORED).any()):
            raise ValueError(
                f"soft_targets: labels {tuple(targets.shape)} must be one whole Semantic ID of {config.sid_levels} codes per row"
            )
        changes = [part - part.detach() for part in self.soft]  # 0, with a gradient
        tokens = inputs["decoder_input_ids"]
        embed = model.model.decoder.embed_tokens
        embedded = [embed(tokens)]
        for level, change in enumerate(changes[:-1]):
            start, stop = config.sid_slice(level)
            moved = change.to(embed.weight.dtype) @ embed(torch.arange(start, stop, device=tokens.device)).detach()
            embedded.append(
                torch.zeros_like(embedded[0]).index_copy(1, torch.tensor([level + 1], device=tokens.device), moved[:, None])
            )
        given = {**inputs, "decoder_input_ids": None, "decoder_inputs_embeds": torch.stack(embedded).sum(0)}
        outputs = model.model(**given)
        self.states = outputs.encoder_last_hidden_state
        scores = model.score_targets(outputs.last_hidden_state, targets)
        extra = torch.zeros_like(scores.log_probs).flatten()
        for (rows, logits, _), change in zip(model.target_logits(outputs.last_hidden_state, targets), changes):
            log_probs = logits.log_softmax(-1).clamp(min=LEAST_LOG_PROB)
            extra = extra.index_copy(0, rows, (change[rows // targets.shape[1]] * log_probs.detach()).sum(-1))
        return scores._replace(log_probs=scores.log_probs + extra.view(scores.log_probs.shape))


__all__ = ["SoftTargets"]
