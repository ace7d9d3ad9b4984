"""Lists of texts, item ids, popularity and category paths: what is taken, and what is refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_index

from onesearch import SidIndex
from onesearch.modeling_onesearch.sequences_onesearch import (
    checked_item_ids,
    checked_paths,
    checked_popularity,
    checked_texts,
)

NO_LISTS = ["ab", b"ab", {"ab"}, frozenset({"ab"}), {"ab": 1}, iter(["ab"]), (one for one in ["ab"]), {"ab": 1}.keys(), None, 7]


@pytest.mark.parametrize("wrong", NO_LISTS, ids=lambda wrong: type(wrong).__name__)
def test_what_only_looks_like_a_list_is_refused_at_every_door(wrong):
    index = tiny_index([[0, 1], [2, 3]], (3, 4), ["a", "b"])
    with pytest.raises(TypeError, match=f"item ids must be a list, got {type(wrong).__name__}"):
        index.remove_items(wrong)
    with pytest.raises(TypeError, match=f"item ids must be a list, got {type(wrong).__name__}"):
        index.add_items(wrong, np.array([[1, 1], [1, 1]]))
    with pytest.raises(TypeError, match=f"item ids must be a list, got {type(wrong).__name__}"):
        SidIndex.build(wrong, np.array([[1, 1], [1, 1]]), np.zeros(2), (3, 4), "fingerprint")
    for door in (index.codes_of, index.rows_of, index.contains):
        with pytest.raises(TypeError, match=f"item ids must be a list, got {type(wrong).__name__}"):
            door(wrong)
    if wrong is not None:
        with pytest.raises(TypeError, match=f"categories must be a list, got {type(wrong).__name__}"):
            index.add_items(["c"], np.array([[1, 1]]), categories=wrong)
    with pytest.raises(TypeError, match=f"category path at place 0 must be a list, got {type(wrong).__name__}"):
        index.add_items(["c"], np.array([[1, 1]]), categories=[wrong])
    assert index.item_ids == ["a", "b"] and index.categories == []


def test_lists_tuples_and_arrays_are_taken():
    for values in (["a", "b"], ("a", "b"), np.array(["a", "b"]), np.array(["a", "b"], dtype=object)):
        assert checked_texts(values, "names") == ["a", "b"]
    assert checked_texts([], "names") == [] and checked_item_ids([]) == []
    with pytest.raises(TypeError, match="names must be text, got int at place 1: 7"):
        checked_texts(["a", 7], "names")


@pytest.mark.parametrize("wrong", ["", " ", "a b", "a\n", "\ta", "a\0b", "a\u00a0b", "a\u2028b", "\x1c", "\ud800"])
def test_an_id_that_a_file_cannot_hold_is_refused(wrong):
    for ids in ([wrong], ["x", wrong], [wrong, "x", "y"]):
        with pytest.raises(ValueError, match=f"at place {ids.index(wrong)} is empty, or holds white space"):
            checked_item_ids(ids)
    index = tiny_index([[0, 1]], (3, 4))
    with pytest.raises(ValueError, match="item id"):
        index.add_items([wrong], np.array([[1, 1]]))
    with pytest.raises(ValueError, match="item id"):
        tiny_index([[0, 1]], (3, 4), [wrong])
    assert index.item_ids == ["item-0"]


@given(st.lists(st.text(max_size=5), max_size=5))
def test_ids_pass_exactly_if_each_of_them_does(ids):
    allowed = all(one.split() == [one] and "\0" not in one for one in ids)
    allowed = allowed and all(not any("\ud800" <= letter <= "\udfff" for letter in one) for one in ids)
    if allowed:
        assert checked_item_ids(ids) == ids
    else:
        with pytest.raises(ValueError, match="at place"):
            checked_item_ids(ids)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ([1.0, None], "place 1 is None"),
        ([1.0, float("nan")], "place 1 is nan"),
        ([float("inf"), 1.0], "place 0 is inf"),
        ([1.0, 1e300], r"place 1 is 1e\+300"),
        ([1.0, "2"], "place"),
        (np.array(["1", "2"]), "place 0 is .*'1'"),
        ([True, False], "must be a number"),
        ([[1.0], [2.0]], "counts must agree|place"),
        ([1.0], "1 popularities for 2 items"),
        (1.0, "popularity must be a list"),
        ("12", "popularity must be a list"),
    ],
)
def test_popularity_that_is_no_finite_number_is_refused(wrong, words):
    index = tiny_index([[0, 1]], (3, 4))
    with pytest.raises((ValueError, TypeError), match=words):
        index.add_items(["a", "b"], np.array([[1, 1], [1, 1]]), wrong)
    with pytest.raises((ValueError, TypeError), match=words):
        SidIndex.build(["a", "b"], np.array([[1, 1], [1, 1]]), wrong, (3, 4), "fingerprint")
    assert len(index) == 1


def test_popularity_of_whole_numbers_and_none_is_taken():
    assert checked_popularity(None, 2).tolist() == [0, 0]
    assert checked_popularity([1, 2.5], 2).dtype == np.float32
    assert checked_popularity(np.array([1, 7]), 2).tolist() == [1, 7]


def test_category_paths_are_lists_of_names():
    assert checked_paths([["a", "b"], (), ("c",)], 3) == [("a", "b"), (), ("c",)]
    assert checked_paths(None, 3) is None
    for wrong in ([["a", ""]], [[" "]], [["\ud800"]]):
        with pytest.raises(ValueError, match="holds an empty or broken name"):
            checked_paths(wrong, 1)
    for wrong in ([["a", None]], [[7]], [("a", float("nan"))]):
        with pytest.raises(TypeError, match="must be text"):
            checked_paths(wrong, 1)


@pytest.mark.parametrize("sizes", [(1 << 31,), (1 << 33, 4), (0,), (-1, 4), (2.5,), (True,), ("3",), "34", ()])
def test_codebook_sizes_that_codes_of_32_bits_cannot_reach_are_refused(sizes):
    with pytest.raises(ValueError, match="codebook"):
        SidIndex.build(["a"], np.zeros((1, len(sizes)), dtype=np.int64), np.zeros(1), sizes, "fingerprint")


def test_codes_are_never_cut_or_spread():
    index = tiny_index([[0, 1, 2]], (3, 4, 5))
    for codes in ([[1 << 32, 0, 0]], [[(1 << 32) + 1, 0, 0]], np.array([[1 << 63, 0, 0]], dtype=np.uint64)):
        with pytest.raises(ValueError, match=r"outside 0\.\.2"):
            index.add_items(["a"], np.array(codes))
    for codes in ([[0, 1, 2, 0, 1, 2]], [0, 1, 2, 0, 1, 2], [[[0, 1, 2]]]):
        with pytest.raises(ValueError, match="codes have shape"):
            index.add_items(["a"], np.array(codes))
    with pytest.raises(ValueError, match="2 item ids, 1 SIDs"):
        index.add_items(["a", "b"], np.array([[0, 1, 2]]))
    assert len(index) == 1
