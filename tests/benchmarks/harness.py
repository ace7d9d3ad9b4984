"""Runs the sides of a comparison in turn in one process, prints a table and keeps the numbers as JSON. Nothing is asserted on time.

Time is CPU time of the process, so that other work on the machine counts little. `BENCHMARKS=all` (`make benchmark-all`) runs every
size; without it a set of under two minutes runs, written to a folder of its own.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import torch

from onesearch.files import write_json

FULL = os.environ.get("BENCHMARKS") == "all"
"""Whether every size runs."""

FOLDER = Path("runs") / "benchmarks" if FULL else Path("runs") / "benchmarks" / "quick"

SLOW = 5.0
"""A side whose first run takes more CPU seconds than this needs no warm-up: that run counts."""

T = TypeVar("T")


def sized(quick: T, full: T) -> T:
    """The sizes of this run."""
    return full if FULL else quick


@dataclass(frozen=True)
class Timing:
    """Medians of one side.

    Args:
        cpu, wall: seconds.
        runs: how many runs the medians are of.
        result: what the last run returned.
    """

    cpu: float
    wall: float
    runs: int
    result: object


def alternate(
    sides: Mapping[str, Callable[[], object]],
    rounds: int = 5,
    budget: float = 20.0,
    before: Callable[[], object] | None = None,
) -> dict[str, Timing]:
    """Run all sides in turn, `rounds` times after one warm-up each.

    Args:
        budget: a side that has spent this many CPU seconds takes no further part; at least one run of it counts.
        before: called before every run, outside the time.
    """
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    results: dict[str, object] = {}
    for turn in range(rounds + 1):
        for name, run in sides.items():
            if spent[name] and sum(cpu for cpu, _ in spent[name]) > budget:
                continue
            if before is not None:
                before()
            cpu, wall = time.process_time(), time.perf_counter()
            results[name] = run()
            spent[name].append((time.process_time() - cpu, time.perf_counter() - wall))
            if turn == 0 and spent[name][0][0] < SLOW:
                spent[name].clear()
    return {
        name: Timing(*(statistics.median(column) for column in zip(*runs)), len(runs), results[name])
        for name, runs in spent.items()
    }


class Report:
    """A table that is printed row by row and written when the `with` block ends, also when it ends early.

    Args:
        name: of the JSON file in `runs/benchmarks/`.
        about: one line that says what was measured.
    """

    def __init__(self, name: str, about: str):
        self.name, self.about = name, about
        self.rows: list[dict[str, object]] = []

    def __enter__(self) -> Report:
        print(f"\n{self.about}")
        return self

    def __exit__(self, *_: object) -> None:
        write_json(FOLDER / f"{self.name}.json", {"about": self.about, "environment": environment(), "rows": self.rows})

    def add(self, **row: object) -> None:
        """One row; the header is printed whenever the columns differ from the row's before."""
        if not self.rows or list(self.rows[-1]) != list(row):
            print(f"\n| {' | '.join(row)} |\n|{'---|' * len(row)}")
        self.rows.append(row)
        print(f"| {' | '.join(_shown(value) for value in row.values())} |", flush=True)


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def environment() -> dict[str, object]:
    """What the numbers depend on beside the code."""
    names = ("numba", "numpy", "safetensors", "torch", "transformers")
    cpuinfo = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True)
    return {
        "commit": commit.stdout.strip(),
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "threads": torch.get_num_threads(),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


def in_fresh_process(task: str, *arguments: object) -> dict[str, float]:
    """What `fresh_process.py` measures in a process of its own, where memory is that of the task alone."""
    script = Path(__file__).with_name("fresh_process.py")
    command = [sys.executable, str(script), task, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(finished.stdout.splitlines()[-1])
