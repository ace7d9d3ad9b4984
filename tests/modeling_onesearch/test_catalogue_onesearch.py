"""Look-up in the item index and its hits, copies and concurrent searches, against plain lists of items."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import catalogues, distinct
from tiny import random_codes, random_prompts, tiny_index, tiny_model

from onesearch import Hit, SidIndex
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME
from onesearch.modeling_onesearch.locks_onesearch import index_locked
from onesearch.modeling_onesearch.trie_onesearch import SidTrie

CODEBOOK_SIZES = (8, 4, 4)


def log_share(codes, popularity, row):
    """An item's share of its SID's popularity, one added to each."""
    return np.log(
        (popularity[row] + 1) / sum(popularity[other] + 1 for other in range(len(codes)) if (codes[other] == codes[row]).all())
    )


# Reading


@settings(max_examples=40)
@given(catalogues(), st.data())
def test_hits_follow_beam_order_then_popularity(catalogue, data):
    codes, codebook_sizes = catalogue
    popularity = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(codes), max_size=len(codes))), dtype=np.float32)
    top_k, items_per_sid = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 4))
    index = tiny_index(codes, codebook_sizes, popularity=popularity)
    beams = [list(sid) for sid in data.draw(st.permutations(distinct(codes)))]
    scores = [-float(place) for place in range(len(beams))]
    leaves = index.trie.leaf_of(index.trie.walk(torch.tensor(beams)))
    (hits,) = index.hits(leaves[None], torch.tensor([scores]), top_k, items_per_sid)
    expected = []
    for sid, score in zip(beams, scores):
        rows = [row for row, other in enumerate(codes.tolist()) if other == sid]
        rows.sort(key=lambda row: (-popularity[row], row))
        expected += [Hit(f"item-{row}", tuple(sid), score) for row in rows[:items_per_sid]]
    assert hits == expected[:top_k]
    (by_item,) = index.hits(leaves[None], torch.tensor([scores]), top_k, items_per_sid, rank_by="item")
    own = [replace(hit, score=hit.score + log_share(codes, popularity, int(hit.item_id[5:]))) for hit in expected]
    assert [hit.item_id for hit in by_item] == [hit.item_id for hit in sorted(own, key=lambda hit: -hit.score)][:top_k]
    assert [hit.score for hit in by_item] == pytest.approx(sorted((hit.score for hit in own), reverse=True)[:top_k])
    assert index.items_of(leaves.tolist(), items_per_sid) == [
        [hit.item_id for hit in expected if hit.sid == tuple(sid)] for sid in beams
    ]


def test_beams_without_a_sid_or_an_item_give_no_hit():
    index = tiny_index([[0, 1], [2, 3]], (3, 4))
    leaves = index.trie.leaf_of(index.trie.walk(torch.tensor([[1, 1], [2, 3], [0, 1]])))
    (hits,) = index.hits(leaves[None], torch.tensor([[-1.0, -2.0, float("-inf")]]), top_k=10)
    assert hits == [Hit("item-1", (2, 3), -2.0)]


def test_an_index_names_what_it_does_not_hold():
    index = tiny_index([[0, 1], [2, 3]], (3, 4))
    with pytest.raises(KeyError, match="'item-7'.*2 items"):
        index.codes_of(["item-0", "item-7"])
    assert index.codes_of([]).shape == (0, 2) and index.rows_of(["item-1", "item-0"]).tolist() == [1, 0]
    assert index.categories == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"item_ids": ["a"]}, "1 item ids, 2 SIDs"),
        ({"popularity": np.zeros(3)}, "3 popularities"),
        ({"categories": [["a"]]}, "1 category paths for 2 items"),
        ({"item_ids": ["a", "a"]}, "'a' comes twice"),
    ],
)
def test_tables_of_different_lengths_are_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        tiny_index([[0, 1], [2, 3]], (3, 4), **changes)


# Copies and threads


def test_copies_of_a_model_share_the_tables_and_not_the_updates():
    model = tiny_model(CODEBOOK_SIZES, random_codes(40, CODEBOOK_SIZES))
    other = copy.deepcopy(model)
    ours, theirs = model.sid_index, other.sid_index
    assert ours is not theirs and ours._state.tables is theirs._state.tables
    assert other.lm_head.weight is not model.lm_head.weight
    ours.add_items(["new"], np.array([[0, 0, 0]]), categories=[["a"]])
    theirs.remove_items(["item-3"])
    assert len(ours) == 41 and len(theirs) == 39 and theirs.categories == []
    assert "new" not in theirs.item_ids and "item-3" in ours.item_ids
    theirs.add_items(["new"], np.array([[1, 1, 1]]))
    assert ours.sid_of("new") == (0, 0, 0) and theirs.sid_of("new") == (1, 1, 1)


def test_a_snapshot_does_not_see_updates():
    index = tiny_index(random_codes(40, CODEBOOK_SIZES), CODEBOOK_SIZES)
    held = index.snapshot()
    index.remove_items(["item-3"])
    index.add_items(["new"], np.array([[0, 0, 0]]), categories=[["a"]])
    assert held.item_ids == [f"item-{row}" for row in range(40)] and held.categories == []
    assert "item-3" not in index.item_ids and "new" in index.item_ids


@pytest.fixture
def often_switching():
    """Threads change places as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def in_threads(*tasks):
    """Run all tasks at once; the first error of any is raised."""
    errors = []

    def run(task):
        try:
            task()
        except BaseException as error:  # noqa: BLE001 - handed on
            errors.append(error)

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_a_search_sees_the_catalogue_before_or_after_an_update(often_switching):
    """An item moves from one SID to another and back: searches find it once, wherever it is, and never half of it."""
    codes = random_codes(40, CODEBOOK_SIZES)
    model = tiny_model(CODEBOOK_SIZES, codes)
    prompts = random_prompts(1)
    index, done = model.sid_index, threading.Event()
    index.add_items(["pair-0", "pair-1"], np.array([[0, 0, 0], [7, 3, 3]]))
    expected = {*(f"item-{row}" for row in range(40)), "pair-0", "pair-1"}

    def update():
        try:
            for turn in range(60):
                index.remove_items(["pair-0", "pair-1"])
                place = [[turn % 8, 0, 0], [7 - turn % 8, 3, 3]]
                index.add_items(["pair-0", "pair-1"], np.array(place))
        finally:
            done.set()

    def search():
        while not done.is_set():
            (hits,) = model.search(*prompts, 60, top_k=100)
            items = [hit.item_id for hit in hits]
            assert len(items) == len(set(items)) and set(items) in (expected, expected - {"pair-0", "pair-1"})

    in_threads(update, search, search)
    assert set(index.item_ids) == expected


