"""The warning of a training log at popularity's level."""

from __future__ import annotations

from collections import Counter

import pytest

from onesearch.data.requests import build_requests
from onesearch.trainers.models import build_model
from onesearch.trainers.run_inputs import load_inputs
from onesearch.trainers.validation import PopularityWatch, retrieval_metrics


@pytest.fixture(scope="module")
def requests(market):
    return [request for request in build_requests(market, "validation") if request.purchased]


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if "ranking by popularity" in record.getMessage()]


def test_popularity_s_level_is_that_of_the_most_bought_items(market, requests):
    bought, clicked = Counter(), Counter()
    for request in build_requests(market, "train"):
        bought.update(request.purchased)
        clicked.update(request.clicked)
    catalogue = list(market.items["item_id"])
    top = sorted(catalogue, key=lambda item: (-bought[item], -clicked[item], catalogue.index(item)))[:10]
    hits = [bool(set(request.purchased) & set(top)) for request in requests]
    assert 0 < sum(hits) < len(hits) and PopularityWatch(market, requests).level == pytest.approx(sum(hits) / len(hits))


def test_a_model_that_learned_nothing_is_warned_of_at_each_evaluation(shared_run, recipe, caplog):
    inputs = load_inputs(shared_run, recipe.training)
    model = build_model(recipe.training.model, inputs.tokenizer, inputs.index, inputs.centroids).eval()
    measure = retrieval_metrics(recipe.training, inputs)
    hit_rates = [measure(model)["hr@10"] for _ in range(2)]
    first, second = warnings(caplog)
    assert first == second and f"on {len(inputs.held_out)} validation requests is {hit_rates[0]:.3f}, no better" in first
    for cause in ("learning_rate", "adversarial_epsilon", "prompt_spread", "too few steps"):
        assert cause in first


def test_one_standard_error_above_popularity_is_sound(market, requests, caplog):
    watch = PopularityWatch(market, requests)
    error = (watch.level * (1 - watch.level) / len(requests)) ** 0.5
    for hit_rate in (watch.level + 1.01 * error, 1.0):
        watch.check(hit_rate)
    assert not warnings(caplog)
    for hit_rate in (0.0, watch.level, watch.level + 0.99 * error):
        watch.check(hit_rate)
    assert len(warnings(caplog)) == 3
