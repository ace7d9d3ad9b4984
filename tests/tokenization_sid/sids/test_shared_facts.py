"""The meaning of codes: values that the items under a prefix share."""

from __future__ import annotations

import numpy as np

from onesearch.data.market import Market
from onesearch.tokenization_sid.sids.shared_facts import ItemFacts, SharedFact

ITEMS = [
    {
        "item_id": "0",
        "title": "trail shoe",
        "brand": "Ako",
        "categories": ["Fashion", "Shoes"],
        "attributes": {"color": ["red"]},
    },
    {"item_id": "1", "title": "shoe of rubber", "brand": "Ako", "categories": ["Fashion", "Shoes"]},
    {
        "item_id": "2",
        "title": "long coat",
        "brand": "Bel",
        "categories": ["Fashion", "Coats"],
        "attributes": {"color": ["red"]},
    },
    {"item_id": "3", "title": "desk lamp", "categories": ["Home"]},
]


def facts_of(rows, above=range(4), **options):
    facts = ItemFacts(Market.from_rows(items=ITEMS).items.data.table)
    return facts.shared(np.array(rows, dtype=np.int64), np.array(above, dtype=np.int64), **options)


def test_values_are_ordered_by_what_a_code_adds():
    told = facts_of([0, 1])
    assert told[:2] == [SharedFact("category", "Shoes", 1.0, 0.5), SharedFact("brand", "Ako", 1.0, 0.5)]
    assert told[2].share == 0.5 and (told[2].kind, told[2].value) == ("color", "red")  # "shoe" repeats the category


def test_words_fill_what_values_leave_empty_and_rare_values_are_not_told():
    assert facts_of([3]) == [
        SharedFact("category", "Home", 1.0, 0.25),
        SharedFact("word", "desk", 1.0, 0.25),
        SharedFact("word", "lamp", 1.0, 0.25),
    ]
    assert [fact.value for fact in facts_of([0, 1, 2, 3])] == ["Fashion", "Ako", "red"]
    assert facts_of([]) == [] and len(facts_of([0], most=1)) == 1


def test_rows_beyond_the_market_are_left_out():
    assert facts_of([0, 1, 9]) == facts_of([0, 1])
