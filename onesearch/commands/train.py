"""`onesearch train`: train the model of a run."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from onesearch.extras import require
from onesearch.files import RunFolder

from .arguments import Commands, add_command, add_run_folder, given, positive, positive_number, quiet_libraries

if TYPE_CHECKING:
    from onesearch.pipeline.market_facts import MarketFacts
    from onesearch.pipeline.recipe import Recipe

TRAINED = ("targets", "teacher", "best weights", "training", "model", "prompt")
"""First words of the reasons that concern the training."""

NO_TEACHER = (
    "teacher: none, as one process trains a teacher before several train the generator; `onesearch run` and `onesearch new` start both in "
    "this order"
)
"""In place of the reason for a teacher, under torchrun."""


def add(commands: Commands) -> None:
    """Add `train` to the command line."""
    text = "train on a run's market and SIDs; `torchrun -m onesearch.cli train …` trains with several processes"
    parser = add_command(commands, "train", _train, text)
    add_run_folder(parser)
    parser.add_argument(
        "--recipe",
        help="recipe whose `training` and `search` parts are used; `auto` chooses them by the market (default: the run's own recipe.yaml, "
        "or `auto` without one)",
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

    from onesearch.data.market import Market
    from onesearch.pipeline.closing import places
    from onesearch.pipeline.market_facts import MarketFacts
    from onesearch.pipeline.preconditions import possible, say_left_out
    from onesearch.pipeline.processes import leave_group
    from onesearch.pipeline.run_lock import HELD, writing
    from onesearch.trainers.training import train_run

    quiet_libraries()
    run = RunFolder(options.run)
    market = Market.load(run.require("market", "onesearch data"))
    facts = MarketFacts.of(market)
    recipe = _recipe(options, run, facts)
    flags = given(
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        report_to=options.report_to,
    )
    config = replace(recipe.training, arguments={**recipe.training.arguments, **flags})
    say_left_out(possible(replace(recipe, training=config, alignment=None), facts, run).left_out)
    with writing(run, "onesearch train"):
        train_run(run, config, recipe.search, resume=options.resume, overwrite=options.overwrite)
    leave_group()
    if _is_first() and HELD not in os.environ:  # else another command, which started this one, goes on
        print(f"\n{places(run, market)}", flush=True)


def _is_first() -> bool:
    """Whether this is the first process of torchrun, which alone prints."""
    return os.environ.get("RANK", "0") == "0"


def _recipe(options: argparse.Namespace, run: RunFolder, facts: MarketFacts) -> Recipe:
    """The recipe that the flag names, else the run's own, else one that is chosen by the market."""
    from dataclasses import replace

    from onesearch.pipeline.auto_recipe import AUTO, auto_recipe
    from onesearch.pipeline.recipe import load_recipe, run_recipe_of

    own = run_recipe_of(run) if options.recipe is None else None
    if own is not None:
        return own
    if options.recipe not in (None, AUTO):
        return load_recipe(options.recipe)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = auto_recipe(facts, AUTO, processes=processes)
    training = chosen.recipe.training
    lines = [reason for reason in chosen.reasons if reason.startswith(TRAINED)]
    if processes > 1 and training.soft_targets is not None:  # one process alone can train a teacher
        training = replace(training, soft_targets=None)
        lines = [NO_TEACHER if line.startswith("teacher") else line for line in lines]
    if _is_first():
        print("\n".join(f"* {line}" for line in lines), flush=True)
    return replace(chosen.recipe, training=training)
