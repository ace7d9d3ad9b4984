"""A guard against encoder-decoders that stop reading their prompts.

If an encoder's states are alike for all tokens, the decoder learns nothing from them, the encoder gets no useful gradient, and weight decay
shrinks its weights further. The loss still falls, to that of the targets' frequencies, so no other figure shows the collapse.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

logger = logging.getLogger(__name__)

ALIKE = 0.1
"""Spread below which states count as alike. The threshold is our choice: in batches of one task, collapsed encoders had a spread of 0.003
to 0.04, sound ones 0.5 to 0.95. Collapsed encoders may still tell tasks apart, with a spread of 0.3 in batches that mix tasks."""


class PromptWatch:
    """Context manager that keeps the encoder's states of the last training batch.

    Args:
        encoder: encoder of the model. Its output has `last_hidden_state` (batch, length, width), and it gets `attention_mask` by name. None
            watches nothing.
    """

    def __init__(self, encoder: nn.Module | None) -> None:
        self._encoder = encoder
        self._hook: RemovableHandle | None = None
        self._seen: tuple[torch.Tensor, torch.Tensor | None] | None = None
        self._warned = False

    def __enter__(self) -> PromptWatch:
        if self._encoder is not None:
            self._hook = self._encoder.register_forward_hook(self._keep, with_kwargs=True)
        return self

    def __exit__(self, *raised: object) -> None:
        if self._hook is not None:
            self._hook.remove()
        self._seen = None

    def _keep(self, encoder: nn.Module, inputs: Any, named: dict[str, Any], outputs: Any) -> None:
        if encoder.training:
            self._seen = outputs.last_hidden_state.detach(), named.get("attention_mask")

    def spread(self) -> float | None:
        """Spread of the states over the tokens of the last batch; warns once if it is below `ALIKE`.

        Returns:
            Mean standard deviation over the tokens, divided by the states' root mean square; None before the first batch.
        """
        if self._seen is None:
            return None
        states, mask = self._seen
        states = (states.flatten(0, 1) if mask is None else states[mask.bool()]).float()  # (tokens, width)
        spread = float(states.std(0, correction=0).mean() / states.square().mean().sqrt().clamp_min(1e-12))
        if spread < ALIKE and not self._warned:
            self._warned = True
            logger.warning(
                "the encoder's states are alike for all tokens (spread %.4f; sound encoders have more than %.1f): the model ignores its "
                "prompts and hardly recovers; start again with a lower learning_rate, more warmup_steps or a larger init_std",
                spread,
                ALIKE,
            )
        return spread


__all__ = ["ALIKE", "PromptWatch"]
