"""Text recall beside the beam: what joins it, with which log-probability, and what is never found."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onesearch import Searcher
from onesearch.cli import main
from onesearch.data.requests import build_requests
from onesearch.extras import MissingExtraError
from onesearch.files import RunFolder
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.pipeline.appending import append_to_run
from onesearch.serving.catalogue import add_from_table, remove
from onesearch.serving.reranker import Reranker
from onesearch.serving.text_index import TEXT_INDEX_NAME, TextIndex
from onesearch.trainers.reward.reward_config import RewardConfig
from onesearch.views.reward.ranking import RankingWeights, rewards

NARROW = {"num_beams": 2, "items_per_sid": 1, "text_items": 8}


@pytest.fixture(scope="module")
def searcher(reward_searcher):
    return reward_searcher.arm("text", candidates="beam+text", **NARROW)


@pytest.fixture(scope="module")
def query(market, searcher):
    """A query whose words many items have."""
    queries = [request.query for request in build_requests(market, "test")[:40]]
    matches = {query: len(searcher.text_index.search(query, 450)) for query in queries}
    assert 20 < max(matches.values()) < 450
    return max(queries, key=lambda query: matches[query])


@pytest.fixture
def own_checkpoint(rewarded, tmp_path):
    return shutil.copytree(rewarded.checkpoint, tmp_path / "rewarded")


def text_searcher(checkpoint):
    return Searcher.from_pretrained(checkpoint, candidates="beam+text", **NARROW)


@pytest.mark.parametrize("rank_by", ["sid", "item"])
def test_the_best_texts_join_the_beam_with_their_log_probabilities(searcher, market, rank_by):
    searcher = searcher.arm("text", rank_by=rank_by)
    searcher.reranker = Reranker(searcher.reranker.parts._replace(weights=RankingWeights(ctcvr=0.1, log_p=1.0)))
    requests = build_requests(market, "test")[:6]
    beam = searcher.arm("beam", candidates="beam", rerank=False).hits(requests, 100)
    everything = searcher.arm("all", candidates="beam", rerank=False, num_beams=450, items_per_sid=450)
    joined = []
    for request, found, hits, log_p in zip(requests, searcher.hits(requests, 100), beam, everything.hits(requests, 450)):
        texts = searcher.text_index.search(request.query, 8)
        assert {hit.item_id for hit in found} == {hit.item_id for hit in hits} | set(texts)
        assert len(found) == len({hit.item_id for hit in found})
        joined.append(len(found) - len(hits))
        known = {hit.item_id: hit for hit in log_p}
        candidates = [known[hit.item_id] for hit in found]
        scored = searcher.reranker.score([request], [candidates])
        values = rewards(searcher.reranker.parts.weights, scored.logits, scored.relevance, scored.log_p)[0]
        assert [hit.score for hit in found] == pytest.approx(values.tolist(), rel=1e-3, abs=1e-5)
        assert sorted(values.tolist(), reverse=True) == pytest.approx(values.tolist(), rel=1e-3, abs=1e-5)
    assert max(joined) >= 5


def test_they_are_explained_as_the_beam_is(searcher, query):
    full = searcher.search(query, top_k=450, candidates="beam", num_beams=450, items_per_sid=450, explain=True)
    known = {hit.item_id: hit for hit in full}
    for hit in searcher.search(query, top_k=20, explain=True):
        assert len(hit.towers) == 3
        assert hit.level_scores == pytest.approx(known[hit.item_id].level_scores, abs=1e-4)


def test_filters_and_the_history_hold_for_texts(searcher, query):
    first = searcher.text_index.search(query, 8)
    some = list(searcher.index.item_ids)[::2]
    found = {hit.item_id for hit in searcher.search(query, top_k=100, items=some, exclude=first[:3])}
    assert found <= set(some) - set(first[:3])
    expected = searcher.text_index.search(query, 8, lambda ids: [i in some and i not in first[:3] for i in ids])
    assert set(expected) <= found
    fresh = searcher.search(query, first[:4], top_k=100, exclude_history=True)
    assert not {hit.item_id for hit in fresh} & set(first[:4])
    assert set(first[4:]) <= {hit.item_id for hit in fresh}
    assert len(fresh) >= 8, "excluded items take no place of the text items"


def test_a_removed_item_is_never_found_and_an_added_one_by_its_text(own_checkpoint, query):
    searcher = text_searcher(own_checkpoint)
    gone = searcher.text_index.search(query, 1)
    assert gone[0] in {hit.item_id for hit in searcher.search(query, top_k=100)}
    remove(own_checkpoint, gone)
    codes = searcher.index.codes_of(searcher.index.item_ids[-2:]).tolist()
    table = pa.table({"item_id": ["named", "silent"], "codes": codes, "text": ["zyzzyva", None]})
    pq.write_table(table, own_checkpoint.parent / "new.parquet")
    before = (own_checkpoint / TEXT_INDEX_NAME).read_bytes()
    add_from_table(own_checkpoint, own_checkpoint.parent / "new.parquet")
    assert (own_checkpoint / TEXT_INDEX_NAME).read_bytes() != before
    again = text_searcher(own_checkpoint)
    assert again.text_index.search("zyzzyva", 5) == ["named"] and "silent" not in again.text_index.item_ids
    found = {hit.item_id for hit in again.search(f"zyzzyva {query}", top_k=100)}
    assert "named" in found and gone[0] not in found
    assert {"named", "silent"} <= {hit.item_id for hit in again.search(query, top_k=900, num_beams=450, items_per_sid=450)}


def test_texts_of_appended_items_join_the_index(rewarded, market, tmp_path):
    run = RunFolder(shutil.copytree(rewarded.root, tmp_path / "tiny"))
    one = market.items.data.table.slice(0, 1).to_pylist()[0]
    items = pa.Table.from_pylist([{**one, "item_id": "fresh", "title": "zyzzyva"}], schema=market.items.data.table.schema)
    pq.write_table(items, tmp_path / "new.parquet")
    append_to_run(run, tmp_path / "new.parquet")
    index = TextIndex.load(run.checkpoint / TEXT_INDEX_NAME)
    assert index.search("zyzzyva", 3) == ["fresh"] and len(index.item_ids) == 451
    append_to_run(run, tmp_path / "new.parquet", known="skip")
    assert TextIndex.load(run.checkpoint / TEXT_INDEX_NAME).item_ids == index.item_ids


def test_the_setting_is_saved_with_the_checkpoint(own_checkpoint, searcher, query, capsys):
    saved = SearchConfig.from_pretrained(own_checkpoint)
    assert saved.candidates == "beam" and saved.rerank
    replace(saved, candidates="beam+text", **NARROW).save_pretrained(own_checkpoint)
    expected = [hit.item_id for hit in searcher.search(query, top_k=5)]
    assert [hit.item_id for hit in Searcher.from_pretrained(own_checkpoint).search(query, top_k=5)] == expected
    assert main(["search", str(own_checkpoint), query, "--top-k", "3", "--candidates", "beam+text", "--text-items", "8"]) == 0
    assert [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()] == expected[:3]


def test_without_a_reward_model_or_a_text_index_it_is_refused(checkpoint, own_checkpoint, searcher, monkeypatch):
    with pytest.raises(
        ValueError, match=r"needs rerank=True or a text_weight: BM25 scores and the generator's .* cannot be compared"
    ):
        Searcher.from_pretrained(checkpoint, candidates="beam+text")
    with pytest.raises(ValueError, match="needs rerank=True or a text_weight"):
        searcher.search("red shoe", rerank=False)
    (own_checkpoint / TEXT_INDEX_NAME).unlink()
    with pytest.raises(ValueError, match=r"this checkpoint has none \(text_index.safetensors\); `onesearch reward` builds it"):
        text_searcher(own_checkpoint)
    monkeypatch.setattr("onesearch.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"candidates='beam\+text' needs bm25s, Stemmer"):
        searcher.search("red shoe")
    assert searcher.search("red shoe", candidates="beam")


def test_a_recipe_that_searches_texts_has_a_reward_model(recipe):
    search = SearchConfig(num_beams=10, candidates="beam+text")
    with pytest.raises(ValueError, match=r"search.candidates='beam\+text' needs a reward model with a text index"):
        replace(recipe, search=search)
    with pytest.raises(ValueError, match="needs a reward model with a text index"):
        replace(recipe, search=search, reward=RewardConfig(text_index=False))
    assert replace(recipe, search=search, reward=RewardConfig()).search == search
