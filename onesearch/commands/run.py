"""`onesearch demo` and `onesearch run`: every stage of a recipe in one folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from onesearch.files import RunFolder, read_json

from .arguments import add_command


def add_demo(commands: Any) -> None:
    """Add `demo` to the command line."""
    parser = add_command(commands, "demo", _demo, "simulate a market, train on it, evaluate beside baselines and search")
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="folder of the run (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="continue a stopped demo")


def _demo(options: argparse.Namespace) -> None:
    from onesearch.pipeline.recipe import load_recipe

    _run_and_print("demo", load_recipe("demo"), options)
    run = RunFolder(options.run)
    _print_oracle(run)
    _print_example(run)


def add_run(commands: Any) -> None:
    """Add `run` to the command line."""
    parser = add_command(commands, "run", _run, "go the whole road of a recipe in one folder")
    parser.add_argument("--recipe", required=True, help="name of a shipped recipe, or a .yaml file")
    parser.add_argument("--run", type=Path, help="folder of the run (default: runs/RECIPE)")
    parser.add_argument("--source", help="where the recipe's importer reads from, instead of the recipe's own")
    parser.add_argument("--resume", action="store_true", help="continue a stopped run")


def _run(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from onesearch.pipeline.recipe import load_recipe

    recipe = load_recipe(options.recipe)
    if options.source is not None:
        recipe = replace(recipe, market=replace(recipe.market, source=options.source))
    options.run = options.run or Path("runs") / recipe.name
    _run_and_print(recipe.name, recipe, options)


def _run_and_print(name: str, recipe: Any, options: argparse.Namespace) -> None:
    from onesearch.pipeline.run import run_recipe

    report = run_recipe(recipe, RunFolder(options.run), resume=options.resume)
    print(f"\n{name}: {options.run}\n\n{report.to_table()}")


def _print_oracle(run: RunFolder) -> None:
    oracle = read_json(run.market / "market.json").get("oracle", {}).get("purchase", {}).get("HR@10")
    measured = read_json(run.evaluation / "metrics.json")["retrievers"]["onesearch"]["targets"]["purchase"]["item"]["HR@10"][
        "value"
    ]
    if oracle:
        print(
            f"purchase HR@10 {measured:.3f}; the best any model could reach is {oracle:.3f}; share of it: {100 * measured / oracle:.0f} %"
        )


def _print_example(run: RunFolder) -> None:
    from onesearch.data.market import Market
    from onesearch.data.requests import build_requests
    from onesearch.serving.searcher import Searcher

    market = Market.load(run.market)
    request = next(request for request in reversed(build_requests(market, "test")) if request.history and request.purchased)
    titles = dict(zip(market.items.data.column("item_id").to_pylist(), market.items.data.column("title").to_pylist()))
    print(f'\nsearch: "{request.query}", after {len(request.history)} items, the last: {titles[request.history[-1]]}')
    searcher = Searcher.from_pretrained(run.checkpoint)
    for rank, hit in enumerate(searcher.search(request.query, request.history, top_k=5, context=request.context), start=1):
        bought = "  ← was bought" if hit.item_id in request.purchased else ""
        print(f"{rank}. {hit.score:6.2f}  {searcher.tokenizer.sid_string(hit.sid)}  {titles[hit.item_id]}{bought}")
