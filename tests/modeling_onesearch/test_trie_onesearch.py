"""Tries and their views, against brute force over plain sets of SIDs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import any_catalogues, catalogues, children, distinct, prefixes_of, tensor, tries

from onesearch import SidTrie
from onesearch.modeling_onesearch.active_sids_onesearch import ActiveSids
from onesearch.modeling_onesearch.trie_building_onesearch import SortedSids
from onesearch.modeling_onesearch.trie_onesearch import NONE
from onesearch.modeling_onesearch.trie_view_onesearch import SUBSET_SHARE, TrieView, pack, restrict, unpack

few = settings(max_examples=25)


def same_tables(one, other):
    ours, theirs = one.tensors(), other.tensors()
    assert list(ours) == list(theirs) and one.codebook_sizes == other.codebook_sizes
    return all(torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype for name in ours)


def sharing(sids, prefix):
    return sum(sid[: len(prefix)] == prefix for sid in sids)


# SidTrie


@few
@given(any_catalogues)
def test_every_sid_walks_and_nothing_else_does(catalogue):
    codes, codebook_sizes = catalogue
    trie = SidTrie.build(codes, codebook_sizes)
    sids = distinct(codes)
    assert len(trie) == len(sids) and trie.levels == len(codebook_sizes) and trie.device.type == "cpu"
    assert sorted(trie.leaf_of(trie.walk(tensor(sids, len(codebook_sizes)))).tolist()) == list(range(len(sids)))
    for depth in range(len(codebook_sizes) + 1):
        prefixes = prefixes_of(sids, codebook_sizes, depth)
        states = trie.walk(tensor(prefixes, depth))
        counts = [sharing(sids, prefix) for prefix in prefixes]
        assert [state != NONE for state in states.tolist()] == [count > 0 for count in counts]
        assert trie.is_open(states).tolist() == [count > 1 or not depth for count in counts]
        named = trie.sids_of(trie.leaf_of(states)).tolist()
        assert [tuple(sid[:depth]) == prefix and sid[0] >= 0 for sid, prefix in zip(named, prefixes)] == [
            count == 1 and depth > 0 for count in counts
        ]


@few
@given(any_catalogues)
def test_expand_gives_exactly_the_children(catalogue):
    codes, codebook_sizes = catalogue
    trie = SidTrie.build(codes, codebook_sizes)
    check_children(trie, distinct(codes), codebook_sizes)


def check_children(trie, sids, codebook_sizes):
    for level in range(len(codebook_sizes)):
        prefixes = prefixes_of(sids, codebook_sizes, level)
        row, code, child = trie.expand(level, trie.walk(tensor(prefixes, level)))  # unknown prefixes are among them, as -1
        assert row.tolist() == sorted(row.tolist())
        found = [[] for _ in prefixes]
        for parent, value in zip(row.tolist(), code.tolist()):
            found[parent].append(value)
        assert list(map(sorted, found)) == [children(sids, prefix) for prefix in prefixes]
        extended = [(*prefixes[parent], value) for parent, value in zip(row.tolist(), code.tolist())]
        assert trie.walk(tensor(extended, level + 1)).tolist() == child.tolist()


@few
@given(any_catalogues, st.data())
def test_child_is_one_step_of_walk_and_knows_no_code_outside_the_level(catalogue, data):
    codes, codebook_sizes = catalogue
    trie = SidTrie.build(codes, codebook_sizes)
    sids = distinct(codes)
    level = data.draw(st.integers(0, len(codebook_sizes) - 1))
    prefixes = prefixes_of(sids, codebook_sizes, level)
    states = trie.walk(tensor(prefixes, level))
    step = torch.tensor(
        data.draw(st.lists(st.sampled_from(codes[:, level].tolist()), min_size=len(states), max_size=len(states)))
    )
    longer = [(*prefix, code) for prefix, code in zip(prefixes, step.tolist())]
    assert trie.child(level, states, step).tolist() == trie.walk(tensor(longer, level + 1)).tolist()
    for outside in (-1, codebook_sizes[level], codebook_sizes[level] + 1):
        assert set(trie.child(level, states, torch.full_like(states, outside)).tolist()) <= {NONE}


def test_the_order_of_the_rows_is_there_only_if_it_was_kept():
    codes = np.array([[2, 3], [0, 1], [2, 3]])
    assert SortedSids(codes, (3, 4), keep_order=True).origin.tolist() == [1, 0]
    with pytest.raises(ValueError, match="keep_order=True"):
        SortedSids(codes, (3, 4), keep_order=False).origin  # noqa: B018


@few
@given(any_catalogues)
def test_build_gives_the_leaf_of_every_row(catalogue):
    codes, codebook_sizes = catalogue
    trie, leaves = SidTrie.build_with_leaves(codes, codebook_sizes)
    assert same_tables(trie, SidTrie.build(codes, codebook_sizes))
    assert leaves.dtype == np.int32 and leaves.shape == (len(codes),)
    assert torch.equal(trie.sids_of(torch.from_numpy(leaves).long()), torch.from_numpy(codes))
    assert leaves.tolist() == trie.leaf_of(trie.walk(torch.from_numpy(codes))).tolist()


@few
@given(any_catalogues, st.randoms(use_true_random=False))
def test_the_order_and_number_of_rows_does_not_matter(catalogue, random):
    codes, codebook_sizes = catalogue
    rows = codes.tolist() * 2
    random.shuffle(rows)
    assert same_tables(SidTrie.build(np.array(rows), codebook_sizes), SidTrie.build(codes, codebook_sizes))
    assert same_tables(SidTrie.build(np.array(rows, dtype=np.uint16), codebook_sizes), SidTrie.build(codes, codebook_sizes))


@few
@given(any_catalogues)
def test_a_trie_survives_its_tensors(catalogue):
    codes, codebook_sizes = catalogue
    trie = SidTrie.build(codes, codebook_sizes)
    again = SidTrie.from_tensors(trie.tensors(), list(codebook_sizes))
    assert same_tables(trie, again) and len(again) == len(trie)
    assert again.nbytes == trie.nbytes == sum(table.numel() * table.element_size() for table in trie.tensors().values())
    check_children(again, distinct(codes), codebook_sizes)


@pytest.mark.parametrize(("codebook_size", "most_bytes"), [(256, 2), (257, 2), (32_768, 2), (32_769, 4), (100_000, 4)])
def test_codes_take_a_narrow_type_that_holds_them(codebook_size, most_bytes):
    codes = np.array([[0, codebook_size - 1], [0, 0], [codebook_size - 1, 0]])
    trie = SidTrie.build(codes, (codebook_size, codebook_size))
    assert max(table.codes.element_size() for table in trie.tables) <= most_bytes
    assert torch.equal(trie.sids_of(trie.leaf_of(trie.walk(torch.from_numpy(codes)))), torch.from_numpy(codes))


@few
@given(any_catalogues, st.data())
def test_a_subset_keeps_the_names(catalogue, data):
    codes, codebook_sizes = catalogue
    trie = SidTrie.build(codes, codebook_sizes)
    kept = data.draw(st.lists(st.sampled_from(range(len(trie))), min_size=1, unique=True))
    sids = list(map(tuple, trie.sids_of(torch.tensor(kept)).tolist()))
    part = trie.subset(torch.tensor(kept))
    assert len(part) == len(kept)
    assert part.leaf_of(part.walk(tensor(sids, len(codebook_sizes)))).tolist() == kept
    check_children(part, sids, codebook_sizes)
    everything = distinct(codes)
    states = part.walk(tensor(everything, len(codebook_sizes)))
    assert [state != NONE for state in states.tolist()] == [sid in sids for sid in everything]


def test_rows_with_names_of_their_own():
    trie = SidTrie.build(np.array([[2, 3], [0, 1], [2, 3], [2, 0]]), (3, 4), leaf_ids=np.array([70, 50, 71, 60]))
    assert trie.leaf_of(trie.walk(torch.tensor([[0, 1], [2, 0], [2, 3], [1, 1]]))).tolist() == [50, 60, 70, NONE]
    assert trie.leaf_of(trie.walk(torch.tensor([[0], [2]]))).tolist() == [50, NONE]


def test_a_subset_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no item"):
        SidTrie.build(np.array([[0, 1]]), (3, 4)).subset(torch.zeros(0, dtype=torch.long))


def test_most_of_a_sid_that_is_alone_is_no_node():
    """One code per level and leaf: the tables of 1,000 SIDs that are alone after a code are no larger than their codes."""
    codes = np.concatenate([np.arange(1000)[:, None], np.random.default_rng(0).integers(0, 200, (1000, 4))], axis=1)
    trie = SidTrie.build(codes, (1000, 200, 200, 200, 200))
    assert [len(table.inner_starts) for table in trie.tables] == [2] * 5  # the root, then nothing
    assert trie.nbytes <= codes.size * 2 + 200


@pytest.mark.parametrize(
    ("codes", "codebook_sizes", "words"),
    [
        ([[0, 1], [2, 4]], (3, 4), ["item 1", "code 4", "level 1", "0..3"]),
        ([[0, -1]], (3, 4), ["item 0", "code -1"]),
        ([[0, 1, 2]], (3, 4), ["(1, 3)", "(items, 2)"]),
        ([[0.0, 1.0]], (3, 4), ["float64", "integers"]),
        (np.zeros((0, 2)), (3, 4), ["no item"]),
    ],
)
@pytest.mark.parametrize("make", [SidTrie.build, SidTrie.build_with_leaves])
def test_codes_that_do_not_fit_are_refused(make, codes, codebook_sizes, words):
    with pytest.raises(ValueError) as error:
        make(np.asarray(codes), codebook_sizes)
    assert all(word in str(error.value) for word in words)


# TrieView


@few
@given(tries())
def test_any_trie_reads_as_the_set_of_its_active_sids(case):
    trie, names, codebook_sizes = case
    sids = sorted(names)
    assert trie.levels == len(codebook_sizes) and trie.codebook_sizes == tuple(codebook_sizes)
    full = trie.walk(tensor(sids, len(codebook_sizes)))
    assert trie.leaf_of(full).tolist() == [names[sid] for sid in sids]
    for depth in range(1, len(codebook_sizes) + 1):
        prefixes = prefixes_of(sids, codebook_sizes, depth)
        states = trie.walk(tensor(prefixes, depth))
        counts = [sharing(sids, prefix) for prefix in prefixes]
        assert [state != NONE for state in states.tolist()] == [count > 0 for count in counts]
        for prefix, count, is_open, leaf in zip(prefixes, counts, trie.is_open(states).tolist(), trie.leaf_of(states).tolist()):
            assert is_open or count < 2, "closed with several SIDs below"
            own = [name for sid, name in names.items() if sid[:depth] == prefix]
            assert leaf in ((NONE, *own) if count == 1 else (NONE,)), "named although not alone"
            assert leaf in own or is_open or not count, "closed but unnamed"


@few
@given(tries())
def test_any_trie_expands_to_the_children_of_its_active_sids(case):
    trie, names, codebook_sizes = case
    check_children(trie, sorted(names), codebook_sizes)


@few
@given(tries())
def test_names_lead_back_to_the_codes(case):
    trie, names, codebook_sizes = case
    if isinstance(trie, TrieView) or trie.leaf_ids is None:  # a subset's names are those of another trie
        codes = trie.sids_of(torch.tensor([*names.values(), NONE]))
        assert list(map(tuple, codes.tolist())) == [*names, (NONE,) * len(codebook_sizes)]


@few
@given(catalogues(), st.data())
def test_marks_can_be_taken_out_one_after_the_other(catalogue, data):
    codes, codebook_sizes = catalogue
    trie = SidTrie.build(codes, codebook_sizes)
    order = data.draw(st.permutations(range(len(trie))))
    cuts = data.draw(st.lists(st.integers(0, len(order)), max_size=2).map(sorted))
    marks = ActiveSids.of(trie, torch.ones(len(trie), dtype=torch.bool))
    kept = torch.ones(len(trie), dtype=torch.bool)
    for start, stop in zip([0, *cuts], [*cuts, len(order)]):
        before = [own.clone() for own in marks.inner]
        inactive = torch.tensor(order[start:stop], dtype=torch.long)
        fewer = marks.without(trie, inactive)
        assert all(torch.equal(one, other) for one, other in zip(marks.inner, before))
        kept[inactive] = False
        expected = ActiveSids.of(trie, kept)
        assert torch.equal(fewer.leaves, expected.leaves)
        assert all(torch.equal(one, other) for one, other in zip(fewer.inner, expected.inner, strict=True))
        marks = fewer


# Filters


@few
@given(tries(), st.data())
def test_restrict_keeps_what_is_kept_and_active(case, data):
    trie, names, codebook_sizes = case
    if not isinstance(trie, TrieView) and trie.leaf_ids is not None:
        return  # a filter of a filter is not made
    passing = data.draw(st.lists(st.sampled_from(sorted(names)), min_size=1, unique=True))
    kept = torch.zeros(len(trie), dtype=torch.bool)
    kept[[names[sid] for sid in passing]] = True
    inactive = data.draw(st.booleans())
    if inactive:  # a filter cannot bring inactive SIDs back
        kept[sorted(set(range(len(trie))) - set(names.values()))] = True
    part = restrict(trie, kept)
    assert isinstance(part, SidTrie) == (len(passing) < SUBSET_SHARE * len(kept))
    check_children(part, passing, codebook_sizes)
    sids = sorted(names)
    expected = [names[sid] if sid in passing else NONE for sid in sids]
    assert part.leaf_of(part.walk(tensor(sids, len(codebook_sizes)))).tolist() == expected


def roots(kind):
    """400 SIDs as a trie of each kind, and the name of each."""
    codes = np.stack(np.unravel_index(np.arange(400), (8, 10, 5)), axis=1)
    base = SidTrie.build(codes[:390], (8, 10, 5))
    if kind == "whole":
        whole = SidTrie.build(codes, (8, 10, 5))
        return whole, codes, whole.leaf_of(whole.walk(torch.from_numpy(codes)))
    view = TrieView(base, None, SidTrie.build(codes[390:], (8, 10, 5)))
    return view, codes, view.leaf_of(view.walk(torch.from_numpy(codes)))


@pytest.mark.parametrize("kind", ["whole", "view"])
@pytest.mark.parametrize("count", [1, 11, 12, 400])
def test_a_small_share_gets_a_trie_of_its_own_a_large_one_marks(kind, count):
    trie, codes, names = roots(kind)
    picked = np.random.default_rng(count).permutation(400)[:count]
    kept = torch.zeros(400, dtype=torch.bool)
    kept[names[picked]] = True
    part = restrict(trie, kept)
    assert isinstance(part, SidTrie if count < 12 else TrieView)
    found = part.leaf_of(part.walk(torch.from_numpy(codes)))
    assert torch.equal(found, torch.where(kept[names], names, NONE))
    check_children(part, list(map(tuple, codes[picked].tolist())), (8, 10, 5))


@settings(max_examples=30)
@given(tries())
def test_a_filter_that_keeps_nothing_is_refused(case):
    trie, names, _ = case
    kept = torch.ones(len(trie), dtype=torch.bool)
    if isinstance(trie, TrieView):
        kept[list(names.values())] = False
    else:
        kept[:] = False
    with pytest.raises(ValueError, match="keeps no item"):
        restrict(trie, kept)


# Two states in one


@few
@given(st.lists(st.tuples(*[st.integers(-(1 << 31), (1 << 31) - 1)] * 2), min_size=1))
def test_pack_then_unpack_gives_both_states(pairs):
    base, added = torch.tensor(pairs).T
    packed = pack(base, added)
    assert torch.equal(torch.stack(unpack(packed)), torch.stack([base, added]))
    assert len(packed.unique()) == len(set(pairs))


def test_none_of_both_is_none():
    assert pack(torch.tensor([NONE]), torch.tensor([NONE])).tolist() == [NONE]
