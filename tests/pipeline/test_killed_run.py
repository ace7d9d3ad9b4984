"""A run that is killed again and again ends like an uninterrupted one."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

from onesearch import RunFolder
from onesearch.files import read_json
from onesearch.pipeline.recipe import save_recipe


@pytest.mark.slow
def test_a_run_killed_at_any_time_resumes_to_the_same_checkpoint(shared_run, recipe, tmp_path):
    """SIGKILL at random times, at which any stage may be at work, then the same command once more."""
    save_recipe(recipe, tmp_path / "tiny.yaml")
    run = RunFolder(tmp_path / "run")
    command = [sys.executable, "-m", "onesearch.cli", "run", "--recipe", str(tmp_path / "tiny.yaml"), "--run", str(run.root)]
    draw = random.Random(0)
    for _ in range(8):
        process = subprocess.Popen([*command, "--resume"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(draw.uniform(4, 20))
        if process.poll() is None:
            process.kill()
            assert process.wait() == -signal.SIGKILL
    subprocess.run([*command, "--resume"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for part in ("market/sessions.parquet", "embeddings/items-00000.safetensors", "checkpoint/model.safetensors"):
        assert (run.root / part).read_bytes() == (shared_run.root / part).read_bytes(), part
    found, expected = (read_json(root / "evaluation" / "metrics.json")["retrievers"] for root in (run.root, shared_run.root))
    assert {name: part["targets"] for name, part in found.items()} == {name: part["targets"] for name, part in expected.items()}
    names = {path.name for path in run.root.iterdir()}
    assert names == {path.name for path in shared_run.root.iterdir()}, "something is left of the killed ones"
