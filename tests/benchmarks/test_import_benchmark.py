"""What importing costs: CPU seconds and modules of fresh processes, for the package and for short commands.

`BENCHMARK_BEFORE=FOLDER` measures another installation beside this one (`pip install --no-deps --target FOLDER CLONE` makes one).
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from harness import Report, sized

ROOT = Path(__file__).parents[2]
ROUNDS = sized(3, 11)

STATEMENTS = {
    "import onesearch": "import onesearch",
    "onesearch --help": "from onesearch.cli import main; main(['--help'])",
    "onesearch info": "from onesearch.cli import main; main(['info'])",
    "onesearch data tables --help": "from onesearch.cli import main; main(['data', 'tables', '--help'])",
    "onesearch data tables": "from onesearch.cli import main; main(['data', 'tables', files, out])",
    "onesearch data simulate": "from onesearch.cli import main; main(['data', 'simulate', out, '--items', '100', '--sessions', '100'])",
    "from onesearch import Searcher": "from onesearch import Searcher",
    "import of torch and transformers alone": "import torch; from transformers import AutoModelForSeq2SeqLM",
}
"""What is measured; `files` is a folder with a table of items, `out` one that does not exist."""

PROGRAM = """
import atexit, json, sys
files, out = sys.argv[1:]
atexit.register(lambda: print(json.dumps([len(sys.modules), "torch" in sys.modules, "trl" in sys.modules])))
{}
"""


def measure(statement: str, site: Path, folder: Path, number: int) -> tuple[float, int, bool, bool]:
    """CPU seconds, modules at the end, and whether torch and TRL are among them, of one fresh process."""
    arguments = [str(folder / "files"), str(folder / f"out-{number}")]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(statement), *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env=environment,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, *json.loads(finished.stdout.splitlines()[-1])


@pytest.mark.slow
def test_what_importing_costs(tmp_path):
    (tmp_path / "files").mkdir()
    rows = [{"item_id": str(number), "title": f"red shoe {number}"} for number in range(450)]
    (tmp_path / "files" / "items.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    sites = {"now": ROOT}
    if "BENCHMARK_BEFORE" in os.environ:
        sites = {"before": Path(os.environ["BENCHMARK_BEFORE"]), **sites}
    numbers = iter(range(10_000))
    with Report(
        "imports", f"Imports: median CPU seconds of {ROUNDS} fresh processes after one, and modules at their end"
    ) as report:
        for name, statement in STATEMENTS.items():
            runs: dict[str, list] = {site: [] for site in sites}
            for _ in range(ROUNDS + 1):
                for site, path in sites.items():
                    runs[site].append(measure(statement, path, tmp_path, next(numbers)))
            for site, measured in runs.items():
                _, modules, torch, trl = measured[-1]
                seconds = statistics.median(run[0] for run in measured[1:])
                report.add(statement=name, installation=site, cpu_seconds=seconds, modules=modules, torch=torch, trl=trl)
