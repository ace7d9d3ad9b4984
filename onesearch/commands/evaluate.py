"""`onesearch evaluate`: measure the checkpoint of a run."""

from __future__ import annotations

import argparse
from typing import Any

from onesearch.files import RunFolder

from .arguments import add_command, add_run_folder, positive


def add(commands: Any) -> None:
    """Add `evaluate` to the command line."""
    parser = add_command(commands, "evaluate", _evaluate, "measure a run's checkpoint beside the baselines")
    add_run_folder(parser)
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--sample", type=positive, help="so many requests, drawn with seed 0 (default: all)")
    parser.add_argument("--beams", type=positive, default=50, help="beams of the search (default: %(default)s)")
    parser.add_argument("--exclude-history", action="store_true", help="never find an item of the user's own history")
    parser.add_argument(
        "--rank-by", choices=("sid", "item"), default="sid", help="probability of the SID, or of the item in it"
    )
    parser.add_argument("--no-baselines", action="store_true", help="the checkpoint alone")


def _evaluate(options: argparse.Namespace) -> None:
    from onesearch.pipeline.evaluation import evaluate_run
    from onesearch.pipeline.recipe import EvaluationConfig

    plan = EvaluationConfig(
        split=options.split,
        sample=options.sample,
        num_beams=options.beams,
        exclude_history=options.exclude_history,
        rank_by=options.rank_by,
    )
    print(evaluate_run(RunFolder(options.run), plan, baselines=not options.no_baselines).to_table())
