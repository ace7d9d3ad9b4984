"""Metrics of a study: clicks, judged queries and expected purchases beside the purchases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onesearch.data.requests import SPLITS, build_requests, split_sessions
from onesearch.evaluation.evaluator import evaluate
from onesearch.evaluation.relevance import evaluate_relevance
from onesearch.evaluation.retrievers import Ranking
from onesearch.pipeline.recipe import MarketConfig
from onesearch.pipeline.study_metrics import check_metrics, of_purchases, request_values, split_name

METRICS = ("HR@10", "click MRR@10", "judged NDCG@10", "expected purchases@10")


class Ordered:
    """Ranks the whole catalogue in one order for everybody."""

    def __init__(self, name, item_ids):
        self.name, self.item_ids = name, tuple(item_ids)

    def retrieve(self, requests, top_k):
        return [Ranking(self.item_ids[:top_k], tuple(-float(place) for place in range(top_k))) for _ in requests]


@pytest.fixture(scope="module")
def report(market):
    item_ids = market.items.data.column("item_id").to_pylist()
    retrievers = [Ordered("forward", item_ids), Ordered("backward", item_ids[::-1])]
    found = evaluate(retrievers, build_requests(market, "test"), bootstrap_samples=5, progress=False)
    found.relevance, found.judged = evaluate_relevance(retrievers, market, bootstrap_samples=5, progress=False)
    return found


def test_values_are_those_of_the_report(report, market):
    values = request_values(report, METRICS, market)
    assert list(values) == ["forward", "backward"] and all(list(of_order) == list(METRICS) for of_order in values.values())
    for name, of_order in values.items():
        assert np.mean(of_order["HR@10"]) == pytest.approx(report.value(name, "HR@10"))
        assert np.mean(of_order["click MRR@10"]) == pytest.approx(report.value(name, "MRR@10", "click"))
        assert np.mean(of_order["judged NDCG@10"]) == pytest.approx(report.relevance["retrievers"][name]["NDCG@10"]["value"])
        assert len(of_order["expected purchases@10"]) == report.requests and sum(of_order["expected purchases@10"]) > 0
    assert values["forward"]["expected purchases@10"] != values["backward"]["expected purchases@10"]


def test_cold_items_are_those_that_nobody_bought_in_training(report, market):
    values = request_values(report, ["cold HR@10"], market)
    sessions, split = market.sessions.data.to_pylist(), split_sessions(market)
    bought = {item for row, part in zip(sessions, split) if part == SPLITS.index("train") for item in row["purchased"] or ()}
    asked = {request.session_id: request for request in build_requests(market, "test")}
    cold = {name: set(request.purchased) - bought for name, request in asked.items() if set(request.purchased) - bought}
    assert 0 < len(cold) < report.targets["purchase"]["requests"]
    for name, own in report.rankings.items():
        hits = [float(bool(wanted & set(own[session].item_ids[:10]))) for session, wanted in cold.items()]
        assert values[name]["cold HR@10"] == hits
    everything = replace(report, truth={"purchase": {session: () for session in asked}})
    with pytest.raises(ValueError, match="was not measured by 'cold HR@10'"):
        request_values(everything, ["cold HR@10"], market)


def test_expected_purchases_follow_the_sessions_not_their_order(report, market):
    turned = replace(report, rankings={name: dict(reversed(own.items())) for name, own in report.rankings.items()})
    metric = "expected purchases@10"
    assert request_values(turned, [metric], market) == request_values(report, [metric], market)


def test_what_was_not_measured_is_named(report, market):
    with pytest.raises(ValueError, match="forward was not measured by 'judged NDCG@10'"):
        request_values(replace(report, judged={}), ["judged NDCG@10"], market)


@pytest.mark.parametrize("name", ["HR", "HR@0", "shown HR@10", "judged HR@10", "expected NDCG@10", "purchase HR@10", "HR@10 "])
def test_unknown_metrics_are_refused(name):
    with pytest.raises(ValueError, match="is unknown; allowed are HR@K, Recall@K"):
        split_name(name)


def test_metrics_are_checked_before_training(recipe):
    check_metrics(METRICS, recipe)
    assert of_purchases(METRICS) == ["HR@10"]
    elsewhere = replace(recipe, market=MarketConfig(importer="amazon", source="folder"))
    with pytest.raises(ValueError, match="'expected clicks@10' needs a simulated market, and importer='amazon'"):
        check_metrics(["expected clicks@10"], elsewhere)
    with pytest.raises(ValueError, match="'judged Recall@100' is above the 10 beams"):
        check_metrics(["judged Recall@100"], recipe)
