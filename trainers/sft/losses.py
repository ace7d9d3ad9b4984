"""The head that TRL's loss calls, replaced by one that scores each target over its own softmax."""

from __future__ import annotations

import functools
import types
from typing import Any

import torch
from transformers import PreTrainedModel
from trl.trainer.utils import FusedCausalLMOutput

from onesearch.modeling_onesearch.modeling_onesearch import IGNORED


def install_sid_head(model: PreTrainedModel, normalize: str = "level") -> None:
    """Replace the head that TRL patched into `model.forward` by one that scores each target over its own softmax.

    TRL's multiplies by the whole vocabulary and reads `lm_head.weight` past any adapter. `forward` without `fused_lm_head` is the
    model's own. The backbone gets all inputs but the labels, so whatever a model adds to them (as `long_view_codes`) is the backbone's.

    Args:
        normalize: what a SID token competes with; see `SidModelMixin.target_logits`.
    """

    def score(model: PreTrainedModel, inputs: dict[str, Any], targets: torch.Tensor) -> FusedCausalLMOutput:
        log_probs, entropy, is_top1 = model.score_targets(target_states(model, inputs), targets, normalize)
        return FusedCausalLMOutput(log_probs=log_probs, entropy=entropy, is_top1=is_top1, label_mask=targets != IGNORED)

    install_head(model, score)


def install_head(model: PreTrainedModel, score) -> None:  # noqa: ANN001 - as `score` of install_sid_head
    """Answer TRL's `model(..., fused_lm_head=True)` by `score(model, inputs, targets)`.

    `targets` (batch, length) lie on the positions that predict them, in both kinds of model; `inputs` hold all else.
    """
    original = type(model).forward

    @functools.wraps(original)
    def forward(self, *args, fused_lm_head=False, labels=None, shift_labels=None, num_items_in_batch=None, **kwargs):
        if not fused_lm_head:
            return original(self, *args, labels=labels, num_items_in_batch=num_items_in_batch, **kwargs)
        if args:
            raise TypeError("inputs are passed by name when fused_lm_head=True")
        targets = aligned_targets(labels, self.config.is_encoder_decoder) if shift_labels is None else shift_labels
        output = score(self, {**kwargs, "use_cache": False}, targets)
        count = output.label_mask.sum().clamp(min=1) if num_items_in_batch is None else num_items_in_batch
        output.loss = -output.log_probs.sum() / count
        return output

    model.forward = types.MethodType(forward, model)


def target_states(model: PreTrainedModel, inputs: dict[str, Any]) -> torch.Tensor:
    """Last hidden states (batch, length, d_model) of the backbone: the decoder's, or those of the whole sequence."""
    return model.model(**inputs).last_hidden_state


def aligned_targets(labels: torch.Tensor, is_encoder_decoder: bool) -> torch.Tensor:
    """Labels on the positions that predict them: a decoder-only model's are its inputs, one position late."""
    if is_encoder_decoder:
        return labels
    return torch.nn.functional.pad(labels[:, 1:], (0, 1), value=IGNORED)
