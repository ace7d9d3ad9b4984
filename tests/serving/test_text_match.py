"""The text match in the order of the hits."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from onesearch import Hit, Searcher
from onesearch.data.market import Market
from onesearch.data.requests import build_requests
from onesearch.evaluation.baselines.text import BM25Retriever
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.pipeline import auto_search
from onesearch.pipeline.auto_search import ARMS, choose_search, quality, serve, served_arms
from onesearch.serving.text_index import TextIndex
from onesearch.serving.text_match import with_text_match

ROWS = [{"item_id": name, "title": title} for name, title in (("a", "red dress"), ("b", "blue dress"), ("c", "red hat"))]


def hits(**scores):
    return [Hit(item, (0,), score) for item, score in scores.items()]


def test_the_match_is_a_share_of_the_best_score():
    index = TextIndex.of(Market.from_rows(items=ROWS))
    assert index.match("red dress", ["a", "b", "zz"]).tolist() == pytest.approx([1.0, index.match("red dress", ["c"])[0], 0.0])
    assert 0 < index.match("red dress", ["b"])[0] < 1
    assert index.match("shoe", ["a"]).tolist() == [0.0]


def test_the_order_is_that_of_both():
    index = TextIndex.of(Market.from_rows(items=ROWS))
    found = hits(c=-1.0, b=-2.0, a=-9.0, new=-10.0)

    def order(weight, rerank=False):
        config = SearchConfig(text_weight=weight, rerank=rerank)
        return [hit.item_id for hit in with_text_match(index, "red dress", found, config)]

    assert order(0.01) == ["c", "b", "a", "new"]
    assert order(10.0)[0] == "a" and order(10.0)[-1] == "new", "an item without a text keeps its own score"
    assert order(3.0, rerank=True)[0] == "c" and order(30.0, rerank=True)[0] == "a", "scores of a reward model count in full"
    scored = with_text_match(index, "red dress", found, SearchConfig(text_weight=2.0))
    assert {hit.item_id: hit.score for hit in scored}["a"] == pytest.approx(2.0 - 0.9)
    assert with_text_match(index, "red", [], SearchConfig(text_weight=1.0)) == []


def test_the_popularity_orders_what_the_words_cannot_tell_apart(tmp_path):
    """An item's popularity is log(1 + purchases + 0.3 clicks) in training, as a share of the largest; it survives saving and new items."""
    rows = [{"item_id": name, "title": "red dress"} for name in "abc"]
    sessions = [
        {"session_id": str(number), "user_id": "u", "time": number, "query": "red", "clicked": ["b"], "purchased": bought}
        for number, bought in enumerate([["b"], [], ["c"]])
    ]
    index = TextIndex.of(Market.from_rows(items=rows, sessions=sessions)).with_items(["d"], ["red dress"])
    index.save(tmp_path / "index.safetensors")
    for found in (index, TextIndex.load(tmp_path / "index.safetensors")):
        assert found.popular(["a", "b", "c", "d"]).tolist() == pytest.approx([0.0, 1.0, np.log(2) / np.log(2.9), 0.0])

    def order(popularity, weight=10.0):
        config = SearchConfig(text_weight=weight, text_popularity=popularity)
        return [hit.item_id for hit in with_text_match(index, "red dress", hits(a=-1.0, c=-1.5, b=-2.0, d=-3.0), config)]

    assert order(0.0) == ["a", "c", "b", "d"] and order(0.3) == ["b", "c", "a", "d"]
    assert order(0.3, weight=0.0) == order(0.0), "without a weight of the text match nothing is added"


@pytest.fixture(scope="module")
def own_run(rewarded, tmp_path_factory):
    from onesearch.files import RunFolder

    return RunFolder(shutil.copytree(rewarded.root, tmp_path_factory.mktemp("served") / "tiny"))


def test_a_large_weight_gives_the_order_of_bm25(reward_searcher, market):
    requests = build_requests(market, "test")[:20]
    searcher = reward_searcher.arm("text", rerank=False, candidates="beam+text", text_weight=1000.0)
    for ranking, expected in zip(searcher.retrieve(requests, 10), BM25Retriever(market).retrieve(requests, 10)):
        assert len(ranking.item_ids) == 10
        match = searcher.text_index.match(requests[0].query, ranking.item_ids)
        assert len(match) == 10
        best = set(expected.item_ids[:1])
        shared = len(set(ranking.item_ids) & set(expected.item_ids))
        assert shared >= len(expected.item_ids) // 2 and (best <= set(ranking.item_ids) or not best)


def test_the_served_order_is_the_best_on_validation(own_run, market):
    bm25 = BM25Retriever(market)
    choice = choose_search(own_run, market, [bm25])
    orders = {name for name in ARMS if not name.endswith("_dense")}  # the run has no dense index
    assert set(choice.quality) == {*orders, "bm25"} and choice.requests >= 20
    assert choice.quality[choice.arm] >= max(choice.quality[name] for name in orders) - auto_search.CLOSE
    assert choice.quality[choice.arm] >= choice.quality["bm25"] - 0.02, (
        "the largest weight of the text match gives BM25's order"
    )
    serve(own_run, choice.search)
    served = Searcher.from_pretrained(own_run.checkpoint)
    assert served.config == choice.search and choice.arm in {arm.name for arm in served_arms(served)}
    assert str(choice).startswith(f"order: {ARMS[choice.arm]}")


def test_the_text_comes_first_where_nothing_can_be_chosen_by(own_run, market):
    few = replace(market, info={**market.info, "split": {"method": "none"}})
    choice = choose_search(own_run, few)
    assert choice.arm == "onesearch_text" and choice.search.text_weight == 10.0 and not choice.quality
    assert "too few to choose by" in str(choice)


def test_the_quality_counts_every_kind_by_its_requests():
    from onesearch.data.requests import Request
    from onesearch.evaluation.evaluator import evaluate
    from onesearch.evaluation.retrievers import Ranking

    class Fixed:
        name = "fixed"

        def retrieve(self, requests, top_k):
            return [Ranking(("a", "b"), (1.0, 0.5)) for _ in requests]

    requests = [Request("1", "u", "q", clicked=("b",)), Request("2", "u", "q", clicked=("z",), purchased=("a",))]
    report = evaluate([Fixed()], requests, bootstrap_samples=1, progress=False)
    assert quality(report, "fixed") == pytest.approx(((1 + 0.5) / 2 + 0 + 1) / 3)


def test_settings_of_the_text_match_are_checked(shared_run):
    for value in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="text_weight"):
            SearchConfig(text_weight=value)
        with pytest.raises(ValueError, match="text_popularity"):
            SearchConfig(text_popularity=value)
    with pytest.raises(TypeError, match="text_weight"):
        SearchConfig(text_weight="much")
    with pytest.raises(ValueError, match=r"text_weight=1\.0 needs a text index"):
        Searcher.from_pretrained(shared_run.checkpoint, text_weight=1.0)
