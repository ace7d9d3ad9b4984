"""Results for the Hub's leaderboards: the values of the report, for tasks that the benchmark has, of the benchmark's market alone."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from huggingface_hub import parse_eval_result_entries

from onesearch.data.importers.amazon import QUERIES
from onesearch.evaluation.reports import Report
from onesearch.model_cards.eval_results import BENCHMARKS, eval_result_files, read_benchmark
from onesearch.simulator.config import SimulatorConfig

DEMO = {"config": asdict(SimulatorConfig(items=2000, seed=0).resolved())}
BEAUTY = {"rows": {"items": 12_101, "users": 22_363}, "queries": QUERIES["category"]}


def estimates(value):
    return {
        metric: {"value": value, "low": value - 0.1, "high": value + 0.1} for metric in ("HR@5", "HR@10", "MRR@10", "NDCG@10")
    }


def report(market, kinds=("purchase", "click")):
    retrievers = {
        name: {"targets": {kind: {"item": estimates(value + 0.01 * row)} for row, kind in enumerate(kinds)}}
        for name, value in {"onesearch": 0.3, "onesearch_reward": 0.6, "bm25": 0.2}.items()
    }
    return Report(market=market, split="test", reference="onesearch_reward", retrievers=retrievers)


@pytest.mark.parametrize(
    ("name", "info", "kinds"), [("simulated", DEMO, ("purchase", "click")), ("amazon-beauty", BEAUTY, ("purchase",))]
)
def test_the_values_are_those_of_the_report_and_the_tasks_those_of_the_benchmark(name, info, kinds):
    files = eval_result_files(report(name, kinds), info)
    benchmark = BENCHMARKS[name]
    stem = f"onesearch-{benchmark.file.removesuffix('.yaml')}"
    assert list(files) == [f"{stem}-onesearch.yaml", f"{stem}.yaml"], "one file for each arm of the model, none for a baseline"
    tasks = read_benchmark(benchmark)
    assert {"name", "description", "evaluation_framework", "tasks"} == set(tasks)
    assert all(set(task) == {"id", "config", "split"} for task in tasks["tasks"])
    for file, value, notes in ((f"{stem}.yaml", 0.6, None), (f"{stem}-onesearch.yaml", 0.3, "the generator alone")):
        entries = parse_eval_result_entries(files[file])
        assert [entry.task_id for entry in entries] == [task["id"] for task in tasks["tasks"]]
        assert {entry.dataset_id for entry in entries} == {benchmark.dataset_id} and {entry.notes for entry in entries} == {
            notes
        }
        assert {entry.task_id: entry.value for entry in entries}["purchase_hr_at_10"] == value
        if "click" in kinds:
            assert {entry.task_id: entry.value for entry in entries}["click_mrr_at_10"] == round(value + 0.01, 4)


def test_another_market_or_a_sample_has_no_place_on_a_leaderboard():
    full = report("simulated")
    assert eval_result_files(full, DEMO)
    assert not eval_result_files(full, {"config": asdict(SimulatorConfig(items=450, seed=3).resolved())})
    assert not eval_result_files(replace(full, sample={"count": 40, "of": 90, "seed": 0}), DEMO)
    assert eval_result_files(replace(full, sample={"count": 90, "of": 90, "seed": 0}), DEMO)
    assert not eval_result_files(replace(full, split="validation"), DEMO)
    assert not eval_result_files(report("my shop"), DEMO)
