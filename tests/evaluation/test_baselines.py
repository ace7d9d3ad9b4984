"""Each baseline on a market small enough to rank by hand, and on published data if they are present."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from importer_files import REAL

from onesearch.data.arrow_tables import as_dataset, table_from_rows
from onesearch.data.market import Market
from onesearch.data.requests import Request, build_requests
from onesearch.evaluation.baselines import (
    BM25Retriever,
    CascadeRetriever,
    CascadeWeights,
    DenseRetriever,
    PopularityInCategoryRetriever,
    PopularityRetriever,
    SASRecConfig,
    SASRecRetriever,
    TransitionRetriever,
)
from onesearch.evaluation.baselines.text import make_tokenizer
from onesearch.evaluation.baselines.training import best_rows, read_training_log
from onesearch.evaluation.retrievers import Ranking, Retriever

ITEMS = [
    ("d1", "red summer dresses", "Ann", ["clothes", "dress"]),
    ("d2", "blue dress", "Bob", ["clothes", "dress"]),
    ("d3", "green dress long", "Ann", ["clothes", "dress"]),
    ("s1", "running shoes", "Bob", ["clothes", "shoes"]),
    ("s2", "leather shoes", None, ["clothes", "shoes"]),
    ("k1", "kettle steel", None, ["kitchen", "kettle"]),
]
TRAIN = [
    # user, query, clicked, purchased
    ("u1", "Summer dress", ["d1"], ["d2"]),
    ("u1", "shoes", [], ["s1"]),
    ("u2", "summer dress", [], ["d2"]),
    ("u2", "shoes", ["s2"], ["s1"]),
    ("u3", "summer dress", [], ["d1"]),
    ("u3", "shoes", [], ["s2"]),
    ("u4", "nice shoes", ["s2"], []),
    ("u4", "kettle", ["k1"], []),
]
TEST = [("u5", "summer dress", [], ["d3"]), ("u5", "kettle", ["k1"], ["k1"])]


def make_market(test=TEST) -> Market:
    rows = [*TRAIN, *test]
    return Market.from_rows(
        items=[{"item_id": i, "title": title, "brand": brand, "categories": path} for i, title, brand, path in ITEMS],
        sessions=[
            {"session_id": f"s{n}", "user_id": user, "time": n, "query": query, "clicked": clicked, "purchased": purchased}
            for n, (user, query, clicked, purchased) in enumerate(rows)
        ],
        info={"split": {"method": "time", "validation": 0.0, "test": 0.2}},
    )


def ask(retriever: Retriever, query: str, history: tuple[str, ...] = (), top_k: int = 6) -> Ranking:
    (ranking,) = retriever.retrieve([Request("s", "u", query, history)], top_k)
    return ranking


@pytest.fixture(scope="module")
def market() -> Market:
    return make_market()


def all_baselines(market: Market) -> list[Retriever]:
    vectors = np.eye(len(market.items), 4, dtype=np.float32)
    dense = DenseRetriever(market.items["item_id"][:], vectors, lambda queries: np.ones((len(queries), 4), dtype=np.float32))
    kinds = (BM25Retriever, PopularityRetriever, PopularityInCategoryRetriever, TransitionRetriever, CascadeRetriever)
    return [dense, SASRecRetriever(market, config=SASRecConfig(hidden_size=8, epochs=2)), *(kind(market) for kind in kinds)]


def test_all_meet_the_protocol(market):
    requests = [Request("a", "u", "dress"), Request("b", "u", "unheard of", ("d1", "gone")), Request("c", "u", "dress")]
    for retriever in all_baselines(market):
        assert isinstance(retriever, Retriever)
        rankings = retriever.retrieve(requests, 3)
        assert len(rankings) == 3 and all(len(ranking.item_ids) <= 3 for ranking in rankings)
        assert rankings[0] == rankings[2]
        assert all(np.diff(ranking.scores).max(initial=0) <= 0 for ranking in rankings)
        assert all((ranking.sids, ranking.invalid, ranking.beams) == ((), 0, 0) for ranking in rankings)
        assert retriever.retrieve([], 3) == []


def test_fit_reads_the_training_split_only(market):
    changed = make_market([("u5", "summer dress", ["k1"], ["k1"]), ("u6", "kettle", ["s1"], ["s2"])])
    requests = [Request("a", "u", query, ("d2",)) for query in ("summer dress", "kettle", "shoes", "long")]
    for before, after in zip(all_baselines(market), all_baselines(changed)):
        assert before.retrieve(requests, 6) == after.retrieve(requests, 6)


def test_training_log(market):
    log = read_training_log(market)
    assert log.purchases.tolist() == [1, 2, 0, 2, 1, 0]
    assert log.clicks.tolist() == [1, 0, 0, 0, 2, 1]
    assert log.by_query["summer dress"] == ([1, 1, 0], [0])
    assert log.rows.tolist() == [0, 1, 3, 1, 4, 3, 0, 4, 4, 5]
    assert log.repeat_share() == 0


def test_popularity_counts_purchases_then_clicks(market):
    ranking = ask(PopularityRetriever(market), "anything")
    assert ranking.item_ids == ("d2", "s1", "s2", "d1", "k1", "d3")


def test_bm25_stems_and_returns_matches_only(market):
    bm25 = BM25Retriever(market)
    assert ask(bm25, "Dress for the summer").item_ids[0] == "d1"
    assert set(ask(bm25, "dresses").item_ids) == {"d1", "d2", "d3"}
    assert ask(bm25, "zzz").item_ids == ask(bm25, "").item_ids == ()
    assert "d1" not in ask(BM25Retriever(market, stem=False, fields=("title",)), "dress").item_ids


def test_chinese_is_cut_into_bigrams():
    tokens = make_tokenizer("zh")
    assert tokens("红色连衣裙 iPhone15") == ["红色", "色连", "连衣", "衣裙", "iphone15"]
    assert tokens("xl大码t") == ["xl", "大码", "t"]
    assert tokens("裙") == ["裙"]
    with pytest.raises(ValueError, match="language is 'French'"):
        make_tokenizer("French")


def test_bm25_needs_text(market):
    blank = replace(Market.from_rows(items=[]), items=as_dataset(table_from_rows("items", [{"item_id": "a", "title": ""}])))
    with pytest.raises(ValueError, match="all 1 items are without text"):
        BM25Retriever(blank)


@pytest.mark.parametrize(("module", "needed"), [("bm25s", "BM25Retriever needs bm25s"), ("Stemmer", "stem=True needs Stemmer")])
def test_bm25_names_the_extra_that_is_missing(market, monkeypatch, module, needed):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{needed}: pip install onesearch\[evaluation\]$"):
        BM25Retriever(market)


def test_dense_names_the_extra_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"DenseRetriever needs faiss: pip install onesearch\[evaluation\]$"):
        DenseRetriever(["a"], np.zeros((1, 2)), lambda queries: np.zeros((1, 2)))


def test_dense_ranks_by_inner_product():
    dense = DenseRetriever(
        ["a", "b", "c"], np.array([[1, 0], [0, 1], [2, 2]]), lambda queries: np.array([[1, 0.2]] * len(queries))
    )
    ranking = ask(dense, "q")
    assert ranking.item_ids == ("c", "a", "b")
    assert ranking.scores == pytest.approx((2.4, 1, 0.2))
    with pytest.raises(ValueError, match="for 2 items"):
        DenseRetriever(["a", "b"], np.zeros((3, 2)), lambda queries: np.zeros((1, 2)))
    with pytest.raises(ValueError, match="not finite"):
        DenseRetriever(["a"], np.array([[np.nan, 0]]), lambda queries: np.zeros((1, 2)))
    with pytest.raises(ValueError, match=r"expected \(queries, 2\)"):
        ask(DenseRetriever(["a"], np.zeros((1, 2)), lambda queries: np.zeros((1, 3))), "q")


def test_popularity_in_category_of_a_known_query(market):
    retriever = PopularityInCategoryRetriever(market)
    # dresses by purchases, then the parent (clothes), then everything
    assert ask(retriever, "SUMMER  dress").item_ids == ("d2", "d1", "d3", "s1", "s2", "k1")
    assert ask(retriever, "summer dress", top_k=2).item_ids == ("d2", "d1")
    # clicks count where nothing was bought
    assert retriever.category_shares("nice shoes") == {("clothes", "shoes"): 1}


def test_popularity_in_category_of_an_unknown_query(market):
    retriever = PopularityInCategoryRetriever(market)
    assert retriever.category_shares("kitchen kettle") == {("kitchen", "kettle"): 1}
    assert retriever.category_shares("long green") == {("clothes", "dress"): 1}
    assert retriever.category_shares("zzz") == {}
    assert ask(retriever, "zzz").item_ids == ask(PopularityRetriever(market), "zzz").item_ids


def test_popularity_in_several_categories_weighs_by_share():
    base = make_market()
    rows = [("u", "gift", [], ["d2"]), ("v", "gift", [], ["d2"]), ("w", "gift", [], ["k1"])]
    sessions = [
        {"session_id": f"g{n}", "user_id": user, "time": n, "query": query, "clicked": clicked, "purchased": purchased}
        for n, (user, query, clicked, purchased) in enumerate(rows)
    ]
    market = Market.from_rows(items=list(base.items), sessions=sessions)
    retriever = PopularityInCategoryRetriever(market)
    assert retriever.category_shares("gift") == pytest.approx({("clothes", "dress"): 2 / 3, ("kitchen", "kettle"): 1 / 3})
    assert ask(retriever, "gift").item_ids[:2] == ("d2", "k1")


def test_cascade_follows_the_history(market):
    cascade = CascadeRetriever(market)
    # d1 was followed by s2, and d2 by s1, in training histories
    assert ask(cascade, "shoes", ("d1",)).item_ids[0] == "s2"
    assert ask(cascade, "shoes", ("d2",)).item_ids[0] == "s1"
    assert set(ask(cascade, "shoes", ("d2",), top_k=2).item_ids) == {"s1", "s2"}


def test_cascade_uses_brand_and_drops_what_was_bought(market):
    cascade = CascadeRetriever(
        market, weights=CascadeWeights(transition=0, brand=1, text=0, category=1, query=0, popularity=0.01)
    )
    ranking = ask(cascade, "summer dress", ("d1",))
    assert ranking.item_ids[0] == "d3"  # the other dress by Ann
    assert "d1" not in ranking.item_ids and len(ranking.item_ids) == 5


def test_cascade_state_does_not_leak_between_requests(market):
    cascade = CascadeRetriever(market)
    cold = ask(cascade, "shoes")
    ask(cascade, "shoes", ("d1", "d2", "k1"))
    assert ask(cascade, "shoes") == cold
    mixed = cascade.retrieve([Request("a", "u", "shoes", ("d1",)), Request("b", "u", "shoes")], 6)
    assert mixed[1] == cold


def test_cascade_tuning_does_not_lose(market):
    cascade = CascadeRetriever(market, weights=CascadeWeights(0, 0, 0, 0, 0, 0))
    requests = build_requests(market, "train")
    targets = {request.session_id: set(request.purchased or request.clicked) for request in requests}

    def hits() -> int:
        return sum(ranking.item_ids[0] in targets[r.session_id] for r, ranking in zip(requests, cascade.retrieve(requests, 6)))

    before = hits()
    weights = cascade.tune(requests)
    assert weights == cascade.weights != CascadeWeights(0, 0, 0, 0, 0, 0)
    assert hits() >= before
    with pytest.raises(ValueError, match="nothing to tune on"):
        cascade.tune([replace(requests[0], clicked=(), purchased=("gone",))])


def test_cascade_without_sessions():
    market = Market.from_rows(items=[{"item_id": i, "title": title, "categories": path} for i, title, _, path in ITEMS])
    assert ask(CascadeRetriever(market), "kettle").item_ids[0] == "k1"


def test_best_rows_keeps_ties_in_order():
    scores = np.array([1.0, 3.0, 2.0, 3.0, 2.0, 2.0])
    assert best_rows(scores, 4).tolist() == [1, 3, 2, 4]
    assert best_rows(scores, 99).tolist() == [1, 3, 2, 4, 5, 0]


def test_an_empty_catalogue_raises():
    with pytest.raises(ValueError, match="no items"):
        PopularityRetriever(Market.from_rows(items=[]))


@pytest.mark.skipif(not (REAL / "chorus_electronics").is_dir(), reason="Chorus electronics is missing")
def test_bm25_meets_the_published_figures_of_chorus():
    from onesearch.data.importers.chorus import import_chorus
    from onesearch.evaluation.relevance import evaluate_relevance

    market = import_chorus(REAL / "chorus_electronics")
    plain = evaluate_relevance([BM25Retriever(market, stem=False)], market, bootstrap_samples=10, progress=False).report
    values = {metric: estimate["value"] for metric, estimate in plain["retrievers"]["bm25"].items()}
    assert plain["queries"] == 116
    assert values == pytest.approx({"NDCG@10": 0.708, "Recall@100": 0.857, "judged@10": 0.77}, abs=0.02)


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / "amazon_beauty").is_dir(), reason="Amazon Beauty is missing")
def test_reference_figures_of_beauty():
    from onesearch.data.importers.amazon import import_amazon
    from onesearch.evaluation.evaluator import evaluate, sample_requests

    market = import_amazon(REAL / "amazon_beauty")
    cascade = CascadeRetriever(market)
    cascade.tune(sample_requests(build_requests(market, "validation"), 1000)[0])
    retrievers = [PopularityInCategoryRetriever(market), cascade]
    report = evaluate(retrievers, build_requests(market, "test"), bootstrap_samples=10, progress=False)
    assert report.requests == 22_363
    assert report.value("popularity_in_category", "HR@10") == pytest.approx(0.281, abs=0.005)
    assert report.value("cascade_linear", "HR@10") > 0.38
