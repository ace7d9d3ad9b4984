"""Rewards of rollouts: exact items, prefixes as TPMA counts them, and the feedback of the session."""

from __future__ import annotations

import pytest
import torch

from onesearch.trainers.grpo.reward_mix import PRESETS, REWARDS, RewardMix, with_preset
from onesearch.trainers.grpo.rewards import BOUGHT, CLICKED, SHOWN, PrefixReward, TargetReward, Targets, log_rewards
from onesearch.trainers.grpo.rollouts import Rollouts

EXAMPLE = {"targets": [1, 2, 3, 4, 4, 4, 1, 2, 9], "target_kinds": [BOUGHT, CLICKED, SHOWN]}
EMPTY = {"targets": [], "target_kinds": []}


def rollouts(*sids, examples=(EXAMPLE,)):
    codes = torch.tensor([list(sids)] * len(examples))
    return Rollouts(codes, list(examples), torch.zeros(codes.shape[:2], dtype=torch.bool), torch.ones(codes.shape[:2]))


def test_an_exact_hit_has_the_value_of_its_kind():
    group = rollouts((1, 2, 3), (4, 4, 4), (1, 2, 9), (1, 2, 4), (-1, -1, -1), examples=(EXAMPLE, EMPTY))
    assert TargetReward(4.0, 3.0)(group).tolist() == [[4.0, 3.0, 0.0, 0.0, 0.0], [0.0] * 5]
    assert TargetReward(2.0, 1.0, 0.5)(group).tolist() == [[2.0, 1.0, 0.5, 0.0, 0.0], [0.0] * 5]
    twice = {"targets": [1, 2, 3, 1, 2, 3], "target_kinds": [CLICKED, BOUGHT]}  # two items of one SID: the better counts
    assert TargetReward(4.0, 3.0)(rollouts((1, 2, 3), examples=(twice,))).tolist() == [[4.0]]


def test_prefixes_count_from_the_first_code_on_with_weights():
    """Weights 2, 2, 1 by default; 5 is the whole."""
    group = rollouts((1, 2, 3), (1, 2, 4), (1, 9, 3), (9, 2, 3), (4, 4, 9))
    torch.testing.assert_close(PrefixReward()(group), torch.tensor([[5.0, 4.0, 2.0, 0.0, 4.0]]) / 5)
    torch.testing.assert_close(PrefixReward(last=0.0)(group), torch.tensor([[4.0, 4.0, 2.0, 0.0, 4.0]]) / 4)
    torch.testing.assert_close(PrefixReward((1.0, 0.0, 1.0))(group), torch.tensor([[2.0, 1.0, 1.0, 0.0, 1.0]]) / 2)
    by_position = PrefixReward(contiguous=False)
    torch.testing.assert_close(by_position(group), torch.tensor([[5.0, 4.0, 3.0, 3.0, 4.0]]) / 5)
    with pytest.raises(ValueError, match="3 codes, so 3 weights"):
        PrefixReward((1.0, 2.0))(group)
    assert not PrefixReward()(rollouts((1, 2, 3), examples=(EMPTY,))).any()


def test_increments_and_gates_are_those_of_the_paper():
    """The maximum over targets is taken at every length, so increments of (1, 4, 4) mix two targets."""
    reward = PrefixReward(contiguous=False)
    group = rollouts((1, 2, 3), (1, 4, 4), (9, 9, 9))
    increments = reward.increments(group) * 5
    torch.testing.assert_close(increments[0], torch.tensor([[2.0, 2.0, 1.0], [2.0, 0.0, 1.0], [0.0, 0.0, 0.0]]))
    torch.testing.assert_close(reward.gates(group)[0], torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.5], [1.0, 0.0, 0.0]]))
    torch.testing.assert_close(reward.increments(group).sum(-1), reward(group))


def test_targets_need_their_columns_and_may_be_none():
    assert Targets.of([EXAMPLE, EMPTY], 3).kinds.tolist() == [[BOUGHT, CLICKED], [-1, -1]]
    assert Targets.of([EXAMPLE], 3, shown=True).codes[0, 2].tolist() == [1, 2, 9]
    with pytest.raises(KeyError, match="no column 'target_kinds'"):
        Targets.of([{"targets": []}], 3)


def test_a_mix_is_checked_and_says_what_it_needs():
    mix = RewardMix(item=2.0, prefix=1.0, model=0.0, feedback=[1, 2, 3])
    assert mix.weights == {"item": 2.0, "prefix": 1.0} and not mix.needs_reward_model and mix.feedback == (1, 2, 3)
    assert [(own.name, own.weight) for own in log_rewards(mix)] == [("item", 2.0), ("prefix", 1.0)]
    assert RewardMix().needs_reward_model
    for changes, text in (
        ({"item": -1.0}, "rewards.item=-1.0"),
        ({"prefix": float("nan")}, "rewards.prefix=nan"),
        ({"model": 0.0}, f"every weight among {', '.join(REWARDS)} is 0"),
        ({"advantages": "level"}, "rewards.advantages='level'"),
        ({"advantages": "position"}, "set rewards.prefix"),
        ({"feedback": (1.0,)}, "three numbers"),
    ):
        with pytest.raises(ValueError, match=text):
            RewardMix(**changes)


def test_presets_are_overridden_by_what_is_given():
    mix, arguments = with_preset("spo", {"interaction": 3.0}, {"beta": 0.5})
    assert (mix.model, mix.interaction, arguments["rollouts"], arguments["beta"]) == (1.0, 3.0, "beam", 0.5)
    mix, arguments = with_preset("tpma", {}, {})
    assert mix.advantages == "position" and not mix.contiguous and mix.item_weight == 0 and arguments["num_generations"] == 4
    assert PrefixReward(mix.prefix_weights, mix.last_code).level_weights(5).tolist() == [2.0, 2.0, 1.0, 1.0, 0.0]
    with pytest.raises(ValueError, match=f"preset='ppo' is unknown; allowed are {', '.join(map(repr, PRESETS))}"):
        with_preset("ppo", {}, {})
    with pytest.raises(ValueError, match="rewards.items is unknown"):
        with_preset(None, {"items": 1.0}, {})
