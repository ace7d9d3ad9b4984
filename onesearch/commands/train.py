"""`onesearch train`: train the model of a run."""

from __future__ import annotations

import argparse

from onesearch.extras import require
from onesearch.files import RunFolder

from .arguments import Commands, add_command, add_run_folder, given, positive, positive_number


def add(commands: Commands) -> None:
    """Add `train` to the command line."""
    text = "train on a run's market and SIDs; `torchrun -m onesearch.cli train …` trains with several processes"
    parser = add_command(commands, "train", _train, text)
    add_run_folder(parser)
    parser.add_argument(
        "--recipe",
        help="recipe whose `training` and `search` parts are used (default: the run's own recipe.yaml, or `default` without one)",
    )
    parser.add_argument(
        "--epochs", type=positive_number, metavar="N", help="passes over the examples of each stage, instead of the recipe's"
    )
    parser.add_argument(
        "--batch-size",
        type=positive,
        metavar="N",
        help="examples per step and process, instead of the recipe's; a larger batch needs more memory and makes fewer steps",
    )
    parser.add_argument(
        "--learning-rate", type=positive_number, metavar="RATE", help="highest learning rate, instead of the recipe's"
    )
    parser.add_argument(
        "--report-to", metavar="TRACKER", help="experiment tracker that transformers knows, for example tensorboard"
    )
    parser.add_argument("--resume", action="store_true", help="continue from the last saved state")
    parser.add_argument("--overwrite", action="store_true", help="replace the checkpoint that the run has")


def _train(options: argparse.Namespace) -> None:
    require("train", needed_by="training")
    from dataclasses import replace

    from onesearch.pipeline.processes import leave_group
    from onesearch.pipeline.recipe import load_recipe, run_recipe_of
    from onesearch.pipeline.run_lock import writing
    from onesearch.trainers.training import train_run

    run = RunFolder(options.run)
    recipe = None if options.recipe else run_recipe_of(run)
    recipe = recipe or load_recipe(options.recipe or "default")
    flags = given(
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        report_to=options.report_to,
    )
    config = replace(recipe.training, arguments={**recipe.training.arguments, **flags})
    run.require("market", "onesearch data")
    with writing(run, "onesearch train"):
        train_run(run, config, recipe.search, resume=options.resume, overwrite=options.overwrite)
    leave_group()
