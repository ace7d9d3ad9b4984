"""Which keywords a text names, and how they are fused into its embedding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesearch.tokenization_sid.keywords.keywords import CoreKeywords, Keyword, fuse
from onesearch.tokenization_sid.keywords.matching import KeywordMatcher, is_unspaced, normalise


def matched(keywords, text):
    return [keywords[row] for row in KeywordMatcher(keywords).match(text)]


@pytest.mark.parametrize(
    ("keywords", "text", "expected"),
    [
        (["red", "shoe"], "a RED running  shoe", ["red", "shoe"]),
        (["shoe", "red"], "red shoe, red", ["red", "shoe"]),  # in order of appearance, each once
        (["dress", "red dress"], "long red dress", ["red dress"]),  # a keyword inside a longer one is dropped
        (["red", "red dress", "dress shop"], "red dress shop", ["red dress", "dress shop"]),  # overlap is no inclusion
        (["red"], "scared redder", []),  # word boundaries
        (["red"], "red-hot (red)", ["red"]),
        (["50 cm"], "150 cm", []),
        (["50 cm"], "x 50\tcm", ["50 cm"]),
        (["café"], "CAFE\u0301 chair", ["café"]),  # NFKC
        (["裙子", "夏季"], "夏季新款裙子2024", ["夏季", "裙子"]),  # no spaces, no boundaries
        (["连衣裙", "裙"], "红色连衣裙", ["连衣裙"]),
        (["nike"], "耐克nike鞋", ["nike"]),  # an ideograph is a boundary
        (["ワンピース"], "赤いワンピース", ["ワンピース"]),
        (["研究生", "生命", "起源"], "研究生命起源", ["研究生", "起源"]),  # of two that share an ideograph the longer
        (["生命", "命中"], "生命中", ["生命"]),  # as long: the earlier
        (["连衣裙", "裙子店", "连衣"], "连衣裙子店", ["连衣裙"]),
        (["iphone", "iphone 15", "手机壳", "手机"], "iphone 15手机壳", ["iphone 15", "手机壳"]),  # mixed scripts
        (["5g手机", "手机壳"], "苹果5G手机壳", ["5g手机"]),
        (["g手机"], "5g手机", []),  # cut out of a word of letters and digits
        (["耐克 air", "air max"], "耐克 AIR max", ["耐克 air", "air max"]),  # they share a word, no ideograph
        (["कप"], "कपा", []),  # a vowel sign belongs to its letter
        (["कप"], "कप ा", ["कप"]),
        ([], "anything", []),
        (["red"], "", []),
    ],
)
def test_matches(keywords, text, expected):
    assert matched(keywords, text) == expected


WORDS = st.text("ab ", min_size=1, max_size=4).map(normalise).filter(bool)


@given(st.lists(WORDS, min_size=1, max_size=6, unique=True), st.text("ab -", max_size=15))
def test_matches_are_the_brute_force_ones(keywords, text):
    """Whole-word occurrences that lie in no longer occurrence."""
    plain = normalise(text)
    spans = [
        (start, start + len(word), word)
        for word in keywords
        for start in range(len(plain))
        if plain.startswith(word, start)
        and not (start and plain[start - 1].isalnum() and word[0].isalnum())
        and not (plain[start + len(word) :][:1].isalnum() and word[-1].isalnum())
    ]
    kept = [one for one in spans if not any(two != one and two[0] <= one[0] and one[1] <= two[1] for two in spans)]
    assert matched(keywords, text) == list(dict.fromkeys(word for *_, word in sorted(kept)))


MIXED = st.text("红色裙ab ", min_size=1, max_size=4).map(normalise).filter(bool)


@given(st.lists(MIXED, min_size=1, max_size=6, unique=True), st.text("红色裙ab ", max_size=12))
def test_mixed_scripts_are_segmented_longest_first(keywords, text):
    """The definition, spelled out: occurrences from the longest and then the earliest, unless inside one or on a taken ideograph."""
    plain = normalise(text)
    spans = {(start, start + len(word)) for word in keywords for start in range(len(plain)) if plain.startswith(word, start)}

    def cut(place):  # between two letters of a spaced script
        return 0 < place < len(plain) and all(plain[side] in "ab" for side in (place - 1, place))

    kept = []
    for start, end in sorted(
        (span for span in spans if not cut(span[0]) and not cut(span[1])), key=lambda s: (s[0] - s[1], s[0])
    ):
        inside = any(left <= start and end <= right for left, right in kept)
        taken = {place for left, right in kept for place in range(left, right) if plain[place] in "红色裙"}
        if not inside and not taken & set(range(start, end)):
            kept.append((start, end))
    assert matched(keywords, text) == list(dict.fromkeys(plain[start:end] for start, end in sorted(kept)))


def test_occurrences_are_all_of_them():
    matcher = KeywordMatcher(["red dress", "dress", "red", "ed", "裙", "连衣裙"])
    assert matcher.occurrences("RED dress 连衣裙") == [0, 1, 2, 4, 5]
    assert KeywordMatcher([]).occurrences("red") == []


def test_scripts_without_spaces():
    assert [is_unspaced(character) for character in "a1é ж的ンの한ไ。"] == [False] * 5 + [True] * 5 + [False]


def test_the_same_text_under_two_types_is_one_keyword():
    keywords = [Keyword("rose", "color", 5), Keyword("rose", "pattern", 9)]
    assert CoreKeywords(keywords, np.zeros((2, 1))).match(["rose dress"]) == [[0]]


def test_the_core_of_a_text_is_what_queries_ask_for():
    keywords = [Keyword("soft", "modifier", 9, 0.1), Keyword("kettle", "entity", 5, 0.8), Keyword("red", "color", 7, 0.3)]
    text = "Soft red kettle"
    assert CoreKeywords(keywords, np.eye(3)).match([text]) == [[0, 2, 1]]
    assert CoreKeywords(keywords, np.eye(3), core=2).match([text, "soft"]) == [[2, 1], [0]]
    assert CoreKeywords(keywords, np.eye(3), core=1).match([text]) == [[1]]


def test_values_of_columns_are_keywords_unless_the_text_holds_them():
    keywords = [Keyword("red dress", "entity", 1), Keyword("dress", "entity", 1), Keyword("premium", "price", 1)]
    core = CoreKeywords(keywords, np.eye(3, dtype=np.float32))
    assert core.match(["Red dress", "coat"], [["dress", "premium", "unknown"], ["dress"]]) == [[0, 2], [1]]
    plain = np.array([[1, 0, 0]], dtype=np.float32)
    fused = core.fuse(["coat"], plain, [["dress"]])
    np.testing.assert_allclose(fused, [[np.sqrt(0.5), np.sqrt(0.5), 0]], atol=1e-6)
    unfused = replace(core, fused=False)
    np.testing.assert_array_equal(unfused.fuse(["red dress"], 2 * plain), plain)  # unit length, and nothing else
    assert unfused.match(["red dress"]) == [[0]]


def test_fusion_is_half_the_text_and_half_the_mean_of_its_keywords():
    texts = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], dtype=np.float32)
    keywords = np.array([[0.0, 1.0], [0.8, 0.6]], dtype=np.float32)
    fused = fuse(texts, [[0, 1], [], [1]], keywords)
    expected = [0.5 * np.array([1.0, 0.0]) + 0.5 * np.array([0.4, 0.8]), [0.0, 1.0], 0.5 * np.array([0.6 + 0.8, 0.8 + 0.6])]
    expected = [np.asarray(row) / np.linalg.norm(row) for row in expected]
    np.testing.assert_allclose(fused, expected, atol=1e-6)
    np.testing.assert_array_equal(texts[0], [1, 0])  # the input is left as it was


@given(st.lists(st.lists(st.integers(0, 4), max_size=4), min_size=1, max_size=8), st.integers(0, 5))
def test_fused_rows_have_unit_length(matches, seed):
    random = np.random.default_rng(seed)
    texts = random.normal(size=(len(matches), 6)).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    fused = fuse(texts, matches, random.normal(size=(5, 6)).astype(np.float32))
    assert fused.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(fused, axis=1), 1, atol=1e-5)
    for row, found in enumerate(matches):
        if not found:
            np.testing.assert_allclose(fused[row], texts[row], atol=1e-6)


def test_the_keywords_of_a_run_fuse_as_the_formula_does():
    keywords = [Keyword("red", "color", 1), Keyword("shoe", "entity", 1)]
    core = CoreKeywords(keywords, np.eye(3, dtype=np.float32)[:2])
    vectors = np.array([[0, 0, 1], [0, 0, 1], [0, 0, 0]], dtype=np.float32)
    fused = core.fuse(["a red shoe", "coat", "shoe"], vectors)
    np.testing.assert_allclose(fused, [np.array([1, 1, 2]) / 6**0.5, [0, 0, 1], [0, 1, 0]], atol=1e-6)
    none = CoreKeywords([], np.zeros((0, 3), dtype=np.float32))
    np.testing.assert_array_equal(none.fuse(["red", "x", ""], vectors), vectors)


def test_no_texts_at_all():
    assert fuse(np.zeros((0, 4), dtype=np.float32), [], np.zeros((2, 4), dtype=np.float32)).shape == (0, 4)