def test_searches_of_one_trie_do_not_disturb_each_other(often_switching):
    """Moving a trie to where it is already is no change, so it may happen during another thread's walk."""
    codes = random_codes(40, CODEBOOK_SIZES)
    trie = SidTrie.build(codes, CODEBOOK_SIZES)
    expected = trie.walk(torch.from_numpy(codes)).tolist()

    def walk():
        for _ in range(300):
            assert trie.to("cpu").walk(torch.from_numpy(codes)).tolist() == expected

    in_threads(walk, walk, walk)


def test_no_update_is_lost_while_another_thread_saves(often_switching, tmp_path):
    index = tiny_index(random_codes(40, CODEBOOK_SIZES), CODEBOOK_SIZES)
    done = threading.Event()

    def update():
        try:
            for turn in range(150):
                index.add_items([f"new-{turn}"], np.array([[turn % 8, 0, 0]]))
        finally:
            done.set()

    def save():
        while not done.is_set():
            index.save(tmp_path / SID_INDEX_NAME)

    in_threads(update, save)
    assert set(index.item_ids) >= {f"new-{turn}" for turn in range(150)}
    index.save(tmp_path / SID_INDEX_NAME)
    assert set(SidIndex.load(tmp_path / SID_INDEX_NAME).item_ids) == set(index.item_ids)


