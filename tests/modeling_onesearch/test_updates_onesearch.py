"""Additions, removals and the files of an index, against plain lists of items and an index built from scratch."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import PATHS, CatalogueOracle, any_catalogues, catalogues, distinct, hits_of
from safetensors.numpy import save_file
from test_tensor_files_onesearch import lies_in
from tiny import random_codes, random_prompts, tiny_causal_model, tiny_index, tiny_model

from onesearch import SidIndex
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME, SID_UPDATES_NAME

CODEBOOK_SIZES = (8, 4, 4)


# Updates


def check_same(index, oracle):
    """The index holds the oracle's items, in its order, and gives them in the order of an index built from scratch."""
    assert len(index) == len(oracle.ids) and index.item_ids == oracle.ids
    assert index.codes.tolist() == oracle.codes and index.popularity.tolist() == oracle.popularity
    assert index.codes_of(oracle.ids).tolist() == oracle.codes
    sids = distinct(oracle.codes)
    assert hits_of(index, sids) == hits_of(oracle.index(), sids)
    others = (
        [sid for sid in np.ndindex(*oracle.codebook_sizes) if sid not in set(sids)]
        if np.prod(oracle.codebook_sizes) < 300
        else []
    )
    if others:
        assert set(index.trie.leaf_of(index.trie.walk(torch.tensor(others))).tolist()) == {-1}
    for names in {name for path in oracle.paths for name in path}:
        item_filter = index.filter(categories=[names])
        expected = [item_id for item_id, path in zip(oracle.ids, oracle.paths) if names in path]
        assert sorted(hits_of(index, sids, item_filter=item_filter)) == sorted(expected)


@settings(max_examples=30)
@given(catalogues(), st.data())
def test_any_sequence_of_updates_gives_the_index_built_from_scratch(tmp_path_factory, catalogue, data):
    """Additions (removed items and SIDs of others among them), removals (of added items, too), files in between."""
    codes, codebook_sizes = catalogue
    popularity = np.arange(len(codes)) % 3
    paths = [PATHS[row % len(PATHS)] for row in range(len(codes))]
    oracle = CatalogueOracle(codebook_sizes, codes, popularity.astype(float), paths)
    index = tiny_index(codes, codebook_sizes, popularity=popularity, categories=paths)
    path = tmp_path_factory.mktemp("index") / SID_INDEX_NAME
    sid = st.tuples(*(st.integers(0, size - 1) for size in codebook_sizes))
    for _ in range(data.draw(st.integers(1, 5))):
        action = data.draw(st.sampled_from(["add", "add", "remove", "remove", "save", "load"]))
        if action == "add":
            free = sorted(
                {*(f"item-{row}" for row in range(len(codes))), *(f"neu-{row}é" for row in range(5))} - set(oracle.ids)
            )
            ids = data.draw(st.lists(st.sampled_from(free), min_size=1, max_size=4, unique=True)) if free else []
            if not ids:
                continue
            new = np.array([data.draw(sid | st.sampled_from(list(map(tuple, oracle.codes)))) for _ in ids])
            more = np.array([data.draw(st.integers(0, 3)) for _ in ids], dtype=float)
            own = [data.draw(st.sampled_from([*PATHS, ("brand new",)])) for _ in ids]
            index.add_items(ids, new, more, own)
            oracle.add(ids, new, more, own)
        elif action == "remove" and len(oracle.ids) > 1:
            gone = data.draw(st.lists(st.sampled_from(oracle.ids), min_size=1, max_size=len(oracle.ids) - 1, unique=True))
            index.remove_items(gone + gone[:1])  # twice is no mistake
            oracle.remove(gone)
        elif action == "save":
            index.save(path)
            assert not path.with_name(SID_UPDATES_NAME).exists()
        elif action == "load" and path.exists():
            index.save_updates(path)
            index = SidIndex.load(path)
        check_same(index, oracle)
    index.save(path)
    check_same(SidIndex.load(path), oracle)


