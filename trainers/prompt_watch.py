"""Whether an encoder-decoder still reads its prompts.

An encoder whose states are all alike tells the decoder nothing, gets no gradient that could bring it back and is worn down by weight
decay. The loss goes on falling, to that of the targets' frequencies, so nothing else shows it.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

logger = logging.getLogger(__name__)

ALIKE = 0.1
"""Spread below which states count as alike. Ours: in batches of one task encoders that collapsed had .003 to .04, sound ones .5 to .95.
(Collapsed ones may still tell tasks apart: .3 where a batch mixes them.)"""


class PromptWatch:
    """Within ``with``, keeps the encoder's last states of training.

    Args:
        encoder: of the model; its output has `last_hidden_state` (batch, length, width), and it is given the `attention_mask` by name.
            None watches nothing.
    """

    def __init__(self, encoder: nn.Module | None):
        self._encoder = encoder
        self._seen: tuple[torch.Tensor, torch.Tensor | None] | None = None
        self._told = False

    def __enter__(self) -> PromptWatch:
        self._hook = self._encoder.register_forward_hook(self._keep, with_kwargs=True) if self._encoder is not None else None
        return self

    def __exit__(self, *raised: object) -> None:
        if self._hook is not None:
            self._hook.remove()
        self._seen = None

    def _keep(self, encoder: nn.Module, inputs: Any, named: dict[str, Any], outputs: Any) -> None:
        if encoder.training:
            self._seen = outputs.last_hidden_state.detach(), named.get("attention_mask")

    def spread(self) -> float | None:
        """Standard deviation over the tokens of the last batch, as a share of the states' root mean square; None before the first.

        Warns once where it is below `ALIKE`.
        """
        if self._seen is None:
            return None
        states, mask = self._seen
        states = (states.flatten(0, 1) if mask is None else states[mask.bool()]).float()  # (tokens, width)
        spread = float(states.std(0, correction=0).mean() / states.square().mean().sqrt().clamp_min(1e-12))
        if spread < ALIKE and not self._told:
            self._told = True
            logger.warning(
                "the encoder's states are alike for all tokens (spread %.4f; sound encoders have more than %.1f): the model ignores its "
                "prompts and hardly recovers; start again with a lower learning_rate, more warmup_steps or a larger init_std",
                spread,
                ALIKE,
            )
        return spread


__all__ = ["ALIKE", "PromptWatch"]
