"""Data and simulator work without torch and transformers, in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "tokenizers", "sentence_transformers", "scipy", "sklearn")


def heavy_modules_after(code: str) -> list[str]:
    """Heavy libraries that a fresh process has imported once it has run `code`."""
    tail = f"\nimport json, sys\nprint(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code + tail], check=True, capture_output=True, text=True, cwd=ROOT)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("folder", ["data", "simulator"])
def test_no_module_imports_a_heavy_library(folder):
    paths = (ROOT / "onesearch" / folder).rglob("*.py")
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in paths]
    assert len(modules) > 10
    assert heavy_modules_after("\n".join(f"import {module}" for module in modules)) == []


def test_importing_own_tables_does_not_import_a_heavy_library(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "items.jsonl").write_text('{"item_id": 1, "title": "red dress"}\n')
    command = ["data", "tables", str(tmp_path / "own"), str(tmp_path / "market")]
    assert heavy_modules_after(f"from onesearch.cli import main\nassert main({command!r}) == 0") == []
    assert (tmp_path / "market" / "items.parquet").is_file()


def test_the_process_would_notice():
    assert heavy_modules_after("import scipy") == ["scipy"]
