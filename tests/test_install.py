"""The base installation, without any extra, runs the commands or says in one line which extra is missing."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import NamedTuple

import pytest
from test_architecture import ROOT
from test_shell_blocks import SETTINGS, shell_lines, write_export

from onesearch.extras import MODULES
from onesearch.files import read_json

PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
OPTIONAL = [*(module for modules in MODULES.values() for module in modules), "ir_measures", "pytest", "hypothesis"]

COMMANDS = """
import json, sys
from importlib.machinery import PathFinder

class WithoutExtras(PathFinder):
    "Finds neither the modules of the extras nor the versions of their distributions."
    hidden = set(json.loads(sys.argv[1]))

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in cls.hidden else super().find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, *arguments, **options):
        hidden = {name.replace("_", "-").lower() for name in cls.hidden}
        for found in super().find_distributions(*arguments, **options):
            if found.name.lower() not in hidden | {"faiss-cpu", "pystemmer"}:
                yield found

sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutExtras

import contextlib, io
from onesearch import cli

answers = []
for arguments in json.loads(sys.argv[2]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(arguments)
    answers.append({"code": code, "out": out.getvalue(), "err": err.getvalue(), "torch": "torch" in sys.modules})
print(json.dumps({"answers": answers, "optional": sorted(WithoutExtras.hidden & set(sys.modules))}))
"""


def run_in_base(commands: list[list[object]], folder: Path) -> list[dict]:
    """Exit code, output and whether torch is imported by then, of each command in one process without the extras."""
    texts = [[str(part) for part in command] for command in commands]
    process = [sys.executable, "-c", COMMANDS, json.dumps(OPTIONAL), json.dumps(texts)]
    finished = subprocess.run(process, capture_output=True, text=True, timeout=300, cwd=folder, check=False)
    assert finished.returncode == 0, finished.stderr[-4000:]
    found = json.loads(finished.stdout.splitlines()[-1])
    assert found["optional"] == []
    return found["answers"]


def test_the_base_installation_runs_its_commands_or_names_a_missing_extra_in_one_line(run, tmp_path):
    (tmp_path / "files").mkdir()
    items = [{"item_id": str(number), "title": f"red shoe {number}"} for number in range(3)]
    (tmp_path / "files" / "items.jsonl").write_text("\n".join(map(json.dumps, items)), encoding="utf-8")
    needs = {
        ("train", run.root): "train",
        ("evaluate", run.root, "--sample", 5): "evaluation",
        ("sids", "build", run.root, "--quantizer", "rq-vae", "--residual-sizes", "8,4"): "variants",
        ("run", "--recipe", "demo", "--run", tmp_path / "new"): "train",
    }
    works = [
        ["info"],
        ["data", "tables", tmp_path / "files", tmp_path / "tables"],
        ["data", "check", tmp_path / "tables"],
        ["data", "simulate", tmp_path / "simulated", "--items", 60, "--sessions", 100],
        ["search", run.root, "red shoe", "--beams", 5, "--top-k", 3],
        ["evaluate", run.root, "--no-baselines", "--sample", 5, "--name", "few"],
        ["info", run.root],
        ["sids", "build", run.root, "--rebuild", "--residual-sizes", "8,4", "--opq", "2x4"],
        ["sids", "inspect", "red shoe", "--run", run.root],
    ]
    answers = run_in_base([*works[:4], *map(list, needs), *works[4:]], tmp_path)
    refused, found = answers[4 : 4 + len(needs)], answers[:4] + answers[4 + len(needs) :]
    assert [answer["err"] for answer in found if answer["code"]] == []
    assert "trl is not installed" in found[0]["out"] and "faiss-cpu is not installed" in found[0]["out"]
    assert not any(answer["torch"] for answer in found[:4]), "market tables need no torch"
    assert len(found[4]["out"].splitlines()) == 3
    for command, extra, answer in zip(needs, needs.values(), refused):
        assert answer["code"] == 2, command
        (line,) = [line for line in answer["err"].splitlines() if line.startswith("onesearch: ")]
        assert line.endswith(f"pip install onesearch[{extra}]"), line
    assert not (tmp_path / "new" / "market").exists(), "refused before any work"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the source distribution, which must hold all that the wheel needs."""
    folder = tmp_path_factory.mktemp("wheel")
    sdist = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
    name = output([sys.executable, "-c", sdist, str(folder)], ROOT).splitlines()[-1]
    output([*PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(folder / name)], folder)
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A fresh virtual environment outside of the clone that holds the wheel. Other packages are those of this environment."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    output([*PIP, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)], folder, clean_environment())
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(output([str(python), "-c", code], folder, clean_environment()).strip())
    assert packages.is_relative_to(folder)
    # Only the path: the .pth file of the editable installation there is not read.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return Installed(folder / "bin", packages)


def clean_environment() -> dict[str, str]:
    """The variables of this process without those that lead Python to other packages."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}


class Installed(NamedTuple):
    """Folders of an environment: its programs and its packages."""

    programs: Path
    packages: Path

    def environment(self) -> dict[str, str]:
        """Variables of a shell in which the environment is active."""
        return {**clean_environment(), "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.slow
def test_a_built_wheel_holds_the_package_and_nothing_else(installed):
    found = {path.name for path in installed.packages.iterdir() if not path.name.endswith((".dist-info", ".pth"))}
    assert found == {"onesearch"}
    sources = {path.relative_to(ROOT / "onesearch") for path in files_of(ROOT / "onesearch")}
    assert sources <= {
        path.relative_to(installed.packages / "onesearch") for path in files_of(installed.packages / "onesearch")
    }


@pytest.mark.slow
def test_the_readme_runs_with_a_built_wheel_outside_of_the_clone(installed, tmp_path):
    """Its shell blocks in order, from a folder with nothing but a shop's export, with the program that the wheel installs."""
    write_export(tmp_path)
    for name in ("mine", "two"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "recipe.yaml").write_text(SETTINGS, encoding="utf-8")
    environment = installed.environment()
    where = output(
        [str(installed.programs / "python"), "-c", "import onesearch; print(onesearch.__file__)"], tmp_path, environment
    )
    assert Path(where.strip()).is_relative_to(installed.packages)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = (found for found in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if "runs/two" in found)
    output([str(installed.programs / "python"), "-c", block], tmp_path, environment)
    outputs = {}
    for line in shell_lines(ROOT / "README.md"):
        words = shlex.split(line)
        program = shutil.which(words[0], path=environment["PATH"])
        assert program is not None and (words[0] != "onesearch" or Path(program).is_relative_to(installed.programs)), line
        outputs[line] = output([program, *words[1:]], tmp_path, environment)
    assert outputs["onesearch data check runs/mine/market"] == "no problems\n"
    (search,) = (line for line in outputs if line.startswith("onesearch search"))
    assert len(outputs[search].splitlines()) == 10
    report = read_json(tmp_path / "runs" / "mine" / "evaluation" / "metrics.json")
    assert report["requests"] == 20 and {"onesearch", "bm25", "dense"} <= set(report["retrievers"])
    assert (tmp_path / "runs" / "two" / "sids" / "sid_index.safetensors").is_file()


PLANTED = """
from onesearch import Searcher

searcher = Searcher.from_pretrained("checkpoint")
number: int = searcher.search("red shoe")[0].item_id
"""


@pytest.mark.slow
def test_a_type_checker_elsewhere_finds_a_planted_error(tmp_path):
    """After an editable installation: the package is found from any folder, with its types."""
    (tmp_path / "use.py").write_text(PLANTED, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--follow-imports", "silent", "use.py"]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path, check=False)
    (error,) = [line for line in finished.stdout.splitlines() if ": error: " in line]
    assert error.startswith("use.py:5:") and "[assignment]" in error


def output(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> str:
    """What a command prints; it must succeed."""
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder, env=environment, check=False)
    assert finished.returncode == 0, finished.stderr[-4000:]
    return finished.stdout


def files_of(folder: Path) -> list[Path]:
    """Files within a folder, through its links, without caches."""
    found = [Path(root) / name for root, _, names in os.walk(folder, followlinks=True) for name in names]
    return [path for path in found if "__pycache__" not in path.parts]
