"""Item ids by row and back, and packed strings."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesearch.modeling_onesearch import columns_onesearch as columns
from onesearch.modeling_onesearch.columns_onesearch import ItemIds, gather, strings_from_arrays, strings_to_arrays

texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=1, max_size=30, unique=True)


# Item ids


@given(texts, st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=5))
def test_every_id_is_found_at_its_row_and_no_other_is(item_ids, others):
    ids = ItemIds.of(item_ids)
    assert len(ids) == len(item_ids) and [ids[row] for row in range(len(ids))] == item_ids
    asked = [*item_ids, *others, *item_ids[::-1]]
    expected = [item_ids.index(item_id) if item_id in item_ids else -1 for item_id in asked]
    for _ in range(2):  # the second time from memory
        assert ids.find(asked).tolist() == expected
    assert ids.find([]).shape == (0,) and ids.find(asked).dtype == np.int64


@given(item_ids=texts)
def test_ids_whose_hashes_collide_are_told_apart(item_ids):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "hash_strings", lambda data, ends: np.zeros(len(ends), np.int64))
        ids = ItemIds.of(item_ids)
        assert [ids[row] for row in range(len(ids))] == item_ids
        assert ids.find([*item_ids, "not there at all"]).tolist() == [*range(len(item_ids)), -1]
        assert ids.find(item_ids[::-1]).tolist() == list(range(len(item_ids)))[::-1]


def test_an_id_that_comes_twice_is_named(monkeypatch):
    for _ in range(2):
        with pytest.raises(ValueError, match="'schuh-ü' comes twice"):
            ItemIds.of(["a", "schuh-ü", "b", "", "schuh-ü"])
        with pytest.raises(ValueError, match="'' comes twice"):
            ItemIds.of(["a", "", "b", ""])
        monkeypatch.setattr(columns, "hash_strings", lambda data, ends: np.zeros(len(ends), np.int64))  # the second time


@pytest.mark.parametrize("wrong", [7, b"a", None, ("a",), np.int64(3)])
def test_ids_that_are_no_text_are_refused(wrong):
    with pytest.raises(TypeError, match="must be text, got"):
        ItemIds.of(["a", wrong])
    with pytest.raises(TypeError, match="must be text, got"):
        ItemIds.of(["a", "b"]).find(["a", wrong])


def test_a_hundred_thousand_ids_are_found(monkeypatch):
    random = np.random.default_rng(0)
    numbers = np.unique(random.integers(0, 1 << 62, 100_000))
    item_ids = [f"{number:x}" + "é" * (number % 3) for number in random.permutation(numbers).tolist()]
    monkeypatch.setattr(columns, "CHUNK", 30_000)  # several chunks, the last one shorter
    ids = ItemIds.of(item_ids)
    assert len(np.unique(ids.hashes)) == len(item_ids)  # 64 bits: none alike
    order = random.permutation(len(item_ids))
    assert np.array_equal(ids.find([item_ids[row] for row in order]), order)
    assert (ids.find([item_id + "x" for item_id in item_ids[:1000]]) == -1).all()
    again = ItemIds(ids.data, ids.ends, ids.hashes, ids.rows)
    assert np.array_equal(again.find(item_ids[:1000]), np.arange(1000))


def test_the_hash_of_an_id_does_not_depend_on_its_company(monkeypatch):
    item_ids = ["", "a", "", "ab", "ba", "a" * 300, "ü", ""]
    together = columns.hash_strings(*columns.pack_strings(item_ids))
    for chunk in (1, 2, 3, 100):
        monkeypatch.setattr(columns, "CHUNK", chunk)
        assert np.array_equal(columns.hash_strings(*columns.pack_strings(item_ids)), together)
    assert [int(columns.hash_strings(*columns.pack_strings([item_id]))[0]) for item_id in item_ids] == together.tolist()
    assert len(set(together.tolist())) == len(set(item_ids))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), max_size=9))
def test_strings_survive_packing(strings):
    assert strings_from_arrays("names", strings_to_arrays("names", strings)) == strings


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=9), st.lists(st.integers(-9, 9), max_size=9), st.data())
def test_a_column_continues_in_its_added_entries(own, added, data):
    rows = data.draw(st.lists(st.integers(0, len(own) + len(added) - 1), max_size=9))
    found = gather(np.array(own, np.int16), np.array(added, np.int64), np.array(rows, np.int64))
    assert found.tolist() == [[*own, *added][row] for row in rows] and found.dtype == np.int16
    names, more = [f"old {row}" for row in range(len(own))], [f"new {row}" for row in range(len(added))]
    assert ItemIds.of(names).at(rows, more) == [[*names, *more][row] for row in rows]
