"""`onesearch demo` and `onesearch run`: every stage of a recipe in one folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from onesearch.files import RunFolder, read_json

from .arguments import Commands, add_command, quiet_libraries

if TYPE_CHECKING:
    from onesearch.evaluation.reports import Report
    from onesearch.pipeline.recipe import Recipe


def add_demo(commands: Commands) -> None:
    """Add `demo` to the command line."""
    parser = add_command(commands, "demo", _demo, "simulate a market, train on it, measure beside the baselines and search")
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="folder of the run (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="continue a stopped demo")


def add_run(commands: Commands) -> None:
    """Add `run` to the command line."""
    parser = add_command(commands, "run", _run, "run every stage of a recipe in one folder")
    parser.add_argument("--recipe", required=True, help="name of a shipped recipe, or a .yaml file")
    parser.add_argument("--run", type=Path, help="folder of the run (default: runs/RECIPE)")
    parser.add_argument("--source", help="source of the recipe's importer, instead of the recipe's own")
    parser.add_argument("--resume", action="store_true", help="continue a stopped run")


def _demo(options: argparse.Namespace) -> None:
    from onesearch.pipeline.recipe import load_recipe

    run = RunFolder(options.run)
    report = _run_and_print(load_recipe("demo"), run, options.resume, title="demo")
    _print_oracle(report, run)
    _print_closing(run)


def _run(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from onesearch.pipeline.recipe import load_recipe

    recipe = load_recipe(options.recipe)
    if options.source is not None:
        recipe = replace(recipe, market=replace(recipe.market, source=options.source))
    run = RunFolder(options.run or Path("runs") / recipe.name)
    _run_and_print(recipe, run, options.resume, title=recipe.name)
    _print_closing(run)


def _run_and_print(recipe: Recipe, run: RunFolder, resume: bool, title: str) -> Report:
    from onesearch.pipeline.run import run_recipe

    def show(report: Report) -> None:
        print(f"\n{title}: {run.root}\n\n{report.to_table()}", flush=True)

    quiet_libraries()
    return run_recipe(recipe, run, resume=resume, show=show)


def _print_oracle(report: Report, run: RunFolder) -> None:
    """HR@10 of the checkpoint's own search as a share of the best that any model could reach, if the simulation measured that."""
    oracle = read_json(run.market / "market.json").get("oracle", {}).get("purchase", {}).get("HR@10")
    if oracle:
        measured = report.value(report.reference or "onesearch", "HR@10")
        best = f"the best that any model could reach is {oracle:.3f}"
        print(f"purchase HR@10 {measured:.3f}; {best}; share of it: {100 * measured / oracle:.0f} %")


def _print_closing(run: RunFolder) -> None:
    """Where the parts of the run are, what to type next, and a search."""
    from onesearch.data.market import Market
    from onesearch.pipeline.closing import closing

    print(f"\n{closing(run, Market.load(run.market))}")
