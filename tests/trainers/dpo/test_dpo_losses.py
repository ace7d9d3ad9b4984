"""The list-wise loss: equal to its formula where that is finite, its gradients those of plain autograd, and finite everywhere."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from onesearch.trainers.dpo.losses import list_wise_losses
from onesearch.trainers.reward.adaptive import MARGINS, RewardFormula, pair_weight


def random_lists(seed, prompts=3, candidates=6):
    """Log-probabilities of policy and reference, and weights of random pairs."""
    draw = torch.Generator().manual_seed(seed)
    policy, reference = (-3 * torch.rand(prompts, candidates, generator=draw, dtype=torch.float64) for _ in range(2))
    weights = torch.rand(prompts, candidates, candidates, generator=draw, dtype=torch.float64) + 0.1
    in_list = torch.rand(prompts, candidates, candidates, generator=draw) < 0.4
    return policy.requires_grad_(), reference, weights * in_list


def written_out(policy, reference, weights, beta, chosen_weight, margin):
    """The formula, pair by pair, with exponentials."""
    losses = {}
    for row in range(len(policy)):
        for chosen in range(policy.shape[1]):
            terms = []
            for rejected in range(policy.shape[1]):
                rw = weights[row, chosen, rejected]
                if rw == 0:
                    continue
                rho_w, rho_l = (policy[row, place] - reference[row, place] for place in (chosen, rejected))
                regulariser = chosen_weight * torch.relu(reference[row, chosen] - policy[row, chosen])
                inner = beta * (regulariser + rho_l - rho_w)
                if margin is not None:
                    inner = torch.relu(inner - margin)
                terms.append(torch.exp(rw * inner))
            if terms:
                losses[row, chosen] = -torch.log(torch.sigmoid(-torch.log(torch.stack(terms).sum())))
    return losses


@pytest.mark.parametrize(("chosen_weight", "margin"), [(0.0, None), (0.7, None), (0.0, 0.05), (0.3, -0.1)])
def test_losses_and_gradients_are_those_of_the_formula(chosen_weight, margin):
    policy, reference, weights = random_lists(1)
    found = list_wise_losses(policy, reference, weights, 0.5, chosen_weight, margin)
    expected = written_out(policy, reference, weights, 0.5, chosen_weight, margin)
    assert set(expected) == {tuple(place) for place in found.is_list.nonzero().tolist()}
    for place, value in expected.items():
        torch.testing.assert_close(found.preference[place], value)
    (gradient,) = torch.autograd.grad(found.preference.sum(), policy)
    (other,) = torch.autograd.grad(sum(expected.values()), policy)
    torch.testing.assert_close(gradient, other)


def test_gradcheck():
    policy, reference, weights = random_lists(2)
    assert torch.autograd.gradcheck(lambda own: list_wise_losses(own, reference, weights, 0.5, 0.3).mean(0.2), (policy,))


def test_one_rejected_with_weight_one_is_the_pair_wise_loss():
    policy, reference = torch.tensor([[-1.0, -2.5]]), torch.tensor([[-1.5, -1.0]])
    weights = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])
    found = list_wise_losses(policy, reference, weights, 0.3)
    assert found.preference[0, 0] == pytest.approx(float(-F.logsigmoid(torch.tensor(0.3 * (0.5 + 1.5)))))
    assert found.preference[0, 1] == 0 and found.is_list.tolist() == [[True, False]]
    assert float(found.mean(0.5)) == pytest.approx(float(found.preference[0, 0]) + 0.5 * 1.0)


def test_prompts_count_alike_whatever_the_number_of_their_lists():
    policy = torch.tensor([[-1.0, -2.0, -3.0], [-1.0, -2.0, -3.0], [-1.0, -2.0, -3.0]])
    weights = torch.zeros(3, 3, 3)
    weights[0, 0, 1:] = weights[0, 1, 2] = weights[1, 0, 2] = 1  # the third prompt has no list
    found = list_wise_losses(policy, torch.zeros(3, 3), weights, 1.0)
    one, other = found.preference[0, :2].mean(), found.preference[1, 0]
    assert float(found.mean(0.0)) == pytest.approx(float((one + other) / 2))


@pytest.mark.parametrize("margin", [None, 0.1])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e2, 1e4, 1e8])
def test_extreme_ratios_stay_finite(scale, margin):
    for seed in range(20):
        policy, reference, weights = random_lists(seed)
        policy = (policy.detach().float() * scale).requires_grad_()
        found = list_wise_losses(policy, reference.float(), weights.float(), 1.0, 0.5, margin).mean(0.1)
        found.backward()
        assert torch.isfinite(found) and torch.isfinite(policy.grad).all()


@pytest.mark.parametrize("form", MARGINS)
def test_any_rewards_give_finite_losses(form):
    """Ties, inverted and extreme rewards: the printed weight has a pole there and turns negative."""
    draw = torch.Generator().manual_seed(3)
    for scale in (0.0, 1e-12, 1.0, 1e6, 1e30):
        rewards = (torch.randn(4, 5, generator=draw, dtype=torch.float64) * scale).numpy()
        formula = RewardFormula(margin=form)
        weights = torch.from_numpy(pair_weight(rewards[:, :, None], rewards[:, None, :], formula)).float()
        assert torch.isfinite(weights).all() and float(weights.min()) >= 0 and float(weights.max()) <= formula.largest
        policy = (-4 * torch.rand(4, 5, generator=draw)).requires_grad_()
        found = list_wise_losses(policy, torch.zeros(4, 5), weights, 0.1).mean(0.1)
        found.backward()
        assert math.isfinite(float(found)) and torch.isfinite(policy.grad).all()


def test_the_paper_s_printed_sign_leaves_a_violated_pair_without_gradient():
    """Why the sign is S-DPO's: under Eq. 11 as printed the hinge of a pair in the wrong order is 0."""
    policy = torch.tensor([[-3.0, -1.0]], requires_grad=True)  # the rejected one is likelier
    reference, weights = torch.tensor([[-2.0, -2.0]]), torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])
    printed = -F.logsigmoid(torch.log(torch.exp(torch.relu(policy[0, 0] - policy[0, 1]))))
    (gradient,) = torch.autograd.grad(printed, policy)
    assert not gradient.any()
    (gradient,) = torch.autograd.grad(list_wise_losses(policy, reference, weights, 1.0).preference.sum(), policy)
    assert gradient[0, 0] < 0 < gradient[0, 1]
