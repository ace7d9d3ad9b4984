"""Facets: what items have, and how often a user met the facets of a candidate, compared with a loop over the history."""

from __future__ import annotations

import numpy as np
import pytest

from onesearch.data.market import Market
from onesearch.tokenization_sid.ragged import Ragged
from onesearch.views.reward.facets import (
    FACET_FEATURES,
    PRICE_BANDS,
    PRIOR,
    FacetHistories,
    facet_features,
    item_facets,
)

ITEMS = [
    {"item_id": "a", "title": "a", "brand": "Kavo", "categories": ["Home", "Mug"], "attributes": {"color": ["red", "blue"]}},
    {"item_id": "b", "title": "b", "brand": "kavo ", "categories": ["Home", "Mug"], "attributes": {"color": ["Blue"]}},
    {"item_id": "c", "title": "c", "brand": "Lumo", "categories": ["Home", "Pan"], "attributes": {}},
    {"item_id": "d", "title": "d", "categories": [], "attributes": {"color": ["red"]}},
]


@pytest.fixture(scope="module")
def facets():
    return item_facets(Market.from_rows(items=ITEMS).items.data.table)


def test_equal_values_are_one_facet_whatever_their_case(facets):
    assert facets.kinds == ("category", "brand", "color")
    values = [set(facets.of_items[row].tolist()) for row in range(4)]
    kind = [{facets.kinds[facets.kind_of[facet]] for facet in row} for row in values]
    assert kind == [{"category", "brand", "color"}, {"category", "brand", "color"}, {"category", "brand"}, {"color"}]
    assert len(values[0] & values[1]) == 3 and len(values[0] & values[3]) == 1 and not values[1] & values[3]
    assert facets.leaf[0] == facets.leaf[1] != facets.leaf[2] and facets.leaf[3] == -1


def test_features_equal_a_loop_over_the_history(facets):
    rows = {"touched": [[0, 0, 2], []], "recent": [[2], []], "purchased": [[0], []], "shown": [[0, 0, 1, 2, 3], [1]]}
    histories = FacetHistories(*(Ragged.of(rows[name]) for name in FacetHistories._fields))
    candidates = np.array([[1, 3, -1], [2, 0, 1]])
    found = facet_features(facets, histories, candidates).reshape(2, 3, len(FACET_FEATURES), len(facets.kinds))

    def shared(events, item, kind):
        own = [facet for facet in facets.of_items[item].tolist() if facet in np.flatnonzero(facets.kind_of == kind)]
        return max((sum(facet in facets.of_items[event] for event in events) for facet in own), default=0)

    for user in range(2):
        part = {name: events[user] for name, events in rows.items()}
        for place, item in enumerate(candidates[user]):
            if item < 0:
                continue
            for kind in range(3):
                count = {name: shared(events, item, kind) for name, events in part.items()}
                rate = min(max(len(part["touched"]), 1) / max(len(part["shown"]), 1), 1)
                expected = [
                    np.log1p(count["touched"]),
                    count["touched"] / max(len(part["touched"]), 1),
                    count["recent"] / max(len(part["recent"]), 1),
                    np.log1p(count["purchased"]),
                    np.log1p(count["shown"]),
                    np.log((count["touched"] + PRIOR * rate) / (count["shown"] + PRIOR) + 1e-3),
                ]
                np.testing.assert_allclose(found[user, place, :, kind], expected, rtol=1e-5, atol=1e-6)


def test_a_price_is_a_band_within_its_category():
    prices = {"Mug": [float(price) for price in range(1, 41)], "Pan": [100.0] * 20 + [200.0] * 20}
    items = [
        {"item_id": f"{leaf}{row}", "title": "x", "categories": ["Home", leaf], "price": price}
        for leaf, values in prices.items()
        for row, price in enumerate(values)
    ]
    found = item_facets(Market.from_rows(items=[*items, {"item_id": "free", "title": "x"}]).items.data.table)
    kind = found.kinds.index("price")
    bands = [[facet for facet in found.of_items[row].tolist() if found.kind_of[facet] == kind] for row in range(81)]
    assert sum(found.kind_of == kind) == PRICE_BANDS and bands[80] == []
    mugs, pans = bands[:40], bands[40:80]
    assert mugs == sorted(mugs) and np.unique(mugs, return_counts=True)[1].tolist() == [5] * PRICE_BANDS
    assert len({tuple(band) for band in pans[:20]}) == 1  # equal prices have one band
    assert pans[0] < pans[20]
    later = [
        {"item_id": str(row), "title": "x", "categories": ["Home", "Mug"], "price": price}
        for row, price in enumerate((1.0, 40.0, 500.0))
    ]
    wider = found.with_items(Market.from_rows(items=later).items.data.table).of_items
    new = [[facet for facet in wider[row].tolist() if found.kind_of[facet] == kind] for row in range(81, 84)]
    assert new == [mugs[0], mugs[-1], mugs[-1]]  # the bands are those of the known items


def test_items_without_any_value_have_no_facets():
    found = item_facets(
        Market.from_rows(items=[{"item_id": "a", "title": "a"}, {"item_id": "b", "title": "b"}]).items.data.table
    )
    assert found.kinds == () and found.of_items.lengths.tolist() == [0, 0] and found.leaf.tolist() == [-1, -1]
    none = Ragged.of([[0]])
    assert facet_features(found, FacetHistories(none, none, none, none), np.array([[0, 1, -1]])).shape == (1, 3, 0)


def test_a_later_item_gets_the_facets_that_are_known(facets):
    later = [
        {
            "item_id": "e",
            "title": "e",
            "brand": " KAVO",
            "categories": ["Home", "Pan"],
            "attributes": {"color": ["green", "red"]},
        },
        {"item_id": "f", "title": "f", "brand": "Other", "categories": ["Garden"], "price": 3.0},
    ]
    wider = facets.with_items(Market.from_rows(items=later).items.data.table)
    assert wider.kinds == facets.kinds and wider.kind_of is facets.kind_of
    assert wider.of_items.tolist()[:4] == facets.of_items.tolist() and wider.leaf[:4].tolist() == facets.leaf.tolist()
    own = [(facets.kinds[facets.kind_of[facet]], facets.values[facet]) for facet in wider.of_items[4].tolist()]
    assert own == [("category", "Home > Pan"), ("brand", "kavo"), ("color", "red")]  # green is new, and no item had it
    assert wider.leaf[4] == facets.leaf[2] and wider.of_items[5].tolist() == [] and wider.leaf[5] == -1
