"""A tiny run with a reward model and a text index, which the tests of re-ranking and of text recall share."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from onesearch import Searcher
from onesearch.cli import main
from onesearch.files import RunFolder
from onesearch.pipeline.recipe import save_recipe
from onesearch.trainers.reward.negatives import NegativeSampling
from onesearch.trainers.reward.reward_config import RewardConfig


@pytest.fixture(scope="session")
def rewarded(shared_run, recipe, tmp_path_factory):
    """A copy of the tiny run with a reward model, trained by the command. Read only."""
    run = RunFolder(shutil.copytree(shared_run.root, tmp_path_factory.mktemp("rewarded") / "tiny"))
    config = RewardConfig(hidden_size=8, attention_heads=2, tower_size=8, searches=40, negatives=NegativeSampling(category=4))
    path = run.root.parent / "reward.yaml"
    save_recipe(replace(recipe, reward=config), path)
    assert main(["reward", str(run.root), "--recipe", str(path)]) == 0
    return run


@pytest.fixture(scope="session")
def reward_searcher(rewarded):
    """Read only."""
    return Searcher.from_pretrained(rewarded.checkpoint)
