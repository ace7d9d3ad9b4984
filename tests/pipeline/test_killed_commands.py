"""Commands that change the catalogue of a run are killed at every step and at random times: nothing is broken, and they can be repeated."""

from __future__ import annotations

import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_architecture import ROOT

from onesearch import SidIndex
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME

RANDOM_KILLS = 50
"""Kills of each command at random times."""


@pytest.mark.slow
def test_commands_killed_at_every_step_and_at_random_times_end_like_uninterrupted_ones(shared_run, market, tmp_path):
    """`sids append`, `items add` and `items remove`."""
    rows = market.items.with_format("arrow")[list(range(20))]
    pq.write_table(rows.set_column(0, "item_id", [[f"new-{row}" for row in range(20)]]), tmp_path / "new.parquet")
    codes = SidIndex.load(shared_run.checkpoint / SID_INDEX_NAME).codes[:50].tolist()
    names = [f"coded-{row}" for row in range(50)]
    paths = [["new", f"kind {row % 7}"] for row in range(50)]
    table = pa.table({"item_id": names, "codes": codes, "popularity": list(map(float, range(50))), "categories": paths})
    pq.write_table(table, tmp_path / "coded.parquet")
    command = [sys.executable, str(ROOT / "tests" / "killed_commands.py"), str(shared_run.root), str(tmp_path)]
    finished = subprocess.run(
        [*command, "--times", str(RANDOM_KILLS)], capture_output=True, text=True, timeout=1800, cwd=tmp_path, check=False
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    counts = json.loads(finished.stdout.splitlines()[-1])
    print(counts)
    assert all(found["times"] == RANDOM_KILLS for found in counts.values())
    assert counts["append"]["steps"] >= 30 and counts["add"]["steps"] >= 10 and counts["remove"]["steps"] >= 10
    assert sum(found["steps"] + found["times"] for found in counts.values()) >= 200