@settings(max_examples=20)
@given(catalogues(), st.data())
def test_searching_an_updated_index_is_searching_one_built_from_scratch(catalogue, data):
    codes, codebook_sizes = catalogue
    kind = data.draw(st.sampled_from([tiny_model, tiny_causal_model]))
    roles = [data.draw(st.sampled_from(["old", "removed", "new"])) for _ in codes]
    roles[0] = "old"
    ids = np.array([f"item-{row}" for row in range(len(codes))])
    at_first, gone, new = (np.isin(roles, names) for names in (["old", "removed"], ["removed"], ["new"]))
    index = tiny_index(codes[at_first], codebook_sizes, ids[at_first].tolist())
    if gone.any():
        index.remove_items(ids[gone].tolist())
    if new.any():
        index.add_items(ids[new].tolist(), codes[new])
    model = kind(codebook_sizes)
    prompts = random_prompts(2)
    found = []
    for own in (index, tiny_index(codes[~gone], codebook_sizes, ids[~gone].tolist())):
        model.set_sid_index(own)
        found.append([{hit.item_id: hit for hit in hits} for hits in model.search(*prompts, 30, top_k=100)])
    for one, other in zip(*found):
        assert set(one) == set(other) == set(ids[~gone].tolist())
        assert all(one[item_id].sid == other[item_id].sid for item_id in one)
        assert [one[item_id].score for item_id in one] == pytest.approx([other[item_id].score for item_id in one], abs=1e-5)


def test_published_sids_do_not_move_and_shared_ones_follow_popularity():
    codes = random_codes(40, CODEBOOK_SIZES)
    index = tiny_index(codes, CODEBOOK_SIZES, popularity=np.full(40, 5))
    before = {item_id: index.sid_of(item_id) for item_id in index.item_ids}
    index.add_items(["hot", "cold", "same"], np.tile(codes[:1], (3, 1)), np.array([9, 1, 5]))
    index.remove_items(["item-7"])
    index.add_items(["alone"], np.array([[7, 3, 3]]))
    assert {item_id: index.sid_of(item_id) for item_id in before if item_id != "item-7"} == {
        item_id: sid for item_id, sid in before.items() if item_id != "item-7"
    }
    sharing = [f"item-{row}" for row in np.flatnonzero((codes == codes[0]).all(1)).tolist() if row != 7]
    assert hits_of(index, [tuple(codes[0].tolist())]) == ["hot", *sharing, "same", "cold"]
    with pytest.raises(KeyError, match="'item-7'"):
        index.sid_of("item-7")
    index.add_items(["item-7"], np.array([[7, 3, 3]]), np.array([-1.0]))  # again, elsewhere
    assert index.sid_of("item-7") == (7, 3, 3) and hits_of(index, [(7, 3, 3)])[-1] == "item-7"


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((["new", "item-1"], [[0, 0], [1, 1]]), ValueError, "'item-1' is in the catalogue"),
        ((["new", "old"], [[0, 0], [1, 1]]), ValueError, "'old' is in the catalogue"),
        ((["new", "new"], [[0, 0], [1, 1]]), ValueError, "'new' .*given twice"),
        ((["new"], [[0, 4]]), ValueError, "item 0: code 4 at level 1"),
        ((["new"], [[0, 0, 0]]), ValueError, r"\(1, 3\)"),
        ((["new"], [[0.0, 0.0]]), ValueError, "integers"),
        ((["new", "newer"], [[0, 0]]), ValueError, "2 item ids, 1 SIDs"),
        ((["new"], [[0, 0]], [1.0, 2.0]), ValueError, "2 popularities"),
        ((["new"], [[0, 0]], None, [["a"], ["b"]]), ValueError, "2 category paths"),
        (([7], [[0, 0]]), TypeError, "must be text, got int"),
    ],
)
def test_an_addition_that_does_not_fit_changes_nothing(arguments, error, words):
    index = tiny_index([[0, 1], [2, 3]], (3, 4), categories=[["a"], ["b"]])
    index.add_items(["old"], np.array([[1, 1]]), categories=[["c"]])
    state = index._state, index.categories, index.item_ids
    ids, codes, *rest = arguments
    with pytest.raises(error, match=words):
        index.add_items(ids, np.array(codes), *rest)
    assert (index._state, index.categories, index.item_ids) == state
    index.add_items(["new"], np.array([[0, 0]]))  # and it goes on
    assert len(index) == 4


