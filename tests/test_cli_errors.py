"""Whatever stops a command, its user gets one line and an exit code; figures that were measured are on the screen by then."""

from __future__ import annotations

import errno
import os

import pytest
from safetensors import SafetensorError

import onesearch.cli as cli
from onesearch.commands import info

FULL = OSError(errno.ENOSPC, "No space left on device", "runs/x/model.safetensors")

STOPS = {
    "safetensors": (SafetensorError("header too small"), 2, "onesearch: header too small"),
    "full disk": (
        FULL,
        2,
        "onesearch: the disk is full ([Errno 28] No space left on device: 'runs/x/model.safetensors'); make room",
    ),
    "full disk of a library": (SafetensorError("I/O error: No space left on device (os error 28)"), 2, "the disk is full ("),
    "runtime": (RuntimeError("out of memory\non the device"), 2, "onesearch: out of memory on the device"),
    "import": (ImportError("libcudart.so.13: cannot open shared object file"), 2, "onesearch: libcudart.so.13: cannot open"),
    "memory": (MemoryError(), 2, "onesearch: MemoryError"),
    "Ctrl-C": (KeyboardInterrupt(), 130, "onesearch: stopped"),
}


@pytest.mark.parametrize(("error", "code", "words"), STOPS.values(), ids=STOPS)
def test_what_stops_a_command_is_one_line(error, code, words, monkeypatch, capsys):
    def stop(options):
        raise error

    monkeypatch.setattr(info, "_info", stop)
    assert cli.main(["info", "somewhere"]) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and words in lines[0]
    with pytest.raises(type(error)):
        cli.main(["--traceback", "info", "somewhere"])


def test_ctrl_c_names_the_flag_that_continues(tmp_path, monkeypatch, capsys):
    def stop(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("onesearch.pipeline.run.run_recipe", stop)
    assert cli.main(["run", "--recipe", "demo", "--run", str(tmp_path / "run")]) == 130
    assert capsys.readouterr().err == "onesearch: stopped; --resume continues it\n"


def test_a_fault_of_the_package_keeps_its_traceback(monkeypatch):
    def fault(options):
        raise AttributeError("a fault")

    monkeypatch.setattr(info, "_info", fault)
    with pytest.raises(AttributeError):
        cli.main(["info", "somewhere"])


def test_an_evaluation_prints_before_it_writes(run, monkeypatch, capsys):
    def full(path, value):
        raise FULL

    before = {path.name: path.read_bytes() for path in run.evaluation.iterdir()}
    monkeypatch.setattr("onesearch.evaluation.reports.write_json", full)
    assert cli.main(["evaluate", str(run.root), "--sample", "5", "--no-baselines", "--overwrite"]) == 2
    captured = capsys.readouterr()
    assert "| onesearch |" in captured.out and "HR@10" in captured.out
    assert captured.err.splitlines()[-1].startswith("onesearch: the disk is full")
    after = {path.name: path.read_bytes() for path in run.evaluation.iterdir()}
    assert after == before and "onesearch.test.run" in after, "rankings beside the figures of other ones"


def test_an_evaluation_that_cannot_be_written_measures_nothing(run, monkeypatch, capsys):
    fsync = os.fsync

    def full(descriptor):
        if str(run.evaluation) in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise FULL
        fsync(descriptor)

    def measure(*arguments):
        raise AssertionError("measured")

    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr("onesearch.pipeline.evaluation._measure", measure)
    assert cli.main(["evaluate", str(run.root), "--sample", "5", "--no-baselines", "--overwrite"]) == 2
    assert "the disk is full" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["run", "demo", "study"])
def test_a_folder_of_something_else_stays_as_it_is(command, recipe, tmp_path, capsys):
    from onesearch.pipeline.recipe import save_recipe

    mine = tmp_path / "mine"
    (mine / "market").mkdir(parents=True)
    (mine / "market" / "letter.txt").write_text("dear")
    save_recipe(recipe, tmp_path / "tiny.yaml")
    (tmp_path / "study.yaml").write_text(f"name: x\nbase: {tmp_path / 'tiny.yaml'}\nvariants: {{a: {{}}}}\n")
    arguments = {
        "run": ["run", "--recipe", str(tmp_path / "tiny.yaml"), "--run", str(mine)],
        "demo": ["demo", "--run", str(mine)],
        "study": ["study", str(tmp_path / "study.yaml"), "--runs", str(mine)],
    }[command]
    for more in ([], ["--resume"] if command != "study" else []):
        assert cli.main([*arguments, *more]) == 2
        assert f"{mine} " in capsys.readouterr().err
    assert [str(path.relative_to(mine)) for path in sorted(mine.rglob("*"))] == ["market", "market/letter.txt"]


def test_a_stopped_first_stage_leaves_the_recipe_free_to_be_corrected(recipe, tmp_path, monkeypatch):
    """A run that has made nothing yet is no run of another recipe."""
    from dataclasses import replace

    from onesearch import RunFolder
    from onesearch.pipeline import run as running

    def stop(*arguments):
        raise RuntimeError("stopped")

    monkeypatch.setattr(running, "make_market", stop)
    run = RunFolder(tmp_path / "run")
    for attempt in (recipe, replace(recipe, keywords=None)):
        with pytest.raises(RuntimeError, match="stopped"):
            running.run_recipe(attempt, run, progress=False)
        assert running.load_recipe(run.root / "recipe.yaml") == attempt
