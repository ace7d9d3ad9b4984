"""The boosted cascade on a pattern that no linear order can hold."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from onesearch.data.market import Market
from onesearch.data.requests import Request
from onesearch.evaluation.baselines.boosted import BoostedCascadeRetriever, BoostingConfig
from onesearch.evaluation.baselines.cascade import CascadeRetriever
from onesearch.evaluation.baselines.listwise import fit_linear_ranking
from onesearch.extras import MissingExtraError

COUNT = 30
SMALL = BoostingConfig(trees=20, learning_rate=0.2, leaves=4, least_in_leaf=5, feature_share=1.0)


@pytest.fixture(scope="module")
def cascade() -> CascadeRetriever:
    items = [{"item_id": f"i{row}", "title": f"dress {row}", "categories": ["dress"]} for row in range(COUNT)]
    return CascadeRetriever(Market.from_rows(items=items))


def features(requests: Sequence[Request], candidates: np.ndarray) -> np.ndarray:
    """A bit of the user and a bit of the item; items with another bit than the user's are wanted."""
    user = np.array([int(request.user_id) % 2 for request in requests])[:, None]
    return np.stack(np.broadcast_arrays(user, candidates % 2), axis=2).astype(np.float32)


def make_requests(count: int, seed: int) -> list[Request]:
    rng = np.random.default_rng(seed)
    wanted = [1 - user % 2 + 2 * int(rng.integers(COUNT // 2)) for user in range(count)]
    return [Request(f"s{user}", str(user), "dress", purchased=(f"i{item}",)) for user, item in enumerate(wanted)]


def right(retriever: CascadeRetriever | BoostedCascadeRetriever, requests: list[Request]) -> float:
    """Share of the first ten items that have another bit than the user."""
    rankings = retriever.retrieve(requests, 10)
    bits = [[int(item[1:]) % 2 != int(request.user_id) % 2 for item in r.item_ids] for request, r in zip(requests, rankings)]
    return float(np.mean(bits))


def test_trees_learn_what_a_linear_order_cannot(cascade):
    boosted = BoostedCascadeRetriever(cascade, make_requests(150, seed=0), features=features, config=SMALL)
    asked = [replace(request, purchased=()) for request in make_requests(70, seed=1)]
    assert right(boosted, asked) == 1.0 and right(cascade, asked) == pytest.approx(0.5, abs=0.1)
    assert boosted.retrieve(asked, 10) == boosted.retrieve(make_requests(70, seed=2), 10), "targets are not read"
    assert (boosted.name, cascade.name) == ("cascade", "cascade_linear")


def test_items_beyond_the_ranked_ones_keep_the_linear_order(cascade):
    boosted = BoostedCascadeRetriever(cascade, make_requests(150, seed=0), features=features, config=replace(SMALL, ranked=6))
    request = Request("s", "1", "dress")
    (linear,), (found,) = cascade.retrieve([request], COUNT), boosted.retrieve([request], COUNT)
    assert set(found.item_ids[:6]) == set(linear.item_ids[:6]) and found.item_ids[6:] == linear.item_ids[6:]
    assert [int(item[1:]) % 2 for item in found.item_ids[:6]] == [0, 0, 0, 1, 1, 1]
    assert np.diff(found.scores).max() <= 0


def test_without_a_split_the_linear_ranking_remains(cascade):
    """It is learned on rows below 20, and goes on beyond them."""
    requests = [Request(f"s{row}", "0", "dress", purchased=(f"i{row}",)) for row in range(10, 20)]

    def number(asked: Sequence[Request], candidates: np.ndarray) -> np.ndarray:
        return candidates[..., None].astype(np.float32) % (20 if asked[0].purchased else 100)

    boosted = BoostedCascadeRetriever(cascade, requests, features=number, config=replace(SMALL, least_in_leaf=10_000))
    (ranking,) = boosted.retrieve([Request("s", "1", "dress")], 3)
    assert ranking.item_ids == ("i29", "i28", "i27")
    assert boosted.retrieve([], 10) == []


def test_linear_ranking_finds_the_planted_weights():
    rng = np.random.default_rng(0)
    values, sizes = rng.normal(3, 2, (4000, 3)), np.full(400, 10)
    scores = (values @ [1.0, -0.5, 0.0] + rng.gumbel(size=4000)).reshape(400, 10)
    gains = (scores == scores.max(axis=1, keepdims=True)).ravel().astype(float)
    found = fit_linear_ranking(values, gains, sizes, 1e-4)
    assert found.weights / found.scales == pytest.approx([1.0, -0.5, 0.0], abs=0.1)
    assert np.ptp(found.score(values) - values @ (found.weights / found.scales)) < 1e-9
    assert np.abs(fit_linear_ranking(values, gains, sizes, 100.0).weights).max() < 0.02


def test_purchases_outweigh_clicks(cascade):
    boosted = BoostedCascadeRetriever(cascade, make_requests(1, seed=0), config=SMALL)
    request = Request("s", "1", "dress", clicked=("i1", "i2"), purchased=("i2", "gone"))
    assert boosted._grades(request, np.arange(4)).tolist() == [0, 1, 2, 0]


def test_without_any_target_there_is_nothing_to_learn(cascade):
    with pytest.raises(ValueError, match="none of the 1 requests has a purchase or click among its recalled items"):
        BoostedCascadeRetriever(cascade, [Request("s", "1", "dress", purchased=("gone",))])


def test_values_out_of_range_are_refused():
    for values, message in (
        ({"trees": 0}, "trees=0"),
        ({"leaves": 1}, "leaves=1"),
        ({"penalty": 0}, "penalty=0"),
        ({"feature_share": 0.0}, "feature_share=0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            BoostingConfig(**values)


def test_a_missing_library_is_named(cascade, monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(MissingExtraError, match=r"BoostedCascadeRetriever needs lightgbm: pip install onesearch\[evaluation\]"):
        BoostedCascadeRetriever(cascade, make_requests(1, seed=0))
