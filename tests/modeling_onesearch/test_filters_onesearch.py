"""Item filters against plain lists of items."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import PATHS, CatalogueOracle, catalogues, distinct, hits_of
from tiny import tiny_index

from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME


@st.composite
def filtered(draw):
    """A catalogue with categories and some updates, and the conditions of a filter."""
    codes, codebook_sizes = draw(catalogues())
    paths = draw(st.lists(st.sampled_from(PATHS), min_size=len(codes), max_size=len(codes)))
    oracle = CatalogueOracle(codebook_sizes, codes, [0.0] * len(codes), paths)
    index = tiny_index(codes, codebook_sizes, categories=paths)
    if draw(st.booleans()) and len(codes) > 1:
        gone = draw(st.lists(st.sampled_from(oracle.ids), max_size=len(codes) - 1, unique=True))
        index.remove_items(gone), oracle.remove(gone)
    if draw(st.booleans()):
        sid = st.tuples(*(st.integers(0, size - 1) for size in codebook_sizes))
        new = draw(st.lists(sid, min_size=1, max_size=5))
        more = [f"new-{row}" for row in range(len(new))], np.array(new), np.zeros(len(new))
        paths = draw(st.lists(st.sampled_from(PATHS), min_size=len(new), max_size=len(new)))
        index.add_items(*more, paths), oracle.add(*more, paths)
    pick = st.lists(st.sampled_from(oracle.ids), max_size=20, unique=True)
    return index, oracle, draw(st.none() | pick), draw(st.none() | pick), draw(st.booleans())


@settings(max_examples=60)
@given(filtered(), st.data())
def test_a_filter_keeps_what_passes_every_condition(case, data):
    index, oracle, items, exclude, as_mask = case
    names = None
    if index.categories:
        names = data.draw(st.none() | st.lists(st.sampled_from(index.categories), min_size=1, max_size=2))
    assert set(index.categories) <= {name for path in PATHS for name in path}
    passing = [
        item_id
        for item_id, path in zip(oracle.ids, oracle.paths)
        if (items is None or item_id in items)
        and not (exclude and item_id in exclude)
        and (names is None or set(names) & set(path))
    ]
    allowed = items
    if as_mask and items is not None:
        allowed = np.zeros(len(index.filter().mask), dtype=bool)
        allowed[index.rows_of(items)] = True
    if not passing:
        with pytest.raises(ValueError, match="keeps no item"):
            index.filter(allowed, exclude, names)
        return
    item_filter = index.filter(allowed, [*exclude, "unheard of"] if exclude else exclude, names)
    assert index.checked(item_filter) is item_filter
    assert item_filter.mask[index.rows_of(passing)].all() and item_filter.mask.sum() == len(passing)
    sids = distinct(oracle.codes)
    sid_of = dict(zip(oracle.ids, map(tuple, oracle.codes)))
    assert sorted(hits_of(index, sids, item_filter=item_filter)) == sorted(passing)
    leaves = item_filter.trie.leaf_of(item_filter.trie.walk(torch.tensor(sids))).tolist()
    assert [leaf >= 0 for leaf in leaves] == [sid in {sid_of[one] for one in passing} for sid in sids]


def test_a_filter_that_does_not_fit_says_why():
    index = tiny_index([[0, 1], [2, 3]], (3, 4), categories=[["shoes", "boots"], ["coats"]])
    with pytest.raises(ValueError, match=r"'boot' is on no item's path; the index has 3 categories, such as \['boots'\]"):
        index.filter(categories=["coats", "boot"])
    with pytest.raises(ValueError, match=r"'xyz'.*\['boots', 'coats', 'shoes'\]"):
        index.filter(categories=["xyz"])
    with pytest.raises(TypeError, match="'boots'"):
        index.filter(categories="boots")
    with pytest.raises(KeyError, match="'item-7'"):
        index.filter(items=["item-7"])
    with pytest.raises(ValueError, match=r"\(3,\), the catalogue 2 rows"):
        index.filter(items=np.ones(3, dtype=bool))
    for nothing in ({"items": []}, {"exclude": ["item-0", "item-1"]}, {"items": ["item-1"], "categories": ["shoes"]}):
        with pytest.raises(ValueError, match="keeps no item"):
            index.filter(**nothing)


@pytest.mark.parametrize("change", ["add", "remove", "save"])
def test_a_filter_stays_with_the_state_that_it_was_made_for(change, tmp_path):
    index = tiny_index([[0, 1], [2, 3], [2, 3]], (3, 4))
    item_filter = index.filter(exclude=["item-0"])
    if change != "remove":
        index.add_items(["new"], np.array([[2, 3]]))
    if change != "add":
        index.remove_items(["item-1"])
    if change == "save":
        index.save(tmp_path / SID_INDEX_NAME)  # which numbers the rows anew
    leaves = item_filter.trie.leaf_of(item_filter.trie.walk(torch.tensor([[0, 1], [2, 3]])))
    (hits,) = index.hits(leaves[None], torch.tensor([[-1.0, -2.0]]), 10, item_filter=item_filter)
    assert [hit.item_id for hit in hits] == ["item-1", "item-2"]
    expected = {"add": ["item-1", "item-2", "new"], "remove": ["item-2"], "save": ["item-2", "new"]}[change]
    assert hits_of(index, [(0, 1), (2, 3)], item_filter=index.filter(exclude=["item-0"])) == expected


def test_a_filter_of_other_codebooks_is_refused():
    index, other = tiny_index([[0, 1], [2, 3]], (3, 4)), tiny_index([[0, 1], [2, 3]], (3, 4), fingerprint="other")
    with pytest.raises(ValueError, match="catalogue of other codebooks"):
        hits_of(index, [(0, 1)], item_filter=other.filter(exclude=["item-0"]))


@pytest.mark.parametrize(
    "wrong", ["item-0", {"item-0"}, (one for one in ["item-0"]), {"item-0": 1}, b"item-0", [["item-0"]], [7]]
)
def test_a_filter_takes_lists_of_texts_and_nothing_else(wrong):
    index = tiny_index([[0, 1], [2, 3]], (3, 4), categories=[["item-0"], ["coats"]])
    for name in ("items", "exclude", "categories"):
        with pytest.raises(TypeError, match=rf"{name} must be (a list|text), got"):
            index.filter(**{name: wrong})
    assert index.filter(items=np.array(["item-0"])).mask.tolist() == [True, False]
    assert index.filter(exclude=("item-0",)).mask.tolist() == [False, True]


def test_equal_arguments_give_the_same_filter_until_the_next_update():
    index = tiny_index(np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), (2, 2), categories=[["a"], ["a", "b"], ["b"], []])
    mask = np.array([True, True, False, False])
    by_mask, by_ids = index.filter(mask), index.filter(["item-0", "item-1"])
    excluded, by_category = index.filter(exclude=["item-0"]), index.filter(categories=["b"])
    assert index.filter(mask.copy()) is by_mask
    assert index.filter(("item-0", "item-1")) is by_ids
    assert index.filter(exclude=["item-0"]) is index.snapshot().filter(exclude=["item-0"]) is excluded
    assert index.filter(categories=["b"]) is by_category
    assert np.flatnonzero(by_category.mask).tolist() == [1, 2]
    mask[2] = True  # the caller's own mask may change
    assert index.filter(mask).mask.tolist() == [True, True, True, False]
    assert by_mask.mask.tolist() == [True, True, False, False]
    index.add_items(["new"], np.array([[0, 0]]), categories=[["b"]])
    assert np.flatnonzero(index.filter(categories=["b"]).mask).tolist() == [1, 2, 4]
    with pytest.raises(ValueError, match="keeps no item"):
        index.filter([])


def test_a_catalogue_keeps_its_latest_filters_and_no_more():
    index = tiny_index(np.array([[0, 0], [0, 1], [1, 0]]), (2, 2))
    filters = index._state.filters
    filters.most = 2
    first = index.filter(["item-0"])
    index.filter(["item-1"])
    assert index.filter(["item-0"]) is first
    index.filter(["item-2"])
    assert index.filter(["item-0"]) is not first
    assert copy.deepcopy(filters).get("key", lambda: first) is first  # a copy starts empty
