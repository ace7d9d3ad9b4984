"""Re-ranking: a reward model is trained from the command line, saved with the checkpoint, ranks its hits, and is measured as an arm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from onesearch import Searcher
from onesearch.data.market import Market
from onesearch.data.requests import build_requests
from onesearch.data.user_logs import UserLogs
from onesearch.files import read_json
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.pipeline.evaluation import evaluate_run
from onesearch.pipeline.recipe import EvaluationConfig
from onesearch.serving.reranker import Reranker
from onesearch.views.reward.ranking import rewards


@pytest.fixture(scope="module")
def searcher(reward_searcher):
    return reward_searcher


def test_the_reward_model_orders_the_whole_beam(rewarded, searcher, market):
    requests = build_requests(market, "test")[:8]
    assert searcher.config.rerank and SearchConfig.from_pretrained(rewarded.checkpoint).rerank
    plain = searcher.arm("plain", rerank=False)
    full = plain.hits(requests, 10 * 5)
    ranked = searcher.hits(requests, 5)
    scored = searcher.reranker.score(requests, full)
    values = rewards(searcher.reranker.parts.weights, scored.logits, scored.relevance, scored.log_p)
    for found, own, top in zip(full, values, ranked):
        order = np.argsort(-own[: len(found)], kind="stable")[:5]
        assert [hit.item_id for hit in top] == [found[place].item_id for place in order]
        assert [hit.score for hit in top] == pytest.approx([own[place] for place in order], rel=1e-4)
    assert any([hit.item_id for hit in found[:5]] != [hit.item_id for hit in top] for found, top in zip(full, ranked))


def test_filters_the_history_and_explanations_work_with_it(searcher, market):
    request = build_requests(market, "test")[0]
    some = list(market.items["item_id"])[:100]
    hits = searcher.search(request.query, request.history, items=some, explain=True)
    assert hits and {hit.item_id for hit in hits} <= set(some)
    assert all(len(hit.towers) == 3 and all(0 <= chance <= 1 for chance in hit.towers) for hit in hits)
    assert all(hit.level_scores is not None for hit in hits)
    first = [hit.item_id for hit in searcher.search(request.query, top_k=2)]
    fresh = searcher.search(request.query, first, exclude_history=True)
    assert not {hit.item_id for hit in fresh} & set(first)
    assert searcher.search(request.query, rerank=False)[0].towers is None


def test_an_item_that_the_reward_model_does_not_know_stays_behind_the_known_ones(searcher, market):
    request = build_requests(market, "test")[0]
    hits = searcher.arm("plain", rerank=False).hits([request], 6)[0]
    unknown = [replace(hits[0], item_id="new-1"), replace(hits[1], item_id="new-2")]
    (found,) = searcher.reranker.rerank([request], [[*unknown, *hits[2:]]], top_k=10)
    assert [hit.item_id for hit in found[-2:]] == ["new-1", "new-2"] and len(found) == 6


def test_what_is_saved_is_loaded(rewarded, searcher, market):
    requests = build_requests(market, "test")[:4]
    hits = searcher.arm("plain", rerank=False).hits(requests, 10)
    again = Reranker.from_pretrained(rewarded.checkpoint / "reward")
    for one, other in zip(searcher.reranker.rerank(requests, hits, 10), again.rerank(requests, hits, 10)):
        assert one == other


def test_the_memory_ends_with_the_training_split(rewarded, searcher):
    market = Market.load(rewarded.market)
    memory = searcher.reranker.parts.memory
    training = {request.query for request in build_requests(market, "train")}
    later = {text for text in UserLogs(market).queries if text.strip()} - training
    counted = memory.query_events.before(memory.query_numbers(sorted(later)))
    only_later = [
        query
        for query in sorted(later)
        if " ".join(query.lower().split()) not in {" ".join(t.lower().split()) for t in training}
    ]
    assert only_later and not counted[[sorted(later).index(query) for query in only_later]].any()


def test_a_report_shows_the_generator_the_reward_model_and_text_recall(rewarded):
    report = evaluate_run(rewarded, EvaluationConfig(sample=20), name="arms", baselines=False, progress=False)
    saved = read_json(rewarded.evaluation / "arms" / "metrics.json")
    table = report.to_table()
    for name in ("onesearch", "onesearch_reward", "onesearch_reward_text"):
        assert f"'{name}'" in str(saved) and name in table


def test_without_a_reward_model_re_ranking_is_refused(checkpoint, shared_searcher):
    with pytest.raises(ValueError, match="rerank=True needs a reward model"):
        shared_searcher.search("red shoe", rerank=True)
    with pytest.raises(ValueError, match="train one with `onesearch reward`"):
        Searcher.from_pretrained(checkpoint, rerank=True)
