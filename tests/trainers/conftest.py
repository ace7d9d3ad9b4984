"""A tiny run with a reward model, which the tests of preference training share."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from onesearch.files import RunFolder
from onesearch.trainers.dpo.list_config import BeamListConfig
from onesearch.trainers.dpo.preference_config import PreferenceConfig, PreferenceStage
from onesearch.trainers.reward.reward_config import RewardConfig

REWARD = RewardConfig(hidden_size=16, attention_heads=2, tower_size=16, epochs=1, searches=60, text_index=False)

ARGUMENTS = {
    "max_steps": 4,
    "per_device_train_batch_size": 8,
    "refresh_steps": 2,
    "logging_steps": 1,
    "use_cpu": True,
    "beta": 0.3,
}
ARGUMENTS |= {"eval_strategy": "steps", "eval_steps": 4, "eval_on_start": True, "save_strategy": "steps", "save_steps": 3}

STAGES = (
    PreferenceStage("dpo-1", lists=BeamListConfig(num_beams=8, chosen=4, tail=2), recombined=0.3),
    PreferenceStage("dpo-2", lists=BeamListConfig(num_beams=8)),
)


@pytest.fixture(scope="session")
def preference_recipe(recipe):
    """The tiny recipe with a reward model and both phases."""
    return replace(
        recipe, reward=REWARD, preference=PreferenceConfig(STAGES, dict(ARGUMENTS), requests=40, validation_requests=12)
    )


@pytest.fixture(scope="session")
def shared_rewarded_run(shared_run, tmp_path_factory):
    """The tiny run with a reward model. Read only: tests that write take `rewarded_run`."""
    from onesearch.trainers.reward.training import train_reward_run

    run = RunFolder(shutil.copytree(shared_run.root, tmp_path_factory.mktemp("rewarded") / "tiny"))
    train_reward_run(run, REWARD)
    return run


@pytest.fixture
def rewarded_run(shared_rewarded_run, tmp_path):
    """A copy of the tiny run with a reward model."""
    return RunFolder(shutil.copytree(shared_rewarded_run.root, tmp_path / "rewarded"))


@pytest.fixture(scope="session")
def trained_run(shared_rewarded_run, preference_recipe, tmp_path_factory):
    """The tiny run after both phases. Read only."""
    from onesearch.pipeline.run import make_steps, preference_steps

    run = RunFolder(shutil.copytree(shared_rewarded_run.root, tmp_path_factory.mktemp("trained") / "tiny"))
    make_steps(preference_steps(preference_recipe, run, resume=False, progress=False))
    return run
