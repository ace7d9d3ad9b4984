"""`onesearch train`: train the model of a run."""

from __future__ import annotations

import argparse
from typing import Any

from onesearch.files import RunFolder

from .arguments import add_command, add_run_folder, positive


def add(commands: Any) -> None:
    """Add `train` to the command line."""
    parser = add_command(commands, "train", _train, "train on a run's market and SIDs; works under torchrun as it is")
    add_run_folder(parser)
    parser.add_argument("--recipe", default="default", help="recipe whose `training` part is used (default: %(default)s)")
    parser.add_argument("--epochs", type=float, help="instead of the recipe's")
    parser.add_argument("--batch-size", type=positive, help="per process, instead of the recipe's")
    parser.add_argument("--learning-rate", type=float, help="instead of the recipe's")
    parser.add_argument("--report-to", help="a tracker that transformers knows")
    parser.add_argument("--resume", action="store_true", help="go on from the last saved state")


def _train(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from onesearch.pipeline.recipe import load_recipe
    from onesearch.trainers.training import train_run

    plan = load_recipe(options.recipe).training
    given = {
        "num_train_epochs": options.epochs,
        "per_device_train_batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "report_to": options.report_to,
    }
    plan = replace(plan, arguments={**plan.arguments, **{key: value for key, value in given.items() if value is not None}})
    train_run(RunFolder(options.run), plan, resume=options.resume)
