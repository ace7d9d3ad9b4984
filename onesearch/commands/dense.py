"""`onesearch dense`: make the dense index of a run's checkpoint, whose cosines become a term of the hits' score."""

from __future__ import annotations

import argparse

from onesearch.extras import require
from onesearch.files import RunFolder

from .arguments import Commands, add_command, add_run_folder, quiet_libraries


def add(commands: Commands) -> None:
    """Add `dense` to the command line."""
    text = (
        "make the dense index of a run's checkpoint: vectors of its items, a projection that is learned from training searches, and the "
        "weight of the cosine in the order of the hits, which is chosen on validation searches"
    )
    parser = add_command(commands, "dense", _dense, text)
    add_run_folder(parser)
    parser.add_argument(
        "--recipe", help="recipe whose `dense` part is used (default: the run's own recipe.yaml, or the defaults without one)"
    )


def _dense(options: argparse.Namespace) -> None:
    require("train", needed_by="onesearch dense")
    from onesearch.pipeline.recipe import run_recipe_of
    from onesearch.pipeline.run_lock import writing
    from onesearch.trainers.dense.dense_config import DenseConfig
    from onesearch.trainers.dense.training import train_dense_run

    quiet_libraries()
    run = RunFolder(options.run)
    recipe = run_recipe_of(run, options.recipe)
    config = None if recipe is None else recipe.dense
    run.require("checkpoint", "onesearch train")
    with writing(run, "onesearch dense"):
        search = train_dense_run(run, config or DenseConfig())
    print(f"searches rank by log p + {search.dense_weight:g} cos now, candidates: {search.candidates}")
