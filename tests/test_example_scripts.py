"""The scripts in `examples/` run as printed, in a folder whose `runs/demo` is a finished run."""

from __future__ import annotations

import runpy
import shutil

import pytest
from test_architecture import ROOT

EXAMPLES = ROOT / "examples"

PRINTED = {
    "search.py": "settings of this checkpoint",
    "own_catalogue.py": "sku-",
    "fine_tune.py": "[",
    "filters_and_updates.py": "after a removal",
    "own_baseline.py": "bought-after-query",
}
"""Each script, and what its output must contain."""


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_an_example_runs(name, shared_run, tmp_path, monkeypatch, capsys):
    shutil.copytree(shared_run.root, tmp_path / "runs" / "demo")
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(tmp_path / "examples" / name), run_name="__main__")
    assert PRINTED[name] in capsys.readouterr().out
