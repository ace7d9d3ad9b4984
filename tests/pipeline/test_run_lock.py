"""One writer per run folder: a second command is refused at once and told which one is at work."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

import onesearch.cli as cli
from onesearch import RunFolder
from onesearch.pipeline.recipe import save_recipe
from onesearch.pipeline.run import run_recipe
from onesearch.pipeline.run_lock import HELD, LOCK_NAME, NOTE_NAME, held_environment, writing, writing_into

HOLDER = """
import sys, time
from onesearch import RunFolder
from onesearch.pipeline.run_lock import writing
with writing(RunFolder(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    time.sleep(120)
"""


@pytest.fixture
def holder(tmp_path):
    """Start a process that holds the lock of a folder for a command; it is killed at the end."""
    started = []

    def start(root, command="onesearch train"):
        process = subprocess.Popen([sys.executable, "-c", HOLDER, str(root), command], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def names(folder):
    return {path.name for path in folder.iterdir()}


def snapshot(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_every_command_that_writes_is_refused_while_another_one_does(shared_run, recipe, holder, tmp_path, capsys):
    run = RunFolder(shutil.copytree(shared_run.root, tmp_path / "run"))
    save_recipe(recipe, tmp_path / "tiny.yaml")
    shutil.copy(run.market / "items.parquet", tmp_path / "new.parquet")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "items.csv").write_text("item_id,title\n1,red shoe\n", encoding="utf-8")
    process = holder(run.root)
    before = snapshot(run.root)
    root = str(run.root)
    for command in (
        ["train", root],
        ["train", root, "--resume"],
        ["sids", "build", root],
        ["sids", "align", root],
        ["sids", "append", "--run", root, str(tmp_path / "new.parquet")],
        ["evaluate", root],
        ["items", "add", root, str(tmp_path / "new.parquet")],
        ["items", "remove", str(run.checkpoint), "item-0000003"],
        ["data", "tables", str(tmp_path / "files"), str(run.market), "--overwrite"],
        ["data", "simulate", str(run.market), "--items", "50", "--overwrite"],
        ["run", "--recipe", str(tmp_path / "tiny.yaml"), "--run", root],
        ["run", "--recipe", str(tmp_path / "tiny.yaml"), "--run", root, "--resume"],
    ):
        start = time.monotonic()
        assert cli.main(command) == 2, command
        error = capsys.readouterr().err
        assert f"{root} is being written by `onesearch train` (process {process.pid} on " in error, error
        assert len(error.splitlines()) == 1 and time.monotonic() - start < 30
    assert snapshot(run.root) == before
    for command in (
        ["search", root, "shoe"],
        ["info", root],
        ["sids", "inspect", "shoe", "--run", root],
        ["data", "check", root],
    ):
        assert cli.main(command) in (0, 1), command  # reading commands go on


def test_the_lock_of_a_killed_command_is_free(tmp_path, holder):
    run = RunFolder(tmp_path)
    process = holder(run.root)
    assert names(tmp_path) == {LOCK_NAME, NOTE_NAME}
    with pytest.raises(BlockingIOError, match="is being written by `onesearch train`"), writing(run, "onesearch evaluate"):
        pass
    process.send_signal(signal.SIGKILL)
    process.wait()
    with writing(run, "onesearch evaluate"):
        assert json.loads((tmp_path / NOTE_NAME).read_text())["command"] == "onesearch evaluate"
        with writing(run, "onesearch train"):  # nested: the outer command stays the holder
            assert json.loads((tmp_path / NOTE_NAME).read_text())["command"] == "onesearch evaluate"
        assert names(tmp_path) == {LOCK_NAME, NOTE_NAME}
    assert names(tmp_path) == set()


def test_another_thread_is_another_writer(tmp_path):
    refused = []

    def write():
        try:
            with writing(RunFolder(tmp_path), "onesearch train"):
                pass
        except BlockingIOError as error:
            refused.append(str(error))

    with writing(RunFolder(tmp_path), "onesearch run"):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert len(refused) == 1 and "`onesearch run`" in refused[0]


def test_processes_of_one_torchrun_and_of_one_run_count_as_one(tmp_path, holder, monkeypatch):
    run = RunFolder(tmp_path)
    holder(tmp_path, "onesearch run")
    monkeypatch.setenv("RANK", "1")  # the first process, of rank 0, holds the lock
    with writing(run, "onesearch train"):
        pass
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(BlockingIOError), writing(run, "onesearch train"):
        pass
    monkeypatch.setenv(HELD, held_environment(run)[HELD])  # started by the command that holds the lock
    with writing(run, "onesearch train"):
        pass
    (tmp_path / "other").mkdir()
    with writing(RunFolder(tmp_path / "other"), "onesearch train"):
        assert (tmp_path / "other" / LOCK_NAME).exists()


def test_appends_wait_for_each_other_and_for_no_other_command(tmp_path, holder):
    run = RunFolder(tmp_path)
    process = holder(tmp_path, "onesearch sids append")
    waiter = threading.Timer(0.5, process.kill)
    waiter.start()
    with writing(run, "onesearch sids append", wait=60):
        assert process.wait() == -signal.SIGKILL
    waiter.join()
    holder(tmp_path, "onesearch train")
    start = time.monotonic()
    with pytest.raises(BlockingIOError), writing(run, "onesearch sids append", wait=60):
        pass
    assert time.monotonic() - start < 10


def test_two_runs_of_one_recipe_at_once_make_one(recipe, tmp_path):
    """Of two that start together, one is refused and leaves the folder to the other."""
    run = RunFolder(tmp_path / "run")
    with writing_after_mkdir(run), pytest.raises(BlockingIOError):
        in_thread(lambda: run_recipe(recipe, run, progress=False))
    assert not run.market.exists()


def writing_after_mkdir(run):
    run.root.mkdir()
    return writing(run, "onesearch run")


def in_thread(work):
    """Run in another thread, and raise its error here."""
    errors = []

    def target():
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def test_a_market_or_a_checkpoint_outside_of_a_run_needs_no_lock(tmp_path, holder):
    (tmp_path / "checkpoint").mkdir()
    holder(tmp_path)
    with writing_into(tmp_path / "checkpoint", "onesearch items"):  # nothing else here belongs to a run
        pass
    with writing_into(tmp_path / "tables", "onesearch data tables"):
        pass
    (tmp_path / "sids").mkdir()
    for name in ("checkpoint", "market"):
        with pytest.raises(BlockingIOError, match="onesearch train"), writing_into(tmp_path / name, "onesearch items"):
            pass


def test_a_run_folder_that_only_the_lock_needed_goes_again(tmp_path):
    run = RunFolder(tmp_path / "new" / "run")
    with pytest.raises(ValueError, match="no rows"), writing_into(run.market, "onesearch data tables"):
        assert names(run.root) == {LOCK_NAME, NOTE_NAME}
        raise ValueError("no rows")
    assert not run.root.exists()
    with writing_into(run.market, "onesearch data tables"):
        run.market.mkdir()
    assert names(run.root) == {"market"}


def test_no_lock_is_left_in_a_finished_run(shared_run):
    assert not {LOCK_NAME, NOTE_NAME} & set(os.listdir(shared_run.root))
