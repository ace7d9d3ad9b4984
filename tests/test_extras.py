"""A missing extra ends in one line that says what to install."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from onesearch.extras import MODULES, MissingExtraError, require

SETUP = (Path(__file__).parent.parent / "setup.py").read_text(encoding="utf-8")


def test_installed_modules_pass():
    require("evaluation", "json", "numpy", needed_by="this test")


def test_missing_modules_are_named_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ImportError) as caught:
        require("evaluation", "no_such_module", "json", "numpy", needed_by="BM25Retriever")
    assert str(caught.value) == "BM25Retriever needs no_such_module, numpy: pip install onesearch[evaluation]"
    assert isinstance(caught.value, MissingExtraError) and caught.value.name == "no_such_module"


def test_without_modules_all_of_the_extra_are_needed(monkeypatch):
    for module in ("trl", "peft"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"^this feature needs trl, peft: pip install onesearch\[train\]$"):
        require("train")


def test_asking_does_not_import():
    code = "import sys; from onesearch.extras import require; require('x', 'torch', needed_by='y'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_extra_that_is_asked_for_exists():
    root = Path(__file__).parent.parent
    folders = ("onesearch", "tokenization_sid", "modeling_onesearch", "trainers", "model_cards")
    texts = [path.read_text(encoding="utf-8") for folder in folders for path in (root / folder).rglob("*.py")]
    asked = {extra for text in texts for extra in re.findall(r"(?<![.\w])require\(\"(\w+)\"", text)}
    assert asked and asked <= set(MODULES)
    assert all(f'"{extra}": ' in SETUP for extra in MODULES)


def test_bm25s_does_not_start_jax(tmp_path):
    """JAX would reserve most of a GPU. A stand-in for it says in a file that it was imported."""
    (tmp_path / "jax").mkdir()
    (tmp_path / "jax/__init__.py").write_text(f"open({str(tmp_path / 'started')!r}, 'w').close()\n")
    (tmp_path / "jax/lax.py").write_text("def top_k(scores, k):\n    return scores[:k], scores[:k]\n")
    code = """
import sys
from onesearch.extras import import_bm25s
assert import_bm25s("this test").BM25 is not None and "jax" not in sys.modules
assert import_bm25s("this test") is sys.modules["bm25s"]
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert not (tmp_path / "started").exists()
    subprocess.run(
        [
            sys.executable,
            "-c",
            code.replace("import sys\n", "import sys, jax.lax\nown = jax\n").replace(
                '"jax" not in sys.modules', 'sys.modules["jax"] is own'
            ),
        ],
        check=True,
        env=environment,
    )
    subprocess.run([sys.executable, "-c", "import bm25s, sys; assert 'jax' in sys.modules"], check=True, env=environment)
