"""How many functions of the package a reader passes: of one query from `Searcher.search` to its hits, of one session row to its loss.

Distinct functions that run are counted by `sys.setprofile`; comprehensions and lambdas count as part of the function around them, and
compiled kernels do not show. `BENCHMARK_LIST=1` prints the functions too, grouped by file.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from harness import Report

import onesearch

PACKAGE = Path(onesearch.__file__).parent
ROW_TO_LOSS = frozenset({"mixed_examples", "_BaseDataLoaderIter.__next__", "Trainer.training_step"})
"""What happens to a row: it becomes an example, examples become a batch, a batch gives a loss. The rest of a training loads and saves."""

QUERY = "red shoe"


def functions_of(call: Callable[[], object], within: frozenset[str] = frozenset()) -> dict[str, set[str]]:
    """File → names of the package's functions that run during `call`; with `within` only while a function of these names runs."""
    codes = set()
    depth = 0

    def note(frame, event, _):
        nonlocal depth
        code = frame.f_code
        if event in ("call", "return") and code.co_qualname in within:
            depth += 1 if event == "call" else -1
        if event == "call" and (depth or not within):
            codes.add(code)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    found: dict[str, set[str]] = {}
    for code in codes:
        file = Path(code.co_filename)
        if file.is_file() and file.is_relative_to(PACKAGE) and code.co_name[0] != "<":
            found.setdefault(str(file.relative_to(PACKAGE)), set()).add(code.co_qualname)
    return found


def report_hops(report: Report, way: str, found: dict[str, set[str]]) -> None:
    report.add(way=way, functions=sum(map(len, found.values())), files=len(found))
    if os.environ.get("BENCHMARK_LIST"):
        for file, names in sorted(found.items()):
            print(f"  {file} ({len(names)}): {', '.join(sorted(names))}")


@pytest.mark.slow
def test_hops(shared_searcher, run):
    history = shared_searcher.model.sid_index.item_ids[:5]

    def search():
        return shared_searcher.search(QUERY, history=history, top_k=5)

    assert len(search()) == 5
    with Report("hops", "Functions of the package that run") as report:
        report_hops(report, "one query to its hits, second call", functions_of(search))
        report_hops(report, "session rows to their loss", functions_of(lambda: train(run), ROW_TO_LOSS))
        report_hops(report, "a training of two steps in all", functions_of(lambda: train(run)))


def train(run) -> None:
    """Two steps of the last stage, from the run's tables to a checkpoint."""
    from onesearch.pipeline.recipe import load_recipe
    from onesearch.trainers.training import train_run

    config = load_recipe(run.root / "recipe.yaml").training
    for folder in (run.training, run.checkpoint):
        shutil.rmtree(folder, ignore_errors=True)
    arguments = {**config.arguments, "eval_strategy": "no", "save_strategy": "no", "max_steps": 2}
    train_run(run, replace(config, stages=config.stages[-1:], arguments=arguments), progress=False)
