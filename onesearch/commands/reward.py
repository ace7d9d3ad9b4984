"""`onesearch reward`: train the reward model that ranks the hits of a run's checkpoint."""

from __future__ import annotations

import argparse

from onesearch.extras import require
from onesearch.files import RunFolder

from .arguments import Commands, add_command, add_run_folder, quiet_libraries


def add(commands: Commands) -> None:
    """Add `reward` to the command line."""
    text = "train a reward model on a run's sessions and on its checkpoint's beams; it ranks the hits of later searches"
    parser = add_command(commands, "reward", _reward, text)
    add_run_folder(parser)
    parser.add_argument(
        "--recipe", help="recipe whose `reward` part is used (default: the run's own recipe.yaml, or the defaults without one)"
    )


def _reward(options: argparse.Namespace) -> None:
    require("train", needed_by="training a reward model")
    from onesearch.pipeline.recipe import load_recipe, run_recipe_of
    from onesearch.pipeline.run_lock import writing
    from onesearch.trainers.reward.reward_config import RewardConfig
    from onesearch.trainers.reward.training import train_reward_run

    quiet_libraries()
    run = RunFolder(options.run)
    recipe = load_recipe(options.recipe) if options.recipe else run_recipe_of(run)
    config = None if recipe is None else recipe.reward
    run.require("checkpoint", "onesearch train")
    with writing(run, "onesearch reward"):
        train_reward_run(run, config or RewardConfig())
