"""Orders of a checkpoint with the weights that fit some requests best."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from onesearch.data.requests import build_requests
from onesearch.evaluation.evaluator import evaluate
from onesearch.files import RunFolder
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.pipeline.auto_search import ARMS, CLOSE, choose_search, quality, serve, served_arms
from onesearch.pipeline.auto_weights import DENSE_WEIGHTS, TEXT_WEIGHTS, Terms, fitted, quality_of
from onesearch.serving.searcher import Searcher
from onesearch.trainers.dense.dense_config import DenseConfig
from onesearch.trainers.dense.training import train_dense_run


@pytest.fixture(scope="module")
def run(rewarded, tmp_path_factory) -> RunFolder:
    """A run with a reward model, a text index and a dense index."""
    own = RunFolder(shutil.copytree(rewarded.root, tmp_path_factory.mktemp("orders") / "run"))
    train_dense_run(own, DenseConfig(searches=40, epochs=2))
    return own


def test_the_quality_of_weights_is_that_of_the_lists():
    none = np.zeros(3)
    first = Terms(
        np.array([0.0, -1.0, -2.0]), np.array([0.0, 0.0, 1.0]), none, np.array([0.0, 0.5, 0.0]), [np.eye(3, dtype=bool)[2]]
    )
    nothing = np.zeros(1)
    second = Terms(nothing, nothing, nothing, nothing, [np.zeros(1, dtype=bool), np.ones(1, dtype=bool)])
    assert quality_of([first], 0.0, 0.0, 0.0, 1.0) == pytest.approx((1 + 1 / 3) / 2)
    assert quality_of([first], 1.5, 0.0, 0.0, 1.0) == pytest.approx((1 + 1 / 2) / 2)
    assert quality_of([first], 3.0, 0.0, 0.0, 1.0) == quality_of([first], 0.3, 0.0, 0.0, 0.1) == 1.0
    dense = quality_of([first], 3.0, 0.0, 10.0, 1.0)
    assert dense == pytest.approx((1 + 1 / 2) / 2), "the dense term puts the second item first"
    assert quality_of([first, second], 3.0, 0.0, 0.0, 1.0) == pytest.approx((1.0 + 0.0 + 1.0) / 3), "each kind of target counts"
    popular = first._replace(match=none, popularity=np.array([0.0, 0.0, 0.5]))
    assert quality_of([popular], 3.0, 0.0, 0.0, 1.0) == pytest.approx((1 + 1 / 3) / 2)
    assert quality_of([popular], 3.0, 2.0, 0.0, 1.0) == 1.0, "the popularity is weighted with the text match"


def test_the_quality_of_an_order_is_the_one_that_a_report_measures(run, market):
    """The search by the chosen weights gives the lists that the weights were chosen by."""
    requests, searcher = build_requests(market, "validation")[:30], Searcher.from_pretrained(run.checkpoint)
    for name, candidates, rerank in (
        ("text", "beam+text", False),
        ("dense", "beam+dense", False),
        ("both", "beam+text+dense", False),
        ("all", "beam+text+dense", True),
    ):
        plain = searcher.arm("plain", rerank=False, candidates="beam", text_weight=0.0, dense_weight=0.0)
        order = fitted(name, plain, requests, candidates, rerank)
        report = evaluate([order.arm], requests, bootstrap_samples=1, progress=False)
        assert order.quality == pytest.approx(quality(report, name), abs=1e-9) and order.quality > 0, name
        config = order.arm.config
        assert (config.text_weight in TEXT_WEIGHTS[not rerank :]) == ("text" in candidates), name
        assert (config.dense_weight in DENSE_WEIGHTS) == ("dense" in candidates and not rerank), name


def test_every_order_is_compared_and_the_best_is_served(run, market):
    choice = choose_search(run, market)
    assert set(choice.quality) == set(ARMS) and choice.quality[choice.arm] >= max(choice.quality.values()) - CLOSE
    dense = choice.search.with_dense or choice.search.dense_weight > 0
    assert dense == choice.arm.endswith("dense") and choice.search.rerank == ("reward" in choice.arm)
    serve(run, choice.search)
    served = Searcher.from_pretrained(run.checkpoint)
    assert served.config == choice.search and any(arm.config == choice.search for arm in served_arms(served))


def test_text_and_vectors_come_first_where_nothing_can_be_chosen_by(run, market):
    serve(run, SearchConfig(candidates="beam+dense", dense_weight=10.0))
    few = replace(market, info={**market.info, "split": {"method": "none"}})
    choice = choose_search(run, few)
    expected = SearchConfig(candidates="beam+text+dense", dense_weight=10.0, text_weight=10.0)
    assert (choice.arm, choice.search, choice.quality) == ("onesearch_text_dense", expected, {})
    assert "weight of the text match 10, weight of the dense term 10" in str(choice)
