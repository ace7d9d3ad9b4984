"""`onesearch preference`: train the generator of a run's checkpoint on preferences."""

from __future__ import annotations

import argparse

from onesearch.extras import require
from onesearch.files import RunFolder

from .arguments import Commands, add_command, add_run_folder


def add(commands: Commands) -> None:
    """Add `preference` to the command line."""
    text = "train the generator of a run's checkpoint on preferences, stage by stage, and measure every stage"
    parser = add_command(commands, "preference", _preference, text)
    add_run_folder(parser)
    parser.add_argument(
        "--recipe",
        help="recipe whose `preference` part is used (default: the run's own recipe.yaml; without that part, the paper's two phases)",
    )
    parser.add_argument("--stage", metavar="NAME", help="last stage to train (default: all of them)")
    parser.add_argument("--resume", action="store_true", help="keep finished stages, and continue from the last saved state")


def _preference(options: argparse.Namespace) -> None:
    require("train", needed_by="training on preferences")
    from dataclasses import replace

    from onesearch.pipeline.recipe import Recipe, load_recipe, run_recipe_of
    from onesearch.pipeline.run import make_steps, preference_steps
    from onesearch.pipeline.run_lock import writing
    from onesearch.trainers.dpo.preference_config import PreferenceConfig
    from onesearch.trainers.reward.reward_config import RewardConfig

    run = RunFolder(options.run)
    run.require("checkpoint", "onesearch train")
    recipe = run_recipe_of(run) or Recipe(name=run.root.resolve().name)
    given = load_recipe(options.recipe).preference if options.recipe else recipe.preference
    recipe = replace(recipe, reward=recipe.reward or RewardConfig(), preference=given or PreferenceConfig())
    assert recipe.preference is not None
    names = [stage.name for stage in recipe.preference.stages]
    if options.stage is not None and options.stage not in names:
        raise ValueError(f"--stage {options.stage!r} is no stage of the recipe; allowed are {', '.join(names)}")
    with writing(run, "onesearch preference"):
        make_steps(preference_steps(recipe, run, options.resume, progress=True), options.stage)
