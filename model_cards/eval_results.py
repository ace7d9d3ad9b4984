"""Results in the Hub's format for leaderboards: `.eval_results/*.yaml` in a model's repository, `eval.yaml` in a benchmark's data set.

A value names the data set that it was measured on and one of the tasks in that data set's `eval.yaml`. Two benchmarks are known here: the
simulated market of the demo and Amazon Beauty. Their `eval.yaml` lies in ``benchmarks/``. The Hub shows a value once the data set exists
there and is a benchmark.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

from onesearch.evaluation.reports import Report, load_report
from onesearch.files import RunFolder, atomic_file, read_json

from .arms import ARM_TEXTS, model_arms, primary_arm
from .metadata import primary_estimates

FOLDER_NAME = ".eval_results"
"""Folder of a checkpoint that the Hub reads results from."""

PREFIX = "onesearch-"
"""Beginning of the names of this package's files in that folder; files of others stay."""


class Benchmark(NamedTuple):
    """A benchmark on the Hub.

    Args:
        dataset_id: id of its data set.
        file: name of its `eval.yaml` among those that the package ships.
        is_market: says of the contents of a ``market.json`` whether it is the benchmark's market, with all of its rows.
    """

    dataset_id: str
    file: str
    is_market: Callable[[Mapping[str, Any]], bool]


def _is_simulated(info: Mapping[str, Any]) -> bool:
    from onesearch.simulator.config import SimulatorConfig

    return info.get("config") == asdict(SimulatorConfig(items=2000, seed=0).resolved())


def _is_beauty(info: Mapping[str, Any]) -> bool:
    from onesearch.data.importers.amazon import QUERIES

    rows = info.get("rows", {})
    return (rows.get("items"), rows.get("users"), info.get("queries")) == (12_101, 22_363, QUERIES["category"])


BENCHMARKS = {
    "simulated": Benchmark("onesearch/simulated-market", "simulated-market.yaml", _is_simulated),
    "amazon-beauty": Benchmark("onesearch/amazon-beauty", "amazon-beauty.yaml", _is_beauty),
}
"""Name of a market → its benchmark."""


def write_eval_results(run: RunFolder) -> list[Path]:
    """Write the results of a run as `.eval_results/onesearch-*.yaml` of its checkpoint, one file for each arm of the model.

    A market that is no known benchmark has none, and older files of this package are removed.

    Raises:
        ValueError: the report has another schema.
    """
    folder = run.checkpoint / FOLDER_NAME
    report = load_report(run.require("evaluation", "onesearch evaluate"))
    files = eval_result_files(report, read_json(run.require("market", "onesearch data") / "market.json"))
    if folder.is_dir():
        for path in folder.glob(f"{PREFIX}*.yaml"):
            if path.name not in files:
                path.unlink()
    for name, entries in files.items():
        with atomic_file(folder / name) as temporary:
            temporary.write_text(yaml.safe_dump(entries, sort_keys=False, allow_unicode=True), encoding="utf-8")
    if folder.is_dir() and not any(folder.iterdir()):
        shutil.rmtree(folder)
    return [folder / name for name in files]


def eval_result_files(report: Report, market: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Name of each file → its entries. The file without notes is that of the arm that searches by the settings of the report.

    Args:
        report: evaluation of a run.
        market: contents of the ``market.json`` of the run. Another market than a benchmark's, or a sample of its requests, has no results.
    """
    benchmark = BENCHMARKS.get(report.market)
    if benchmark is None or report.split != "test" or _is_sample(report) or not benchmark.is_market(market):
        return {}
    tasks = {task["id"] for task in read_benchmark(benchmark)["tasks"]}
    files = {}
    for arm in model_arms(report):
        is_primary = arm == primary_arm(report)
        values = primary_estimates(report, arm)
        notes = None if is_primary else ARM_TEXTS[arm]
        entries = [
            EvalResultEntry(benchmark.dataset_id, task, value, notes=notes) for task, value in values.items() if task in tasks
        ]
        stem = benchmark.file.removesuffix(".yaml")
        files[f"{PREFIX}{stem}{'' if is_primary else f'-{arm}'}.yaml"] = eval_result_entries_to_yaml(entries)
    return files


def _is_sample(report: Report) -> bool:
    return report.sample is not None and report.sample["count"] < report.sample["of"]


def read_benchmark(benchmark: Benchmark) -> dict[str, Any]:
    """The `eval.yaml` of a benchmark."""
    path = resources.files("onesearch.model_cards") / "benchmarks" / benchmark.file
    return yaml.safe_load(path.read_text(encoding="utf-8"))


__all__ = ["BENCHMARKS", "FOLDER_NAME", "Benchmark", "eval_result_files", "read_benchmark", "write_eval_results"]