def test_filtered_searches_run_beside_updates(often_switching):
    """Each search sees the state that its filter was made for: no error, no invalid SID, no item outside the filter."""
    codes = random_codes(40, CODEBOOK_SIZES)
    model = tiny_model(CODEBOOK_SIZES)
    index = tiny_index(codes, CODEBOOK_SIZES, categories=[[f"kind-{row % 4}"] for row in range(40)])
    model.set_sid_index(index)
    prompts, done = random_prompts(2), threading.Event()
    kinds = {f"kind-{kind}": {f"item-{row}" for row in range(kind, 40, 4)} for kind in range(4)}

    def update():
        try:
            for turn in range(60):
                place = [[turn % 8, 0, 0], [7 - turn % 8, 3, 3]]
                index.add_items(["pair-0", "pair-1"], np.array(place), categories=[["kind-1"]] * 2)
                index.remove_items(["item-1" if turn % 2 else "item-5"])
                index.add_items(["item-1" if turn % 2 else "item-5"], codes[[1 if turn % 2 else 5]], categories=[["kind-1"]])
                index.remove_items(["pair-0", "pair-1"])
        finally:
            done.set()

    def search():
        turn = 0
        while not done.is_set():
            turn += 1
            item_filter = index.filter(
                **[{"exclude": ["item-7", "pair-0"]}, {"categories": ["kind-1"]}, {"items": ["item-2"]}][turn % 3]
            )
            held = item_filter.state.item_ids()
            found = model.retrieve(*prompts, 60, top_k=100, item_filter=item_filter)
            assert found.invalid == [0, 0]
            for hits in found.hits:
                items = [hit.item_id for hit in hits]
                assert len(items) == len(set(items))
                if turn % 3 == 0:
                    assert set(items) == set(held) - {"item-7", "pair-0"}
                elif turn % 3 == 1:
                    assert set(items) == set(held) & (kinds["kind-1"] | {"pair-0", "pair-1"})
                else:
                    assert items == ["item-2"]

    in_threads(update, search, search)


# Pickles and processes


def updated_model():
    model = tiny_model(CODEBOOK_SIZES, random_codes(40, CODEBOOK_SIZES))
    model.sid_index.add_items(["new"], np.array([[0, 0, 0]]), categories=[["a"]])
    model.sid_index.remove_items(["item-3"])
    return model


def check_same_hits(found, expected):
    """The same items and SIDs; scores may differ in the last digit, since tensors lie elsewhere in memory."""
    for one, other in zip(found, expected, strict=True):
        assert [(hit.item_id, hit.sid) for hit in one] == [(hit.item_id, hit.sid) for hit in other]
        assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-5)


def test_an_index_and_its_model_can_be_pickled(tmp_path):
    model, prompts = updated_model(), random_prompts(2)
    other = pickle.loads(pickle.dumps(model))  # noqa: S301 - our own bytes
    check_same_hits(other.search(*prompts, 60, top_k=60), model.search(*prompts, 60, top_k=60))
    other.sid_index.remove_items(["new"])
    assert "new" in model.sid_index.item_ids and "new" not in other.sid_index.item_ids
    model.sid_index.save(tmp_path / SID_INDEX_NAME)
    loaded = pickle.loads(pickle.dumps(SidIndex.load(tmp_path / SID_INDEX_NAME)))  # noqa: S301 - our own bytes
    loaded.add_items(["newer"], np.array([[1, 1, 1]]))
    loaded.save_updates(tmp_path / SID_INDEX_NAME)  # the copy knows which files it belongs to
    assert SidIndex.load(tmp_path / SID_INDEX_NAME).item_ids == loaded.item_ids


def test_a_model_searches_in_spawned_processes():
    model, prompts = updated_model(), random_prompts(2)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.apply(model.search, (*prompts, 60, 60))
    check_same_hits(found, model.search(*prompts, 60, 60))


def test_a_child_that_is_forked_during_an_update_can_update(tmp_path):
    """The thread that holds the locks does not exist in the child."""
    index, path = tiny_index(random_codes(40, CODEBOOK_SIZES), CODEBOOK_SIZES), tmp_path / "folder" / SID_INDEX_NAME
    path.parent.mkdir()
    index.save(path)
    held, done = threading.Event(), threading.Event()

    def hold():
        with index_locked(path), index._lock:
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(60)
    if (child := os.fork()) == 0:
        signal.alarm(30)  # a child that hangs is killed
        index.add_items(["child"], np.array([[0, 0, 0]]))
        os._exit(0 if index.item_ids[-1] == "child" else 1)
    assert os.waitpid(child, 0)[1] == 0
    if (child := os.fork()) == 0:
        signal.alarm(30)
        try:
            with index_locked(path, timeout=0.2):  # still the parent's
                os._exit(1)
        except TimeoutError:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    done.set()
    holder.join()
    index.add_items(["parent"], np.array([[0, 0, 0]]))
    index.save_updates(path)
    assert "child" not in index.item_ids and SidIndex.load(path).item_ids[-1] == "parent"