def test_a_removal_that_does_not_fit_changes_nothing():
    index = tiny_index([[0, 1], [2, 3]], (3, 4))
    index.add_items(["new"], np.array([[0, 1]]))
    state = index._state
    with pytest.raises(KeyError, match="'item-9'"):
        index.remove_items(["item-0", "item-9"])
    with pytest.raises(ValueError, match="empty catalogue"):
        index.remove_items(["item-0", "new", "item-1"])
    assert index._state is state
    index.remove_items(["item-0", "item-1"])
    assert index.item_ids == ["new"] and hits_of(index, [(2, 3), (0, 1)]) == ["new"]
    with pytest.raises(KeyError, match="'item-0'"):
        index.remove_items(["item-0"])


# Files


@settings(max_examples=30)
@given(any_catalogues, st.data())
def test_an_index_survives_its_file(tmp_path_factory, catalogue, data):
    codes, codebook_sizes = catalogue
    text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
    text = text.filter(lambda one: one.split() == [one] and "\0" not in one)
    ids = data.draw(st.lists(text, min_size=len(codes), max_size=len(codes), unique=True))
    paths = [data.draw(st.sampled_from(PATHS)) for _ in ids]
    index = tiny_index(codes, codebook_sizes, ids, np.arange(len(codes)), fingerprint="däg", categories=paths)
    path = tmp_path_factory.mktemp("index") / "sid_index.safetensors"
    index.save(path)
    loaded = SidIndex.load(path)
    assert loaded.item_ids == ids and loaded.codebook_sizes == codebook_sizes and loaded.fingerprint == "däg"
    assert loaded.categories == index.categories and loaded._state.updates.paths.paths == index._state.updates.paths.paths
    assert np.array_equal(loaded.codes, codes) and np.array_equal(loaded.popularity, index.popularity)
    assert [loaded.sid_of(item_id) for item_id in ids] == [tuple(row) for row in codes.tolist()]
    assert hits_of(loaded, distinct(codes)) == hits_of(index, distinct(codes))
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_loaded_index_lies_in_its_file_even_when_that_is_gone(tmp_path):
    codebook_sizes = (64, 64, 32)
    codes = random_codes(60_000, codebook_sizes)
    path = tmp_path / SID_INDEX_NAME
    tiny_index(codes, codebook_sizes).save(path)
    loaded = SidIndex.load(path)
    large = {name: table for name, table in loaded._state.tables.tensors().items() if table.nbytes > 10_000}
    assert {"codes", "bucket_rows", "ids.data", "ids.hashes", "trie.codes.2"} <= set(large)
    assert all(lies_in(table, path) for table in large.values())
    other = tiny_index(codes[:100], codebook_sizes)
    other.save(path)  # another file of that name; the old one lives on where it is mapped
    assert len(SidIndex.load(path)) == 100
    path.unlink()
    rows = np.random.default_rng(0).integers(0, 60_000, 500)
    ids = [f"item-{row}" for row in rows.tolist()]
    assert np.array_equal(loaded.codes_of(ids), codes[rows]) and loaded.item_ids[-1] == "item-59999"
    assert set(ids[:5]) <= set(hits_of(loaded, list(map(tuple, codes[rows[:5]].tolist()))))
    loaded.add_items(["new"], codes[:1])
    loaded.save(tmp_path / "again.safetensors")
    assert len(SidIndex.load(tmp_path / "again.safetensors")) == 60_001


