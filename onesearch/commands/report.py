"""`onesearch report`: one HTML file with everything that a run has measured."""

from __future__ import annotations

import argparse
from pathlib import Path

from onesearch.files import RunFolder

from .arguments import Commands, add_command, add_run_folder


def add(commands: Commands) -> None:
    """Add `report` to the command line."""
    parser = add_command(
        commands, "report", _report, "write training curves, codes, arms and calibration of a run as one HTML file"
    )
    add_run_folder(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="file to write (default: report.html in the run)")


def _report(options: argparse.Namespace) -> None:
    from onesearch.model_cards.report_page import write_report

    print(write_report(RunFolder(options.run), options.output))
