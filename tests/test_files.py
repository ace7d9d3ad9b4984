"""Files and folders appear whole or not at all; the run folder names missing parts."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time

import pytest

from onesearch import RunFolder, files
from onesearch.files import LEFTOVER_AGE, atomic_file, atomic_files, atomic_folder, check_writable, read_json, write_json
from onesearch.signed_text import is_unedited, signed


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_its_place_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "deep" / "file.txt"
    with atomic_file(path) as temporary:
        temporary.write_text("whole")
        assert temporary.suffix == ".txt" and not path.exists()
    assert path.read_text() == "whole" and names(path.parent) == ["file.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_raise_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and names(tmp_path) == ["file.txt"]


def test_a_folder_takes_the_place_of_the_old_one(tmp_path):
    folder = tmp_path / "folder"
    for round_ in ("first", "second"):
        with atomic_folder(folder, replaces=["mark"]) as temporary:
            (temporary / "mark").write_text("x")
            (temporary / round_).write_text("x")
        assert names(folder) == sorted([round_, "mark"])
    assert names(tmp_path) == ["folder"]
    assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_raise_leaves_the_old_folder_and_nothing_else(tmp_path, error):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").write_text("x")
    with pytest.raises(error), atomic_folder(folder, replaces=["old"]) as temporary:
        (temporary / "half").write_text("x")
        raise error
    assert names(tmp_path) == ["folder"] and names(folder) == ["old"]
    with pytest.raises(error), atomic_folder(tmp_path / "other", replaces=[]):
        raise error
    assert names(tmp_path) == ["folder"]


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="home is a folder that holds something else .*letter.txt"):
        with atomic_folder(folder, replaces=["mark", "other"]):
            raise AssertionError("the block runs")
    with pytest.raises(FileExistsError, match="is a file"), atomic_folder(folder / "letter.txt", replaces=["mark"]):
        pass
    (folder / "letter.txt").rename(tmp_path / "letter.txt")
    with (
        pytest.raises(FileExistsError),
        atomic_folder(folder, replaces=["mark"]) as temporary,
    ):  # empty, until the block has run
        (temporary / "mark").write_text("x")
        (tmp_path / "letter.txt").rename(folder / "letter.txt")
    assert names(tmp_path) == ["home"] and names(folder) == ["letter.txt"]


def test_what_others_put_into_a_folder_stays(tmp_path):
    folder = tmp_path / "folder"
    (folder / ".git").mkdir(parents=True)
    for name in ("mark", "model-1.bin", "notes.md", ".git/head", ".mark.host-1-abc.txt", ".mark.12"):
        (folder / name).write_text("old")
    (folder / "link").symlink_to("notes.md")
    with atomic_folder(folder, replaces=["mark"], parts=["mark", "model-*.bin"]) as temporary:
        (temporary / "mark").write_text("new")
    assert names(folder) == [".git", "link", "mark", "notes.md"] and names(folder / ".git") == ["head"]
    assert (
        (folder / "mark").read_text() == "new" and (folder / "link").is_symlink() and (folder / "notes.md").read_text() == "old"
    )


def test_files_take_their_names_together(tmp_path, monkeypatch):
    folder = tmp_path / "new" / "folder"
    for content in ("old", "newer"):
        with atomic_files(folder, last="a") as temporary:
            (temporary / "a").write_text(content)
            (temporary / "b").write_text(content)
            assert {path.name for path in folder.iterdir()} - {"a", "b", "mine"} == {temporary.name}
        (folder / "mine").write_text("mine")
    with pytest.raises(OSError, match="full"), atomic_files(folder, last="a") as temporary:
        (temporary / "b").write_text("newest")
        raise OSError(errno.ENOSPC, "full")
    assert [(folder / name).read_text() for name in names(folder)] == ["newer", "newer", "mine"]
    order = []
    monkeypatch.setattr(files.os, "replace", lambda one, two: order.append(two.name))
    with atomic_files(folder, last="a") as temporary:
        for name in "cab":
            (temporary / name).write_text("x")
    assert order == ["b", "c", "a"] and names(folder) == ["a", "b", "mine"]


def test_without_an_exchange_a_folder_is_replaced_in_two_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "exchange", lambda first, second: False)
    test_a_folder_takes_the_place_of_the_old_one(tmp_path)


WRITER = """
import os, sys, onesearch.files as files
kind, path = sys.argv[1:]
if kind == "half":
    files.exchange = lambda first, second: False
    files.shutil.rmtree = lambda *args, **more: os._exit(9)
    replace = os.replace
    files.os.replace = lambda one, two: os._exit(9) if ".old" not in str(two) and os.path.isdir(one) else replace(one, two)
block = files.atomic_file(path) if kind == "file" else files.atomic_folder(path, replaces=["mark"])
with block as temporary:
    if kind == "file":
        temporary.write_text("half")
        os._exit(9)
    (temporary / "mark").write_text("half")
    if kind == "folder":
        os._exit(9)
