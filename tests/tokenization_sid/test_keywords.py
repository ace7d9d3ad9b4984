"""Which keywords a text names, and how they are fused into its embedding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onesearch.data.market import Market
from onesearch.tokenization_sid.keywords import Keyword, KeywordMatcher, fuse, mine_keywords, normalise


def matched(keywords, text):
    return [keywords[row] for row in KeywordMatcher([Keyword(word, "entity", 1) for word in keywords]).match(text)]


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


def test_the_same_text_under_two_types_is_one_keyword():
    matcher = KeywordMatcher([Keyword("rose", "color", 5), Keyword("rose", "pattern", 9)])
    assert matcher.match("rose dress") == [0]


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


def test_keywords_are_mined_by_page_views_of_the_training_sessions():
    items = [
        {"item_id": "a", "title": "t", "attributes": {"color": ["Red"], "brand": ["Mo"]}},
        {"item_id": "b", "title": "t", "attributes": {"color": ["blue"], "style": ["x"]}},
        {"item_id": "c", "title": "t", "attributes": {"color": ["green", "RED"]}},
    ]
    sessions = [
        {"session_id": f"s{time}", "user_id": "u", "time": time, "query": "q", "clicked": clicked, "purchased": bought}
        for time, (clicked, bought) in enumerate([(["b"], ["b"]), (["b"], []), (["c"], []), (["a"], ["a"])])
    ]
    market = Market.from_rows(items=items, sessions=sessions, info={"split": {"method": "leave_last_out"}})
    found = [(keyword.kind, keyword.text, keyword.page_views) for keyword in mine_keywords(market)]
    # One view per item, b: + 3; c (validation) and a (test) do not count; "x" is too short to be a keyword.
    assert found == [("brand", "mo", 1), ("color", "blue", 4), ("color", "red", 2), ("color", "green", 1)]
    assert [keyword.text for keyword in mine_keywords(market, per_type=1)] == ["mo", "blue"]
