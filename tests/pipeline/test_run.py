"""The steps of a run: all that the recipe asks for, in their order, up to the step that a caller names."""

from __future__ import annotations

import pytest

from onesearch.files import RunFolder
from onesearch.pipeline import run
from onesearch.pipeline.recipe import Recipe
from onesearch.tokenization_sid.embedding.configs import AlignmentConfig
from onesearch.trainers.reward.reward_config import RewardConfig

STEPS = ("make_market", "align_encoder", "make_embeddings", "make_sids", "make_checkpoint", "make_reward")


@pytest.mark.parametrize(
    ("recipe", "last", "expected"),
    [
        (Recipe("all", alignment=AlignmentConfig(), reward=RewardConfig()), None, STEPS),
        (Recipe("all", alignment=AlignmentConfig(), reward=RewardConfig()), "SIDs", STEPS[:4]),
        (Recipe("short"), None, (STEPS[0], *STEPS[2:5])),
    ],
    ids=["everything", "up to the SIDs", "neither alignment nor reward"],
)
def test_a_run_makes_the_steps_of_its_recipe(recipe, last, expected, tmp_path, monkeypatch):
    made = []
    for name in STEPS:
        monkeypatch.setattr(run, name, lambda *arguments, name=name: made.append(name))
    monkeypatch.setattr(run, "_possible", lambda recipe, run: recipe)
    run.make_parts(recipe, RunFolder(tmp_path), resume=False, progress=False, last=last)
    assert tuple(made) == expected
