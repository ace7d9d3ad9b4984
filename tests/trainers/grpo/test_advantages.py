"""Advantages are normalised within their group; groups without signal give exactly nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from onesearch.trainers.grpo.advantages import DELTA, group_advantages, position_advantages

EVERY = torch.ones(2, 3, dtype=torch.bool)


def test_a_group_is_centred_and_divided_by_its_deviation():
    rewards = torch.tensor([[1.0, 2.0, 6.0], [0.5, 0.5, 0.5]])
    found = group_advantages(rewards, EVERY)
    std = rewards[0].std()
    torch.testing.assert_close(found.values[0], (rewards[0] - 3.0) / (std + DELTA))
    assert found.values[1].tolist() == [0.0, 0.0, 0.0] and found.is_dead.tolist() == [False, True]
    assert group_advantages(rewards, EVERY, "none").values[0].tolist() == [-2.0, -1.0, 3.0]
    batch = group_advantages(rewards, EVERY, "batch").values
    torch.testing.assert_close(batch[0], torch.tensor([-2.0, -1.0, 3.0]) / (rewards.std() + DELTA))
    with pytest.raises(ValueError, match="scale_rewards='all'"):
        group_advantages(rewards, EVERY, "all")


def test_places_without_a_sid_count_nowhere_and_a_group_of_one_has_no_signal():
    is_sid = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    rewards = torch.tensor([[1.0, 3.0, 1e9], [7.0, float("nan"), -1e9], [float("inf")] * 3])
    found = group_advantages(rewards, is_sid)
    torch.testing.assert_close(found.values[0, :2], torch.tensor([-1.0, 1.0]) / (2**0.5 + DELTA))
    assert not found.values[1:].any() and found.values[0, 2] == 0
    assert found.is_dead.tolist() == [False, True, True]
    for scale in ("batch", "none"):
        assert torch.isfinite(group_advantages(rewards, is_sid, scale).values[1:]).all()


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=2, max_size=8), st.floats(0.0, 1e4, width=32))
def test_advantages_are_finite_sum_to_nothing_and_keep_the_order(values, shift):
    rewards = torch.tensor([values])
    found = group_advantages(rewards, torch.ones_like(rewards, dtype=torch.bool)).values[0]
    assert torch.isfinite(found).all() and abs(float(found.sum())) < 1e-2 * len(values)
    assert float(found.abs().max()) <= len(values) ** 0.5 + 1e-3
    order = rewards[0].argsort()
    assert (found[order].diff() >= -1e-5).all()
    alike = group_advantages(torch.full((1, len(values)), shift + 0.1), torch.ones(1, len(values), dtype=torch.bool))
    assert alike.is_dead.all() and not alike.values.any()  # whatever rounding the mean has


def test_positions_are_normalised_by_themselves():
    increments = torch.tensor([[[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]])
    found = position_advantages(increments, EVERY[:1])
    torch.testing.assert_close(found.values[0, :, 0], group_advantages(increments[..., 0], EVERY[:1]).values[0])
    assert not found.values[0, :, 1].any() and not found.is_dead.any()
    assert position_advantages(torch.zeros(1, 3, 2), EVERY[:1]).is_dead.all()


def test_weights_of_a_group_count_a_reward_so_often():
    """A weight of 2 is a second rollout of the same reward, up to the deviation's correction for the number of rollouts."""
    rewards, weights = torch.tensor([[1.0, 2.0, 6.0]]), torch.tensor([[1.5, 1.0, 0.5]])
    found = group_advantages(rewards, EVERY[:1], "none", weights).values
    mean = (1.5 + 2.0 + 3.0) / 3
    torch.testing.assert_close(found, weights * (rewards - mean))
    assert abs(float(found.sum())) < 1e-6
    alike = group_advantages(rewards, EVERY[:1], weights=torch.ones(1, 3)).values
    torch.testing.assert_close(alike, group_advantages(rewards, EVERY[:1]).values)
