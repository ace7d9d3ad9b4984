"""`onesearch study`: variants of a recipe, measured with several seeds."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .arguments import Commands, add_command


def add(commands: Commands) -> None:
    """Add `study` to the command line."""
    parser = add_command(commands, "study", _study, "measure variants of a recipe, with several seeds and intervals")
    parser.add_argument("study", type=Path, help="a .yaml file; onesearch/pipeline/study.py describes its keys")
    parser.add_argument("--runs", type=Path, help="folder of the runs (default: runs/NAME); a stopped study continues there")
    parser.add_argument("--source", help="source of the base recipe's importer, instead of the recipe's own")


def _study(options: argparse.Namespace) -> None:
    from onesearch.pipeline.study import load_study
    from onesearch.pipeline.study_cells import run_study
    from onesearch.pipeline.study_summary import to_table

    study = load_study(options.study)
    runs = options.runs or Path("runs") / study.name
    print(to_table(run_study(study, runs, options.source, progress=sys.stderr.isatty())))
