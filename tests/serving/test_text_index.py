"""The text index: the scores of the BM25 baseline, also after items were added, and from a file."""

from __future__ import annotations

import numpy as np
import pytest

from onesearch.data.requests import build_requests
from onesearch.data.text import item_texts
from onesearch.evaluation.baselines.text import BM25Retriever
from onesearch.extras import MissingExtraError
from onesearch.serving.text_index import TEXT_INDEX_NAME, TextIndex

TEXTS = ["red shoe", "blue shoe, blue sole", "", "green coat"]
EMPTY = (), {}, *[np.zeros(0, dtype=np.int64)] * 3


def index_of(texts=TEXTS, language="en"):
    return TextIndex(language, *EMPTY).with_items([f"item-{row}" for row in range(len(texts))], texts)


@pytest.fixture(scope="module")
def whole(market):
    return TextIndex.of(market)


def test_it_ranks_as_the_bm25_baseline(market, whole):
    baseline = BM25Retriever(market)
    requests = build_requests(market, "test")[:20]
    for request, ranking in zip(requests, baseline.retrieve(requests, 450)):
        scores = whole.scores(request.query)
        row_of = {item_id: row for row, item_id in enumerate(whole.item_ids)}
        assert [scores[row_of[item_id]] for item_id in ranking.item_ids] == pytest.approx(ranking.scores, rel=1e-5)
        assert (scores > 0).sum() == len(ranking.item_ids)
        found = whole.search(request.query, 10)
        assert scores[[row_of[item_id] for item_id in found]] == pytest.approx(ranking.scores[:10], rel=1e-5)


def test_with_added_items_it_scores_as_if_it_had_been_built_with_them(market, whole):
    texts, item_ids = item_texts(market), list(whole.item_ids)
    part = TextIndex(whole.language, *EMPTY).with_items(item_ids[:300], texts[:300])
    part.scores("shoe")  # what follows from the first items is not kept
    grown = part.with_items(item_ids[300:], texts[300:])
    for request in build_requests(market, "test")[:5]:
        np.testing.assert_array_equal(grown.scores(request.query), whole.scores(request.query))


def test_a_new_text_replaces_the_old_one():
    changed = index_of().with_items(["item-0", "new"], ["grey hat", "red hat"])
    assert changed.item_ids == ("item-1", "item-2", "item-3", "item-0", "new")
    assert changed.search("red", 5) == ["new"] and changed.search("hat", 5) == ["item-0", "new"]
    same = TextIndex("en", *EMPTY).with_items(changed.item_ids, [*TEXTS[1:], "grey hat", "red hat"])
    np.testing.assert_array_equal(changed.scores("a blue hat"), same.scores("a blue hat"))


def test_what_is_saved_is_loaded(whole, tmp_path):
    for index in (whole, index_of(["红色运动鞋", "蓝鞋"], "zh")):
        index.save(tmp_path / TEXT_INDEX_NAME)
        again = TextIndex.load(tmp_path / TEXT_INDEX_NAME)
        query = "运动" if index.language == "zh" else "shoe blue"
        assert again.item_ids == index.item_ids and again.language == index.language
        np.testing.assert_array_equal(again.scores(query), index.scores(query))
    assert again.search("运动鞋", 5) == ["item-0"]
    (tmp_path / TEXT_INDEX_NAME).write_bytes(b"0" * 40)
    with pytest.raises(ValueError, match=r"onesearch reward"):
        TextIndex.load(tmp_path / TEXT_INDEX_NAME)


def test_items_that_may_not_be_found_take_no_place():
    index = index_of([f"shoe {'sole ' * row}" for row in range(40)])
    assert index.search("shoe", 2) == ["item-0", "item-1"]
    assert index.search("shoe", 2, lambda ids: [item_id in ("item-30", "item-38", "item-39") for item_id in ids]) == [
        "item-30",
        "item-38",
    ]
    assert index.search("shoe", 2, lambda ids: [False] * len(ids)) == []
    assert index.search("hat", 2) == [] and index.search("the", 2) == []


def test_what_does_not_fit_is_refused(market, monkeypatch):
    with pytest.raises(ValueError, match="'a' is given twice"):
        index_of().with_items(["a", "b", "a"], ["x", "y", "z"])
    with pytest.raises(ValueError, match="1 texts for 2 items"):
        index_of().with_items(["a", "b"], ["x"])
    monkeypatch.setattr("onesearch.serving.text_index.item_texts", lambda market: [""] * len(market.items))
    with pytest.raises(ValueError, match=r"all 450 items are without text.*reward.text_index: false"):
        TextIndex.of(market)
    monkeypatch.setattr("onesearch.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"bm25s, Stemmer: pip install onesearch\[evaluation\]"):
        index_of()
