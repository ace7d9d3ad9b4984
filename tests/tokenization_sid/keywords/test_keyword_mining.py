"""Keyword lists of a market: counted by hand, and against a definition spelled out in plain Python."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onesearch.data.market import Market
from onesearch.data.schema import ATTRIBUTE_TYPES
from onesearch.tokenization_sid.keywords import keyword_sources, phrases
from onesearch.tokenization_sid.keywords.keyword_mining import merge_keywords, mine_keywords
from onesearch.tokenization_sid.keywords.keywords import Keyword
from onesearch.tokenization_sid.keywords.matching import KeywordMatcher, normalise
from onesearch.tokenization_sid.keywords.phrases import bilingual_halves, phrases_of


def shop(items, sessions=(), split=None):
    rows = [
        {
            "session_id": f"s{time}",
            "user_id": "u",
            "time": time,
            "query": query,
            "clicked": clicked,
            "purchased": bought,
            **more,
        }
        for time, (query, clicked, bought, more) in enumerate(sessions)
    ]
    items = [{"item_id": name, "title": "t", "attributes": attributes} for name, attributes in items.items()]
    return Market.from_rows(items=items, sessions=rows, info={"split": split or {"method": "none"}})


def lists(market, **limits):
    return [(keyword.kind, keyword.text, keyword.page_views) for keyword in mine_keywords(market, **limits)]


def test_page_views_are_those_of_the_training_sessions():
    items = {
        "a": {"color": ["Red"], "brand": ["Mo"]},
        "b": {"color": ["blue"], "style": ["x"]},
        "c": {"color": ["green", "RED"]},
    }
    sessions = [
        ("q", ["b"], ["b"], {}),
        ("q", ["b"], [], {"impressed": ["b", "a"]}),
        ("q", ["c"], [], {}),
        ("q", ["a"], ["a"], {}),
    ]
    market = shop(items, sessions, {"method": "leave_last_out"})
    # One view per item. b: + 2 sessions; a: + 1 that showed it; c (validation) and a (test) do not count; "x" is too short.
    assert lists(market) == [("brand", "mo", 2), ("color", "blue", 3), ("color", "red", 3), ("color", "green", 1)]
    assert [text for _, text, _ in lists(market, per_type=1)] == ["mo", "blue"]


def test_a_query_that_names_the_value_of_the_clicked_item_is_a_view():
    items = {"a": {"brand": ["dyson"]}, "b": {"brand": ["bosch"]}}
    market = shop(items, [("Dyson vacuum", ["a"], [], {}), ("bosch", ["a"], [], {}), ("dyson", [], [], {})])
    assert lists(market) == [("brand", "dyson", 1 + 2 + 1), ("brand", "bosch", 1)]


def test_the_ask_rate_is_the_share_of_clicks_whose_query_names_the_keyword():
    items = {"a": {"color": ["red"]}, "b": {"color": ["blue"]}}
    market = shop(
        items, [("red", ["a"], [], {})] * 3 + [("x", ["a"], [], {})] + [("blue", ["b"], [], {})] + [("x", ["b"], [], {})] * 3
    )
    rates = {keyword.text: keyword.asked for keyword in mine_keywords(market)}
    assert rates == {"red": (3 + 10 * 0.5) / 14, "blue": (1 + 10 * 0.5) / 14}  # 4 of 8 clicks are asked for by colour
    merged = merge_keywords(mine_keywords(market), [Keyword("teal", "color", 1), Keyword("oak", "material", 1)])
    assert {keyword.text: keyword.asked for keyword in merged} == {**rates, "teal": sum(rates.values()) / 2, "oak": 0}


def test_phrases_of_queries_become_keywords_of_the_type_they_lead_to():
    items = {"a": {"brand": ["Dyson Ltd"]}, "b": {"brand": ["hp"]}, "c": {"brand": ["Vacuum Masters"]}}
    asked = [("dyson vacuum", ["a"], [], {})] * 3 + [("vacuum", ["b"], [], {})] * 3 + [("masters", ["c"], [], {})] * 2
    found = {text: views for _, text, views in lists(shop(items, asked))}
    assert found["dyson"] == 4 + 3  # the item and its 3 sessions, 3 clicked pairs
    assert "vacuum" not in found  # no click on Vacuum Masters follows it
    assert "masters" not in found  # twice is too seldom
    assert "masters" in {text for _, text, _ in lists(shop(items, asked), min_pairs=2)}
    mixed = shop(items, asked + [("vacuum", ["c"], [], {})] * 3)  # 3 of 6 pairs of "vacuum" alone, "dyson vacuum" adds 3 more
    assert "vacuum" not in {text for _, text, _ in lists(mixed)}
    assert "vacuum" in {text for _, text, _ in lists(mixed, min_share=0.3)}


def test_chinese_phrases_stand_between_spaces_and_changes_of_script():
    items = {"a": {"entity": ["夏季连衣裙"], "brand": ["耐克/NIKE"]}}
    market = shop(items, [("连衣裙 红色", ["a"], [], {})] * 3 + [("nike连衣裙", ["a"], [], {})])
    found = {text for _, text, _ in lists(market)}
    assert found == {"夏季连衣裙", "连衣裙", "耐克/nike", "耐克", "nike"}  # no piece such as 衣裙


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Red  shoe", {"red", "shoe", "red shoe"}),
        ("耐克nike鞋", {"耐克", "耐克nike", "耐克nike鞋", "nike", "nike鞋"}),
        ("a b", {"a b"}),
        ("", set()),
    ],
)
def test_phrases(query, expected):
    assert phrases_of(query) == expected


def test_long_phrases_are_left_out():
    assert max(len(phrase.split()) for phrase in phrases_of("one two three four five six")) == phrases.MAX_RUNS


@pytest.mark.parametrize(
    ("text", "expected"),
    [("苹果/apple", ("苹果", "apple")), ("apple(苹果)", ("apple", "苹果")), ("black/white", ()), ("红/黑", ()), ("苹果", ())],
)
def test_bilingual_values(text, expected):
    assert bilingual_halves(text) == expected


def test_sentences_are_no_keywords():
    market = shop({"a": {"specifications": ["x" * 40, "y" * 41]}})
    assert [text for _, text, _ in lists(market)] == ["x" * 40]


def test_the_most_frequent_queries_are_read(monkeypatch):
    monkeypatch.setattr(keyword_sources, "MAX_QUERIES", 1)
    market = shop({"a": {"color": ["red", "blue"]}}, [("red", ["a"], [], {}), ("blue", ["a"], [], {}), ("blue", ["a"], [], {})])
    assert lists(market) == [("color", "blue", 1 + 3 + 2), ("color", "red", 1 + 3)]


def test_a_market_without_attributes_or_without_items_has_none():
    assert lists(shop({"a": {}})) == [] == lists(shop({}))


WORDS = ["red", "blue", "rose", "red rose", "rose ltd"]


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.lists(st.sampled_from(WORDS), max_size=2), st.lists(st.sampled_from(WORDS), max_size=2)), min_size=1, max_size=4),
    st.lists(st.tuples(st.sampled_from(["red rose", "rose", "blue red", "rose ltd x", " "]), st.lists(st.integers(0, 3), max_size=2))),
    st.integers(1, 3),
)  # fmt: skip
def test_lists_are_those_of_the_definition(attributes, log, min_pairs):
    items = {f"i{row}": {"color": colours, "brand": brands} for row, (colours, brands) in enumerate(attributes)}
    sessions = [(query, [f"i{row % len(items)}" for row in dict.fromkeys(rows)], [], {}) for query, rows in log]
    sessions = [(query, list(dict.fromkeys(clicked)), bought, more) for query, clicked, bought, more in sessions]
    expected = by_definition(items, sessions, min_pairs, 0.5)
    assert lists(shop(items, sessions), min_pairs=min_pairs) == expected


def by_definition(items, sessions, min_pairs, min_share):
    def inside(phrase, value):
        return f" {phrase} " in f" {value} "

    pairs = [(query, item) for query, clicked, _, _ in sessions if query.strip() for item in clicked]
    shown = [item for _, clicked, _, _ in sessions for item in set(clicked)]
    values = {value for part in items.values() for texts in part.values() for value in texts}
    phrases = {phrase for query, _ in pairs for phrase in phrases_of(query)}
    phrases = {p for p in phrases if sum(p in phrases_of(query) for query, _ in pairs) >= min_pairs}
    texts = values | {p for p in phrases if any(inside(p, value) for value in values)}
    matcher = KeywordMatcher(sorted(texts))
    named = {query: {matcher.texts[row] for row in matcher.match(query)} for query, _ in pairs}
    found = []
    for kind in ATTRIBUTE_TYPES:
        own = {value for part in items.values() for value in part.get(kind, [])}
        ranked = []
        for text in texts:
            carriers = {item for item, part in items.items() if any(inside(text, value) for value in part.get(kind, []))}
            about = [item for query, item in pairs if text in named[query]]
            support = sum(item in carriers for item in about)
            if text in own or (support >= min_pairs and support >= min_share * len(about)):
                views = len(carriers) + sum(item in carriers for item in shown) + support
                ranked += [(-views, text)] if views else []
        found += [(kind, text, -views) for views, text in sorted(ranked)]
    return found


def test_the_real_market_s_queries_name_its_keywords(market):
    found = mine_keywords(market)
    matcher = KeywordMatcher([keyword.text for keyword in found])
    queries = [query for query in market.sessions["query"] if query]
    assert sum(bool(matcher.match(query)) for query in queries) > 0.6 * len(queries)
    assert len({keyword.kind for keyword in found}) > 10
    for kind in ATTRIBUTE_TYPES:
        views = [keyword.page_views for keyword in found if keyword.kind == kind]
        assert views == sorted(views, reverse=True)
    assert all(keyword.text == normalise(keyword.text) for keyword in found)


def test_a_dictionary_is_merged_into_the_lists():
    mined = [Keyword("red", "color", 9), Keyword("blue", "color", 5)]
    given = [Keyword("oak", "material", 0), Keyword("teal", "color", 7), Keyword("red", "color", 2), Keyword("mo", "brand", 1)]
    assert merge_keywords(mined, given) == [given[3], given[0], mined[0], given[1], mined[1]]
