"""`onesearch study`: variants of a recipe, measured with several seeds."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from .arguments import add_command


def add(commands: Any) -> None:
    """Add `study` to the command line."""
    parser = add_command(commands, "study", _study, "measure variants of a recipe, with several seeds and intervals")
    parser.add_argument("study", type=Path, help="a .yaml file; see onesearch/pipeline/study.py")
    parser.add_argument("--runs", type=Path, help="folder of the runs (default: runs/NAME); a stopped study goes on there")
    parser.add_argument("--source", help="where the base recipe's importer reads from")


def _study(options: argparse.Namespace) -> None:
    from onesearch.pipeline.study import load_study
    from onesearch.pipeline.study_cells import run_study
    from onesearch.pipeline.study_summary import to_table

    study = load_study(options.study)
    runs = options.runs or Path("runs") / study.name
    print(to_table(run_study(study, runs, options.source, progress=sys.stderr.isatty())))
