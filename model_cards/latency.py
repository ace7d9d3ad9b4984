"""The time of single searches, with the hardware on which it was measured: ``evaluation/latency.json``.

The file (schema 1)::

    {"schema": 1, "search": {field of `SearchConfig`: value}, "requests": int, "seed": 0,
     "hardware": {"processor": str, "cores": int, "threads": int, "device": str, "system": str,
                  "python": str, "torch": str, "transformers": str, "onesearch": str},
     "arms": {name: {"median_ms": float, "p95_ms": float, "cpu_ms": float}}}

A report of an evaluation has mean times of whole batches; a user waits for one search.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import Request, build_requests
from onesearch.evaluation.evaluator import sample_requests
from onesearch.evaluation.reports import METRICS_NAME, load_report
from onesearch.files import RunFolder, read_json, write_json

from .arms import arm_settings, model_arms

if TYPE_CHECKING:
    from onesearch.serving.searcher import Searcher

LATENCY_NAME = "latency.json"
"""File of the measured times, beside the report."""

SCHEMA = 1
"""Version of the format of ``latency.json``."""

WARM_UP = 3
"""Searches before the clock starts: the first ones make tables that later ones read."""

NOT_MEASURED = "Not measured. `onesearch push` measures it."


def measure_latency(run: RunFolder, requests: int = 50) -> Path:
    """Time single searches of the arms in a run's report, each with its own settings, and write ``evaluation/latency.json``.

    Args:
        run: run folder with a market, a checkpoint and an evaluation.
        requests: number of requests of the report's split (seed 0). More take more time and make the percentiles less noisy.

    Returns:
        Path of the file.

    Raises:
        FileNotFoundError: an earlier stage of the run is missing.
        ValueError: the split has no request.
    """
    from onesearch.serving.searcher import Searcher

    report = load_report(run.require("evaluation", "onesearch evaluate"))
    own = build_requests(Market.load(run.require("market", "onesearch data")), report.split)
    own = [request for request in own if request.query.strip()]
    if not own:
        raise ValueError(f"the {report.split} split has no request with a query, so that no search can be timed")
    drawn, _ = sample_requests(own, min(requests, len(own)))
    settings = report.settings.get("search", {})
    searcher = Searcher.from_pretrained(run.require("checkpoint", "onesearch train"), **settings)
    settings = settings or asdict(searcher.config)
    arms = {}
    for name in model_arms(report):
        arms[name] = _times(searcher.arm(name, **arm_settings(name, searcher.config)), drawn)
    found = {"schema": SCHEMA, "search": settings, "requests": len(drawn), "seed": 0, "hardware": hardware(), "arms": arms}
    write_json(run.evaluation / LATENCY_NAME, found)
    return run.evaluation / LATENCY_NAME


def _times(searcher: Searcher, requests: Sequence[Request]) -> dict[str, float]:
    """Milliseconds of one search of ten hits."""
    wall, cpu = [], []
    for request in [*requests[:WARM_UP], *requests]:
        start = time.perf_counter(), time.process_time()
        searcher.search(request.query, request.history, top_k=10, context=request.context)
        wall.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    wall, cpu = wall[-len(requests) :], cpu[-len(requests) :]
    found = {"median_ms": np.median(wall), "p95_ms": np.percentile(wall, 95), "cpu_ms": np.median(cpu)}
    return {name: round(1000 * float(value), 2) for name, value in found.items()}


def hardware() -> dict[str, Any]:
    """Processor, threads and versions that times depend on."""
    import torch

    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "device": "cpu",
        "system": platform.system(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "onesearch")},
    }


def _processor() -> str:
    """Name of the processor."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def latency_is_current(run: RunFolder) -> bool:
    """Whether the times of a run were measured with the settings of its report, for the same arms."""
    path = run.evaluation / LATENCY_NAME
    if not path.is_file() or not (run.evaluation / METRICS_NAME).is_file():
        return False
    found, report = read_json(path), load_report(run.evaluation)
    settings = report.settings.get("search", found.get("search"))
    return _known(found) and found["search"] == settings and list(found["arms"]) == model_arms(report)


def latency_table(run: RunFolder) -> str:
    """Markdown about the measured times; one sentence where there are none of the report's settings."""
    if not latency_is_current(run):
        return NOT_MEASURED
    found = read_json(run.evaluation / LATENCY_NAME)
    own = found["hardware"]
    threads = f"{own['threads']} thread{'s' if own['threads'] > 1 else ''}"
    measured = (
        f"Single searches of ten hits, {found['requests']} requests, {own['processor']}, {threads} of {own['cores']} cores, no GPU; "
        f"Python {own['python']}, torch {own['torch']}, transformers {own['transformers']}, onesearch {own['onesearch']}."
    )
    lines = [
        measured,
        "",
        "| retriever | median, ms | 95th percentile, ms | CPU, ms |",
        "|---|---|---|---|",
        *(
            f"| {name} | {row['median_ms']:.2f} | {row['p95_ms']:.2f} | {row['cpu_ms']:.2f} |"
            for name, row in found["arms"].items()
        ),
    ]
    cost = reranking_cost(found["arms"])
    return "\n".join([*lines, "", cost] if cost else lines)


def reranking_cost(arms: Mapping[str, Mapping[str, float]]) -> str | None:
    """What re-ranking adds to the generator's search, as a sentence; None without a reward model."""
    plain, reranked = arms.get("onesearch"), arms.get("onesearch_reward")
    if plain is None or reranked is None:
        return None
    whole, added = reranked["cpu_ms"], reranked["cpu_ms"] - plain["cpu_ms"]
    return f"The reward model takes {added:.2f} ms of a search's {whole:.2f} ms of CPU time ({added / whole:.0%})."


def _known(found: Mapping[str, Any]) -> bool:
    return found.get("schema") == SCHEMA


__all__ = ["LATENCY_NAME", "hardware", "latency_is_current", "latency_table", "measure_latency", "reranking_cost"]
