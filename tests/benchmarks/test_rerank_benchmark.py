"""The cost of re-ranking: CPU time of a search with the reward model and without it, at the sizes of the demo.

The models are trained for two steps only: their weights change nothing in the cost. `BENCHMARK_RUN=runs/demo` measures a finished run.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from harness import Report, alternate, sized

from onesearch import Searcher
from onesearch.data.market import Market
from onesearch.data.requests import build_requests
from onesearch.files import RunFolder


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A run with the demo's sizes."""
    if "BENCHMARK_RUN" in os.environ:
        return RunFolder(Path(os.environ["BENCHMARK_RUN"]))
    from onesearch.pipeline.recipe import load_recipe
    from onesearch.pipeline.run import run_recipe

    recipe = load_recipe("demo")
    training, arguments = recipe.training, {"max_steps": 2, "eval_strategy": "no", "save_strategy": "no"}
    recipe = replace(
        recipe,
        alignment=None,
        processes=1,
        training=replace(training, arguments={**training.arguments, **arguments}),
        reward=replace(recipe.reward, epochs=1, warm_up=0.9, searches=20, text_index=False),
        evaluation=replace(recipe.evaluation, sample=2, tune_cascade=False, sasrec=False),
    )
    run = RunFolder(tmp_path_factory.mktemp("rerank") / "demo")
    run_recipe(recipe, run, progress=False)
    return run


@pytest.mark.slow
def test_cost_of_reranking(demo):
    requests = build_requests(Market.load(demo.market), "test")[: sized(100, 500)]
    with Report(
        "rerank", "CPU time of a single search, and the share that re-ranking has in it (target: at most 0.25)"
    ) as report:
        for beams in sized((50,), (10, 50, 100)):
            searcher = Searcher.from_pretrained(demo.checkpoint, num_beams=beams)

            def search(rerank, searcher=searcher):
                found = [searcher.search(r.query, r.history, context=r.context, rerank=rerank) for r in requests]
                assert all(found)

            sides = alternate({"generator": lambda: search(False), "reranked": lambda: search(True)}, rounds=sized(5, 9))
            plain, ranked = (sides[name].cpu / len(requests) for name in ("generator", "reranked"))
            report.add(beams=beams, generator_ms=1000 * plain, reranked_ms=1000 * ranked, share=(ranked - plain) / ranked)