@pytest.mark.parametrize("name", [SID_INDEX_NAME, SID_UPDATES_NAME])
def test_a_damaged_or_foreign_file_is_named(tmp_path, name):
    index = tiny_index([[0, 1], [2, 3]], (3, 4))
    index.save(tmp_path / SID_INDEX_NAME)
    index.add_items(["new"], np.array([[1, 1]]))
    index.save_updates(tmp_path / SID_INDEX_NAME)
    whole = (tmp_path / name).read_bytes()
    for size in (0, 5, 20, len(whole) // 2, len(whole) - 1):
        (tmp_path / name).write_bytes(whole[:size])
        with pytest.raises(ValueError, match=f"{name}.*damaged"):
            SidIndex.load(tmp_path / SID_INDEX_NAME)
    save_file({"codes": np.zeros((1, 2), dtype=np.int32)}, tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} has format None"):
        SidIndex.load(tmp_path / SID_INDEX_NAME)
    with pytest.raises(FileNotFoundError, match="onesearch sids build"):
        SidIndex.load(tmp_path / "none.safetensors")


def test_updates_of_another_index_are_refused(tmp_path):
    paths = [tmp_path / name / SID_INDEX_NAME for name in ("one", "other")]
    for path, last in zip(paths, (2, 3)):
        path.parent.mkdir()
        index = tiny_index([[0, 1], [2, last]], (3, 4))
        index.save(path)
        index.add_items(["new"], np.array([[1, 1]]))
        index.save_updates(path)
    foreign = paths[1].with_name(SID_UPDATES_NAME)
    foreign.write_bytes(paths[0].with_name(SID_UPDATES_NAME).read_bytes())
    with pytest.raises(ValueError, match="other/sid_index_updates.safetensors belongs to another item index"):
        SidIndex.load(paths[1])
    with pytest.raises(ValueError, match="not the index that these updates belong to"):
        index.save_updates(paths[0])
    with pytest.raises(ValueError, match="not the index that these updates belong to"):
        tiny_index([[0, 1], [2, 3]], (3, 4)).save_updates(tmp_path / "none.safetensors")


def test_of_two_writers_the_second_is_told(tmp_path):
    path = tmp_path / SID_INDEX_NAME
    tiny_index([[0, 1], [2, 3]], (3, 4)).save(path)
    one, other, third = SidIndex.load(path), SidIndex.load(path), SidIndex.load(path)
    one.add_items(["one"], np.array([[1, 1]]))
    one.save_updates(path)
    one.save_updates(path)  # its own are no surprise
    other.add_items(["other"], np.array([[1, 1]]))
    with pytest.raises(ValueError, match="written by another process meanwhile"):
        other.save_updates(path)
    again = SidIndex.load(path)  # what the message asks for
    again.add_items(["other"], np.array([[1, 1]]))
    again.save_updates(path)
    assert SidIndex.load(path).item_ids == ["item-0", "item-1", "one", "other"]
    with pytest.raises(ValueError, match="written by another process meanwhile"):
        one.save_updates(path)
    again.save(path)
    third.add_items(["third"], np.array([[1, 1]]))
    with pytest.raises(ValueError, match="not the index that these updates belong to"):
        third.save_updates(path)
    assert SidIndex.load(path).item_ids == ["item-0", "item-1", "one", "other"]


def test_updates_that_were_merged_already_are_passed_over_time_and_again(tmp_path):
    """A process that dies after writing the merged index leaves the updates that are in it."""
    path = tmp_path / SID_INDEX_NAME
    index = tiny_index([[0, 1], [2, 3]], (3, 4))
    index.save(path)
    index.add_items(["new-0"], np.array([[1, 1]]))
    index.save_updates(path)
    left_over = path.with_name(SID_UPDATES_NAME).read_bytes()
    for turn in range(3):
        index.save(path)
        path.with_name(SID_UPDATES_NAME).write_bytes(left_over)  # as if it had died before it deleted them
        index = SidIndex.load(path)
        assert index.item_ids == ["item-0", "item-1", *(f"new-{number}" for number in range(turn + 1))]
        index.add_items([f"new-{turn + 1}"], np.array([[1, 1]]))
    index.save_updates(path)
    assert SidIndex.load(path).item_ids == index.item_ids


KILLED = """
import os, random, signal, sys, time
import numpy as np
from pathlib import Path
from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex

path, kills = Path(sys.argv[1]), int(sys.argv[2])
old = [f"item-{row}" for row in range(2000)]
codes = np.stack(np.unravel_index(np.arange(2000), (16, 16, 16)), axis=1)
SidIndex.build(old, codes, np.zeros(2000), (16, 16, 16), "fingerprint").save(path)

def after(count):
    "Items after so many updates: two are added one by one, then the first of both goes."
    gone = {2 * (turn // 3) for turn in range(count) if turn % 3 == 2}
    added = [2 * (turn // 3) + turn % 3 for turn in range(count) if turn % 3 < 2]
    return [*old, *(f"new-{number}" for number in added if number not in gone)]

def update(index, turn):
    number = 2 * (turn // 3)
    if turn % 3 == 2:
        index.remove_items([f"new-{number}"])
    else:
        index.add_items([f"new-{number + turn % 3}"], np.array([[turn % 16, 1, 2]]), categories=[["new", f"kind-{turn % 5}"]])

random.seed(0)
done = 0
for _ in range(kills):
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        index = SidIndex.load(path)
        for turn in range(done, done + 10_000):
            update(index, turn)
            if turn % 4 == 3:
                index.save(path)
            else:
                index.save_updates(path)
            os.write(writer, b".")
    os.close(writer)
    written = sum(len(os.read(reader, 1)) for _ in range(random.randint(1, 8)))
    time.sleep(random.uniform(0, 0.01))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    acknowledged = done + written + len(os.read(reader, 1 << 16))
    os.close(reader)
    index = SidIndex.load(path)  # raises if the files are damaged or do not fit together
    found = index.item_ids
    for count in (acknowledged, acknowledged + 1):
        if sorted(found) == sorted(after(count)):
            break
    else:
        raise AssertionError(f"{len(found)} items after {acknowledged} updates that were reported as written")
    done = count
print(done)
"""


@pytest.mark.parametrize("kills", [25, pytest.param(200, marks=pytest.mark.slow)])
def test_a_killed_process_leaves_an_index_with_every_update_it_had_written(tmp_path, kills):
    command = [sys.executable, "-I", "-c", KILLED, str(tmp_path / SID_INDEX_NAME), str(kills)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr[-3000:]
    assert {entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".")} <= {SID_INDEX_NAME, SID_UPDATES_NAME}


def test_a_model_takes_its_updates_along(tmp_path):
    model = tiny_model(CODEBOOK_SIZES, random_codes(40, CODEBOOK_SIZES))
    model.save_pretrained(tmp_path)
    model.sid_index.add_items(["new"], np.array([[7, 3, 3]]))
    model.sid_index.remove_items(["item-0"])
    model.sid_index.save_updates(tmp_path / SID_INDEX_NAME)
    assert json.loads((tmp_path / "config.json").read_text())["sid_codebook_sizes"] == list(CODEBOOK_SIZES)
    loaded = type(model).from_pretrained(tmp_path).eval()
    prompts = random_prompts(3)
    assert loaded.search(*prompts, 60, top_k=60) == model.search(*prompts, 60, top_k=60)
    assert loaded.sid_index.item_ids == [f"item-{row}" for row in range(1, 40)] + ["new"]
    loaded.save_pretrained(tmp_path / "merged")
    assert not (tmp_path / "merged" / SID_UPDATES_NAME).exists()
    merged = type(model).from_pretrained(tmp_path / "merged").eval()
    assert merged.search(*prompts, 60, top_k=60) == model.search(*prompts, 60, top_k=60)


def test_an_index_takes_over_the_updates_of_other_processes(tmp_path):
    path = tmp_path / "index" / SID_INDEX_NAME
    path.parent.mkdir()
    tiny_index(random_codes(12, CODEBOOK_SIZES), CODEBOOK_SIZES).save(path)
    own, other = SidIndex.load(path), SidIndex.load(path)
    before = own.item_ids
    assert not own.refresh() and own.revision == 0
    other.add_items(["new"], [(1, 2, 3)])
    other.save_updates(path)
    assert own.refresh() and own.item_ids == [*before, "new"] and own.revision == 1 and not own.refresh()
    other.remove_items([before[0]])
    other.save(path)  # merges, so that both files change
    assert own.refresh() and own.item_ids == [*before[1:], "new"] and own.revision == 0
    own.remove_items(["new"])
    with pytest.raises(ValueError, match="items that are in no file; write them with save or save_updates"):
        own.refresh()
    own.save_updates(path)
    assert not own.refresh()
    SidIndex.build(["a"], [(0, 0, 0)], [0], CODEBOOK_SIZES, "other codebooks").save(path)
    with pytest.raises(ValueError, match="belongs to other codebooks now"):
        own.refresh()
    assert own.item_ids == before[1:]
