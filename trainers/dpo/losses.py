r"""The list-wise preference loss of OneSearch (arXiv 2509.03236, Eq. 11), finite for every input.

With the log-ratio $\rho = \log\pi_\theta - \log\pi_{ref}$ of a chosen Semantic ID $w$ and its rejected ones $l$:

$$\mathcal L = -\log\sigma\Big(-\log\sum_l \exp\big(rw_l\,\beta\,(reg + \rho_l - \rho_w)\big)\Big) - \alpha\log\pi_\theta(w)$$

The sign is that of S-DPO and of the same team's OneSug: Eq. 11 as printed has $\max(0, \hat r_w - \hat r_l - \delta)$ in a positive
log-sum, which gives a violated pair no gradient. Since $-\log\sigma(-z) = \mathrm{softplus}(z)$, the first term is a softplus of a
log-sum-exp. Written with exponentials, as in published code, it becomes infinite or NaN at margins of about 100.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F

ABSENT = -1e30
"""Argument of the log-sum-exp where there is no rejected Semantic ID. Finite, so that no gradient is NaN."""


class ListLosses(NamedTuple):
    """The loss of each list of a batch, each (prompts, candidates); candidate w stands for the list that it heads.

    Args:
        preference: the list-wise term; 0 where the candidate heads no list.
        nll: negative log-likelihood of the candidate; 0 where it heads no list.
        is_list: whether the candidate heads a list.
    """

    preference: torch.Tensor
    nll: torch.Tensor
    is_list: torch.Tensor

    def mean(self, nll_weight: float) -> torch.Tensor:
        """Mean over the prompts of the mean over each prompt's lists, so that a prompt with many lists counts like one with few."""
        counts = self.is_list.sum(1)
        own = (self.preference + nll_weight * self.nll).sum(1) / counts.clamp(min=1)
        return own.sum() / (counts > 0).sum().clamp(min=1)


def list_wise_losses(
    policy: torch.Tensor,
    reference: torch.Tensor,
    weights: torch.Tensor,
    beta: float,
    chosen_weight: float = 0.0,
    margin: float | None = None,
    reference_weight: float = 1.0,
) -> ListLosses:
    """The losses of all lists of a batch of prompts.

    Args:
        policy: (prompts, candidates) log-probabilities of the Semantic IDs under the policy.
        reference: (prompts, candidates) log-probabilities under the reference, without gradient.
        weights: (prompts, candidates, candidates) weight rw of each pair of a chosen candidate (second axis) and a rejected one (third
            axis); 0 where the pair is in no list. A larger weight makes the pair's difference count more.
        beta: β. A larger β reaches the same loss with a smaller change of the policy.
        chosen_weight: factor of the regulariser reg = relu(log π_ref(w) − log π(w)), which grows while the chosen one is less likely than
            under the reference.
        margin: δ of the hinge max(0, β(reg + ρ_l − ρ_w) − δ) that OneSug puts around the difference; None leaves the hinge out. A larger δ
            stops pushing a pair later for negative values, earlier for positive ones.
        reference_weight: factor γ of log π_ref in the log-ratio ρ = log π − γ log π_ref. 1 is the paper's. With 0 and β = 1 the loss of a
            list is −log of the chosen one's share among the list's probabilities, so that mainly pairs in the wrong order push.
    """
    ratios = policy - reference_weight * reference
    difference = ratios[:, None, :] - ratios[:, :, None]  # (prompts, chosen, rejected)
    if chosen_weight:
        difference = difference + chosen_weight * (reference - policy).relu()[:, :, None]
    scaled = beta * difference
    if margin is not None:
        scaled = (scaled - margin).relu()
    in_list = weights > 0
    is_list = in_list.any(-1)
    terms = torch.where(in_list, weights * scaled, ABSENT)
    preference = torch.where(is_list, F.softplus(terms.logsumexp(-1)), 0.0)
    return ListLosses(preference, torch.where(is_list, -policy, 0.0), is_list)


__all__ = ["ABSENT", "ListLosses", "list_wise_losses"]
