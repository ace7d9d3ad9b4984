"""The adversarial term of self-distillation: FGM moves the embeddings of a prompt (fast gradient method, Miyato et al. 2017,
arXiv 1605.07725)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F

from onesearch.modeling_onesearch.sid_model_onesearch import SidModelMixin

from .distillation_config import SidDistillationConfig
from .losses import fgm_step

LARGE_RATIO = 0.5
"""Ratio of a perturbation's norm to that of a token's embedding from which a warning is logged; our choice. At a ratio of 1 (d_model 128)
training learned no more than the popularity of items (docs/results.md, "Every option once")."""

SOUND_RATIO = 0.03
"""Ratio that the warning advises; the default of `adversarial_epsilon`."""


class Perturbed(NamedTuple):
    """Embeddings after a step of FGM.

    Args:
        embeddings: (batch, length, d_model).
        ratios: (batch,) norm of each example's perturbation, divided by the mean norm of its tokens' embeddings.
    """

    embeddings: torch.Tensor
    ratios: torch.Tensor


def prompt_embeddings(model: SidModelMixin, input_ids: torch.Tensor, views: Mapping[str, torch.Tensor | None]) -> torch.Tensor:
    """(batch, length, d_model), long view and history in place, with a gradient also where the embedding is frozen."""
    embeddings = model.embed_prompts(input_ids, **views)
    return embeddings if embeddings.requires_grad else embeddings.requires_grad_()


def prompt_tokens(attention_mask: torch.Tensor, is_target: torch.Tensor, is_encoder_decoder: bool) -> torch.Tensor:
    """Which inputs are tokens of a prompt, (batch, length) bool: neither padding nor, in a decoder-only model, targets.

    Args:
        attention_mask: (batch, length) of the inputs.
        is_target: (batch, length), True where a target is predicted. In a decoder-only model the target stands one place behind.
        is_encoder_decoder: kind of the model; the inputs of an encoder hold no target.
    """
    tokens = attention_mask.bool()
    return tokens if is_encoder_decoder else tokens & ~F.pad(is_target[:, :-1], (1, 0))


def perturb(embeddings: torch.Tensor, loss: torch.Tensor, is_prompt: torch.Tensor, args: SidDistillationConfig) -> Perturbed:
    """Move the embeddings of each prompt in the direction in which the loss grows.

    Args:
        embeddings: (batch, length, d_model), with a gradient.
        loss: sum of the loss over the batch.
        is_prompt: (batch, length) bool: the embeddings that are moved and whose mean norm `adversarial_relative` refers to.
        args: `adversarial_epsilon` and `adversarial_relative` are used.
    """
    (gradient,) = torch.autograd.grad(loss, embeddings, retain_graph=True)
    norms = mean_token_norms(embeddings, is_prompt)
    epsilon = args.adversarial_epsilon * (norms if args.adversarial_relative else torch.ones_like(norms))
    step = fgm_step(gradient.masked_fill(~is_prompt[..., None], 0.0), epsilon)
    return Perturbed(embeddings + step, epsilon / norms.clamp(min=1e-12))


@torch.no_grad()
def mean_token_norms(embeddings: torch.Tensor, is_prompt: torch.Tensor) -> torch.Tensor:
    """Mean L2 norm of the embeddings of each prompt's tokens, (batch,). It does not depend on the other prompts of the batch."""
    norms = torch.linalg.vector_norm(embeddings.float(), dim=-1) * is_prompt
    return norms.sum(1) / is_prompt.sum(1).clamp(min=1)


__all__ = ["LARGE_RATIO", "SOUND_RATIO", "Perturbed", "mean_token_norms", "perturb", "prompt_embeddings", "prompt_tokens"]