"""


def killed_writer(kind, path):
    assert subprocess.run([sys.executable, "-c", WRITER, kind, str(path)], check=False).returncode == 9


def test_the_next_writer_deletes_what_killed_writers_left(tmp_path):
    folder, file = tmp_path / "folder", tmp_path / "file.txt"
    for kind, path in (("file", file), ("folder", folder)):
        killed_writer(kind, path)
        killed_writer(kind, path)
    assert len(names(tmp_path)) == 2  # the second of each has deleted the first's
    with atomic_file(file) as temporary:
        temporary.write_text("whole")
        own = temporary.name
        with atomic_file(file) as other:  # another writer of the same file, at the same time: nothing of it is deleted
            other.write_text("other")
            assert {own, other.name} <= set(names(tmp_path))
    with atomic_folder(folder, replaces=["mark"]) as temporary:
        (temporary / "mark").write_text("whole")
    assert names(tmp_path) == ["file.txt", "folder"] and file.read_text() == "whole"


def test_a_folder_that_lost_its_name_to_a_killed_writer_comes_back(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "mark").write_text("old")
    killed_writer("half", folder)
    assert not folder.exists()
    with pytest.raises(RuntimeError), atomic_folder(folder, replaces=["mark"]):
        assert (folder / "mark").read_text() == "old"
        raise RuntimeError
    assert names(tmp_path) == ["folder"] and (folder / "mark").read_text() == "old"


def test_files_of_another_machine_s_writers_stay_for_a_day(tmp_path):
    left = tmp_path / ".file.elsewhere-1-abcdefgh.txt"
    others = [tmp_path / ".file.txt", tmp_path / ".file.notes-about-it.txt", tmp_path / "file.elsewhere-1-abcdefgh.txt"]
    for path in (left, *others):
        path.write_text("x")
    write_json(tmp_path / "file.txt", 1)
    assert left.exists()
    old = time.time() - LEFTOVER_AGE - 60
    for path in (left, *others):
        os.utime(path, (old, old))
    write_json(tmp_path / "file.txt", 2)
    assert not left.exists() and all(path.exists() for path in others)


def test_what_is_written_is_flushed_before_it_gets_its_name(tmp_path, monkeypatch):
    """Every file and folder of it, and afterwards the folder that holds the name."""
    log = []
    flush, replace = files._flush, os.replace
    monkeypatch.setattr(files, "_flush", lambda path: (log.append(("flush", path.name)), flush(path)))
    monkeypatch.setattr(os, "replace", lambda one, two: (log.append(("name", os.path.basename(two))), replace(one, two)))
    with atomic_file(tmp_path / "file.txt") as temporary:
        own = temporary.name
    assert log == [("flush", own), ("name", "file.txt"), ("flush", tmp_path.name)]
    log.clear()
    with atomic_folder(tmp_path / "folder", replaces=["mark"]) as temporary:
        (temporary / "deep").mkdir()
        (temporary / "deep" / "mark").write_text("x")
        own = temporary.name
    assert set(log[:2]) == {("flush", "deep"), ("flush", "mark")}
    assert log[2:] == [("flush", own), ("name", "folder"), ("flush", tmp_path.name)]


def test_a_folder_that_cannot_be_written_is_found_at_once(tmp_path, monkeypatch):
    check_writable(tmp_path / "not" / "yet" / "there")
    assert names(tmp_path) == []

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        check_writable(tmp_path / "not")
    assert names(tmp_path) == []


def test_json_keeps_unicode_and_names_a_damaged_file(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"裙子": [1, None, 0.5]})
    assert read_json(path) == {"裙子": [1, None, 0.5]} and "裙子" in path.read_text("utf-8")
    path.write_text('{"half": ')
    with pytest.raises(ValueError, match="value.json is not valid JSON"):
        read_json(path)
    with pytest.raises(FileNotFoundError, match="other.json"):
        read_json(tmp_path / "other.json")


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, 1)
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == 1 and names(tmp_path) == ["value.json"]


def test_a_run_folder_says_which_command_makes_a_missing_part(tmp_path):
    run = RunFolder(str(tmp_path))
    assert run.market == tmp_path / "market"
    with pytest.raises(FileNotFoundError, match="checkpoint does not exist; make it with `onesearch train`"):
        run.require("checkpoint", "onesearch train")
    run.checkpoint.mkdir()
    assert run.require("checkpoint", "onesearch train") == run.checkpoint


def test_an_edit_of_a_signed_text_shows():
    for text in ("", "# Card\n", "# Card\n\n\n"):
        assert is_unedited(signed(text)) and signed(text).startswith(text.rstrip())
        assert not is_unedited(text) and not is_unedited(signed(text) + "x") and not is_unedited("x" + signed(text))
    assert not is_unedited(signed("# Card\n").replace("Card", "My card"))
