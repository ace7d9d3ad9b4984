"""The files of an item index: damage is found, processes share them, a power cut and a killed writer leave no trace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import random_codes, tiny_index

from onesearch import SidIndex
from onesearch.modeling_onesearch import catalogue_checks_onesearch, locks_onesearch, tensor_files_onesearch
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME, SID_UPDATES_NAME
from onesearch.modeling_onesearch.locks_onesearch import index_lock, index_locked
from onesearch.modeling_onesearch.tensor_files_onesearch import content_fingerprint, read_tensors

TESTS = Path(__file__).parent.parent
CODEBOOK_SIZES = (8, 4, 4)


@pytest.fixture
def path(tmp_path):
    """An index of two items in a folder of its own."""
    path = tmp_path / "checkpoint" / SID_INDEX_NAME
    path.parent.mkdir()
    tiny_index([[0, 1], [2, 3]], (3, 4)).save(path)
    return path


def counts_of(script, *arguments):
    """What a script beside the tests prints."""
    command = [sys.executable, str(TESTS / script), *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=1500, cwd=TESTS)
    assert finished.returncode == 0, f"exit code {finished.returncode}\n{finished.stderr[-3000:]}"
    return json.loads(finished.stdout.splitlines()[-1])


# Damage


def check_fuzz(damaged, unverified, crafted, seed):
    found = counts_of("index_fuzz.py", damaged, unverified, crafted, seed)
    assert found["damaged"].keys() <= {"refused", "same"} and sum(found["damaged"].values()) == damaged
    assert found["damaged"]["refused"] > 0.8 * damaged
    for kind in ("unverified", "crafted"):
        assert found[kind].keys() <= {"ValueError", "KeyError", "searched"}
        assert found[kind]["ValueError"] and found[kind]["searched"]


def test_a_damaged_file_is_refused_by_name_or_gives_the_same_hits():
    check_fuzz(300, 60, 100, seed=0)


@pytest.mark.slow
def test_thousands_of_damaged_files_are_refused_by_name_or_give_the_same_hits():
    check_fuzz(3000, 1000, 1500, seed=1)


def crafted(path, name, change, key="build"):
    """Change one tensor of a file, and give the file a right fingerprint."""
    tensors, metadata = read_tensors(path, tensor_files_onesearch.read_metadata(path)["format"])
    tensors = {each: tensor.clone() for each, tensor in tensors.items()}
    tensors[name] = change(tensors[name])
    metadata = dict(metadata)
    keys = ("codebook_sizes", "fingerprint") if key == "build" else ("base", "revision")
    metadata[key] = content_fingerprint(tensors, [metadata[each] for each in keys])
    path.unlink()
    save_file(tensors, path, metadata=metadata)


def put(place, value):
    """A change of one entry."""

    def change(tensor):
        tensor.view(-1)[place] = value
        return tensor

    return change


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("trie.inner_starts.1", put(1, 2**31 - 1), r"inner_starts.1 does not ascend"),
        ("trie.inner_starts.1", put(-1, 2**31 - 1), r"inner_starts.1 does not lead from 0"),
        ("trie.leaf_starts.1", put(1, -5), "leaf_starts.1 does not ascend"),
        ("trie.leaf_starts.2", put(-1, 2**31 - 1), "trie has"),
        ("trie.inner_starts.0", lambda tensor: tensor.repeat(2), "do not have 2 entries"),
        ("trie.codes.0", put(0, 8), "codes.0 holds 8, outside 0..7"),
        ("trie.codes.1", put(0, -1), "codes.1 holds -1, outside 0..3"),
        ("trie.codes.0", lambda tensor: tensor.flip(0), "do not ascend at level 0"),
        ("trie.codes.1", lambda tensor: tensor.int(), "torch.int32 of shape .*, expected torch.int16"),
        ("codes", put(0, 8), "codes holds 8 at level 0"),
        ("codes", lambda tensor: tensor[:, :2].contiguous(), r"expected \(items, 3\)"),
        ("codes", lambda tensor: tensor[:0], "holds no item"),
        ("leaf_of_row", put(0, 10**6), "leaf_of_row holds 1000000"),
        ("leaf_of_row", lambda tensor: tensor[1:].clone(), "leaf_of_row has 39 entries for 40 items"),
        ("bucket_rows", put(0, 40), "bucket_rows holds 40"),
        ("bucket_rows", lambda tensor: torch.zeros_like(tensor), "bucket_rows does not name each row once"),
        ("bucket_starts", put(1, 10**6), "bucket_starts does not ascend"),
        ("ids.rows", put(0, -1), "ids.rows holds -1"),
        ("ids.hashes", lambda tensor: tensor.flip(0), "hashes does not ascend"),
        ("ids.ends", put(-1, 10**9), "ids.ends does not lead to the end"),
        ("ids.ends", put(0, 10**9), "ids.ends does not ascend"),
        ("category", put(0, 5), "category holds 5"),
        ("popularity", put(0, float("nan")), "no finite number"),
        ("paths.data", put(0, 0), "Expecting value"),
    ],
)
def test_a_crafted_index_is_refused_even_with_a_right_fingerprint(tmp_path, name, change, words):
    path = tmp_path / SID_INDEX_NAME
    codes = random_codes(40, CODEBOOK_SIZES)
    tiny_index(codes, CODEBOOK_SIZES, categories=[["a"]] * 40).save(path)
    crafted(path, name, change)
    with pytest.raises(ValueError, match=f"{SID_INDEX_NAME} is damaged .*{words}"):
        SidIndex.load(path)
    with pytest.raises(ValueError, match=f"{SID_INDEX_NAME} is damaged .*{words}"):
        SidIndex.load(path, verify=False)


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("removed", put(0, 40), "removed holds 40"),
        ("codes", put(0, 8), "codes holds 8 at level 0"),
        ("living", lambda tensor: tensor[:0], "living has 0 entries for 1 added"),
        ("category", put(0, 7), "category holds 7"),
        ("ids.ends", put(0, 10**9), "ids.ends does not lead"),
    ],
)
def test_crafted_updates_are_refused_even_with_a_right_fingerprint(tmp_path, name, change, words):
    path = tmp_path / SID_INDEX_NAME
    index = tiny_index(random_codes(40, CODEBOOK_SIZES), CODEBOOK_SIZES)
    index.save(path)
    index.add_items(["new"], np.array([[7, 3, 3]]))
    index.remove_items(["item-7"])
    index.save_updates(path)
    crafted(path.with_name(SID_UPDATES_NAME), name, change, "content")
    with pytest.raises(ValueError, match=f"{SID_UPDATES_NAME} is damaged .*{words}"):
        SidIndex.load(path)


def test_large_files_are_compared_with_their_fingerprint_on_demand(path, monkeypatch):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # a bit of the last table, which every check of the structure lets pass
    changed = read_tensors(path, "onesearch-sid-index/2").tensors
    path.unlink()
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=f"{SID_INDEX_NAME} is damaged .*does not have the fingerprint that it carries"):
        SidIndex.load(path)
    monkeypatch.setattr(tensor_files_onesearch, "VERIFY_BYTES", sum(table.nbytes for table in changed.values()) - 1)
    monkeypatch.setattr(catalogue_checks_onesearch, "require", lambda *_: None)
    assert len(SidIndex.load(path)) == 2
    with pytest.raises(ValueError, match="does not have the fingerprint"):
        SidIndex.load(path, verify=True)


# Processes


def check_processes(tmp_path, seconds):
    path = tmp_path / "checkpoint" / SID_INDEX_NAME
    path.parent.mkdir()
    writers, readers = (lambda found: (found[:2], found[2:]))(counts_of("index_processes.py", path, seconds))
    assert all(writer["updates"] > 5 for writer in writers) and all(reader["loads"] > 5 for reader in readers)


def test_two_writers_lose_nothing_and_three_readers_always_read(tmp_path):
    check_processes(tmp_path, 4)


@pytest.mark.slow
def test_two_writers_lose_nothing_for_a_minute(tmp_path):
    check_processes(tmp_path, 60)


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(path, monkeypatch):
    """safetensors opens a file by its name more than once, so header and tensors may come from two files."""
    index = SidIndex.load(path)
    index.add_items(["new"], np.array([[1, 1]]))
    opened = []
    whole = tensor_files_onesearch.safe_open

    def replaced(*arguments, **settings):
        opened.append(arguments)
        file = whole(*arguments, **settings)
        if len(opened) == 1:
            index.save(path)  # reads no tensors
        return file

    monkeypatch.setattr(tensor_files_onesearch, "safe_open", replaced)
    assert SidIndex.load(path).item_ids == ["item-0", "item-1", "new"]


def test_a_save_over_newer_files_is_refused(path):
    old, newer = SidIndex.load(path), SidIndex.load(path)
    newer.add_items(["new"], np.array([[1, 1]]))
    newer.save_updates(path)
    with pytest.raises(ValueError, match="another process meanwhile; load the index again"):
        old.save(path)
    newer.save(path)
    with pytest.raises(ValueError, match="another process meanwhile; load the index again"):
        old.save(path)
    assert SidIndex.load(path).item_ids == ["item-0", "item-1", "new"]
    old.save(path.with_name("copy.safetensors"))  # elsewhere it may
    tiny_index([[0, 1]], (3, 4)).save(path)  # and so may an index that was built
    assert len(SidIndex.load(path)) == 1


def test_no_advice_brings_removed_items_back(tmp_path):
    paths = [tmp_path / name / SID_INDEX_NAME for name in ("one", "other")]
    for path, last in zip(paths, (2, 1)):
        path.parent.mkdir()
        tiny_index([[0, 1], [2, last]], (3, 4)).save(path)
    index = SidIndex.load(paths[0])
    index.remove_items(["item-0"])
    index.save_updates(paths[0])
    os.replace(paths[0].with_name(SID_UPDATES_NAME), paths[1].with_name(SID_UPDATES_NAME))
    with pytest.raises(ValueError, match="Do not delete it: items that it removed would come back"):
        SidIndex.load(paths[1])


def test_the_lock_excludes_processes_that_use_filelock(path):
    from filelock import FileLock

    with index_locked(path), index_locked(path):  # one thread may nest
        assert index_lock(path).parent == path.parent.parent
    with FileLock(index_lock(path)), pytest.raises(TimeoutError, match="another process has held the lock"):
        with index_locked(path, timeout=0.1):
            pass
    with index_locked(path), pytest.raises(Exception, match="could not be acquired"):
        FileLock(index_lock(path), timeout=0.1).acquire()
    assert not index_lock(path).exists()
    with index_locked(path, timeout=0):
        pass


def test_an_index_in_a_folder_whose_parent_cannot_be_written_is_locked_in_it(path, monkeypatch):
    monkeypatch.setattr(locks_onesearch.os, "access", lambda *_: False)
    assert index_lock(path).parent == path.parent
    index = SidIndex.load(path)
    index.add_items(["new"], np.array([[1, 1]]))
    index.save_updates(path)
    assert sorted(entry.name for entry in path.parent.iterdir()) == [SID_INDEX_NAME, SID_UPDATES_NAME]


def test_the_next_writer_deletes_what_killed_writers_left(path):
    index = SidIndex.load(path)
    for write in (index.save_updates, index.save):
        for name in (SID_INDEX_NAME, SID_UPDATES_NAME):
            path.with_name(f".{name}.4242").write_bytes(b"half")
        path.with_name(".other.safetensors.4242").write_bytes(b"of somebody else")
        write(path)
        assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")] == [".other.safetensors.4242"]


def test_files_are_on_the_disk_before_they_take_their_name(path, monkeypatch):
    events = []
    flush, rename = os.fsync, os.replace

    def fsync(descriptor):
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        flush(descriptor)

    def replace(source, target):
        events.append(f"-> {Path(target).name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    index = SidIndex.load(path)
    index.add_items(["new"], np.array([[1, 1]]))
    index.save_updates(path)
    assert events == [f".{SID_UPDATES_NAME}.{os.getpid()}", f"-> {SID_UPDATES_NAME}", "checkpoint"]
    events.clear()
    index.save(path)
    assert events == [f".{SID_INDEX_NAME}.{os.getpid()}", f"-> {SID_INDEX_NAME}", "checkpoint", "checkpoint"]


def test_a_missing_folder_and_a_full_disk_are_one_clear_line(tmp_path, path, monkeypatch):
    index = SidIndex.load(path)
    with pytest.raises(FileNotFoundError, match="the folder .* does not exist; make it first"):
        index.save(tmp_path / "missing" / SID_INDEX_NAME)

    def full(*_, **__):
        raise tensor_files_onesearch.SafetensorError("No space left on device")

    monkeypatch.setattr(tensor_files_onesearch, "save_file", full)
    for write in (index.save, index.save_updates):
        with pytest.raises(OSError, match="sid_index.*could not be written .*No space left"):
            write(path)
    assert SidIndex.load(path).item_ids == ["item-0", "item-1"]
