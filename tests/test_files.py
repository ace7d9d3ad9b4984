"""Files and folders appear whole or not at all; the run folder names missing parts."""

from __future__ import annotations

import pytest

from onesearch import RunFolder
from onesearch.files import atomic_file, atomic_folder, read_json, write_json


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
        with atomic_folder(folder) as temporary:
            (temporary / round_).write_text("x")
        assert names(folder) == [round_]
    assert names(tmp_path) == ["folder"]
    assert folder.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_raise_leaves_the_old_folder_and_nothing_else(tmp_path, error):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").write_text("x")
    with pytest.raises(error), atomic_folder(folder) as temporary:
        (temporary / "half").write_text("x")
        raise error
    assert names(tmp_path) == ["folder"] and names(folder) == ["old"]
    with pytest.raises(error), atomic_folder(tmp_path / "other"):
        raise error
    assert names(tmp_path) == ["folder"]


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
