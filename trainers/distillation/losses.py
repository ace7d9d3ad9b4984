"""Terms of OneSearch-V2's self-distillation (arXiv 2603.24422), each per target, without averaging."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def focal_cross_entropy(logits: torch.Tensor, target: torch.Tensor, alpha: float, gamma: float) -> torch.Tensor:
    """−α (1 − p)^γ log p of each target (Lin et al. 2017, arXiv 1708.02002, with one α): easy targets count less.

    Args:
        logits: (n, classes).
        target: (n,) places among the classes.
        alpha: α, factor of the loss.
        gamma: γ. A larger γ lets easy targets count less.

    Returns:
        (n,); the plain cross entropy with α = 1 and γ = 0.
    """
    nll = F.cross_entropy(logits, target, reduction="none")
    if not gamma:
        return alpha * nll
    missed = -torch.expm1(-nll)  # 1 - p
    return alpha * missed.clamp(min=torch.finfo(nll.dtype).tiny) ** gamma * nll


def teacher_kl(teacher: torch.Tensor, student: torch.Tensor, temperature: float, over_vocabulary: bool = True) -> torch.Tensor:
    """τ²/|V| · KL(softmax(teacher/τ) ‖ softmax(student/τ)) of each target; |V| is the number of classes.

    Args:
        teacher: (n, classes) logits, which take no gradient.
        student: (n, classes) logits.
        temperature: τ.
        over_vocabulary: divide by |V|.

    Returns:
        (n,).
    """
    expected, found = (logits.div(temperature).log_softmax(-1) for logits in (teacher.detach(), student))
    kl = F.kl_div(found, expected, reduction="none", log_target=True).sum(-1)
    return temperature**2 * (kl / student.shape[-1] if over_vocabulary else kl)


def symmetric_kl(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """½ (KL(one ‖ other) + KL(other ‖ one)) of each target: R-Drop (Liang et al. 2021, arXiv 2106.14448). Both take gradients.

    Args:
        one: (n, classes) logits of a dropout pass.
        other: (n, classes) logits of another dropout pass.

    Returns:
        (n,).
    """
    log_one, log_other = one.log_softmax(-1), other.log_softmax(-1)
    return 0.5 * ((log_one.exp() - log_other.exp()) * (log_one - log_other)).sum(-1)


def fgm_step(gradient: torch.Tensor, epsilon: torch.Tensor) -> torch.Tensor:
    """ε g / ‖g‖ for each example (fast gradient method, Miyato et al. 2017, arXiv 1605.07725).

    Each example has a norm of its own, over its tokens. The common variant perturbs the embedding matrix by the gradient of the whole
    batch, so its result depends on how examples are grouped into batches.

    Args:
        gradient: (batch, length, d_model) gradient of the loss with respect to the prompts' embeddings.
        epsilon: (batch,) ε, norm of the result of each example.

    Returns:
        (batch, length, d_model) perturbations; zero where the gradient is zero.
    """
    norm = torch.linalg.vector_norm(gradient.float(), dim=(1, 2))
    scale = epsilon / norm.clamp(min=1e-12)
    return (scale[:, None, None] * gradient).to(gradient.dtype)
