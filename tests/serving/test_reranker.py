"""Re-ranking: a reward model is trained from the command line, saved with the checkpoint, ranks its hits, and is measured as an arm."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from onesearch import Searcher
from onesearch.cli import main
from onesearch.data.arrow_tables import table_from_rows
from onesearch.data.market import Market
from onesearch.data.requests import Request, build_requests
from onesearch.data.user_logs import UserLogs
from onesearch.files import RunFolder, read_json
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.parquet_files import read_table
from onesearch.pipeline.evaluation import evaluate_run
from onesearch.pipeline.recipe import EvaluationConfig, save_recipe
from onesearch.serving.catalogue import add_from_table
from onesearch.serving.http.events import EventLog
from onesearch.serving.reranker import Reranker
from onesearch.trainers.reward.reward_config import RewardConfig
from onesearch.views.reward.ranking import rewards
from onesearch.views.reward.reward_folder import save_reward, update_memory


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


def test_a_re_ranked_request_has_the_sids_of_its_hits_first(searcher, market):
    """The SID level of a report would otherwise measure the order of the generator under the name of the reward model."""
    requests = build_requests(market, "test")[:8]
    plain = [ranking.beam_sids for ranking in searcher.arm("plain", rerank=False).retrieve(requests, 5)]
    ranked = searcher.retrieve(requests, 5)
    for ranking, beams in zip(ranked, plain):
        first = list(dict.fromkeys(ranking.sids))
        assert list(ranking.beam_sids[: len(first)]) == first and set(ranking.beam_sids) == set(beams)
    assert any(ranking.beam_sids != beams for ranking, beams in zip(ranked, plain))


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


def test_parts_that_were_read_are_not_written_again(searcher, tmp_path):
    with pytest.raises(TypeError, match="read from a folder.*copy that folder"):
        save_reward(searcher.reranker.parts, tmp_path)
    assert not list(tmp_path.iterdir())


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


def test_new_sessions_are_counted_without_training(rewarded, searcher, market, tmp_path):
    folder = shutil.copytree(rewarded.checkpoint / "reward", tmp_path / "reward")
    before = Reranker.from_pretrained(folder)
    item_id = before.parts.item_ids[3]
    sessions = [
        {
            "session_id": f"new{place}",
            "user_id": "somebody",
            "time": place,
            "query": "unheard of",
            "clicked": [item_id],
            "purchased": [item_id],
        }
        for place in range(5)
    ]
    assert update_memory(folder, table_from_rows("sessions", sessions)) == len(before.parts.memory.queries) + 1
    after = Reranker.from_pretrained(folder)
    for part, own in zip(after.parts.memory.statistics[1:], before.parts.memory.statistics[1:]):
        assert part.before(np.array([3])) == own.before(np.array([3])) + 5
    before.update(table_from_rows("sessions", sessions))
    hits = searcher.arm("plain", rerank=False).hits(build_requests(market, "test")[:2], 10)
    requests = [Request("", "", "unheard of")] * 2
    assert before.rerank(requests, hits, 5) == after.rerank(requests, hits, 5) != searcher.reranker.rerank(requests, hits, 5)
    with pytest.raises(ValueError, match="row 1 is earlier"):
        update_memory(folder, table_from_rows("sessions", sessions[::-1]))


def test_the_command_counts_sessions_and_writes_the_report(rewarded, tmp_path, capsys):
    run = RunFolder(shutil.copytree(rewarded.root, tmp_path / "run"))
    shutil.copy(run.market / "sessions.parquet", tmp_path / "sessions.parquet")
    assert main(["reward", str(run.root), "--update", str(tmp_path / "sessions.parquet")]) == 0
    assert "sessions counted" in capsys.readouterr().out
    assert main(["reward", str(run.root), "--report", "--sample", "30"]) == 0
    table, report = capsys.readouterr().out, read_json(run.evaluation / "reward" / "reward_report.json")
    for tower in ("ctr", "ctcvr"):
        found = report["towers"]["quality"][tower]
        assert {"reward model", "logistic regression", "raw rate", "optimal"} <= set(
            found
        ) and f"| {tower} | optimal |" in table
        assert all(0 <= own["ece"] <= 1 for own in found.values())
    assert sum(own["requests"] for own in report["cohorts"]["length of the history"].values()) == report["requests"] == 30
    recalls = [own["value"] for own in report["beam_recall"].values()]
    assert recalls == sorted(recalls) and 0 < recalls[-1] <= 1


def test_the_event_log_is_counted_once_in_the_saved_tables(rewarded, tmp_path, monkeypatch, capsys):
    run = RunFolder(shutil.copytree(rewarded.root, tmp_path / "run"))
    folder, log = run.checkpoint / "reward", EventLog(run.root / "events")
    item_id = read_table(folder / "reward_items.parquet").column("item_id")[3].as_py()
    session = {"session_id": "s", "user_id": "u", "query": "unheard of", "clicked": [item_id], "purchased": []}

    def clicks():
        return int(Reranker.from_pretrained(folder).parts.memory.statistics[1].before(np.array([3]))[0])

    def update(given):
        code = main(["reward", str(run.root), "--update", str(given)])
        return code == 0, clicks() - first

    first = clicks()
    assert update("events") == (False, 0) and "does not exist; a server" in capsys.readouterr().err
    log.append([{**session, "time": 9}, {**session, "time": 3}])
    replace_file = os.replace

    def crash(source, target):
        if str(target).endswith("memory.safetensors"):
            raise OSError("the process ends here")
        replace_file(source, target)

    monkeypatch.setattr(os, "replace", crash)
    assert update("events") == (False, 0)
    monkeypatch.undo()
    assert update("events") == (True, 2) and "2 sessions counted" in capsys.readouterr().out
    assert update(log.path) == (True, 2) and "\n0 sessions counted" in "\n" + capsys.readouterr().out
    log.append([{**session, "time": 1}])
    update_memory(folder, table_from_rows("sessions", [{**session, "time": 1}]))  # keeps the place in the log
    assert update(log.path) == (True, 4)
    shutil.copy(log.path, tmp_path / "copy.jsonl")
    assert update(tmp_path / "copy.jsonl") == (False, 4) and "is not the event log of this run" in capsys.readouterr().err
    log.path.write_bytes(log.path.read_bytes()[:50])
    assert update("events") == (False, 4) and "was changed" in capsys.readouterr().err


def test_times_and_kinds_of_events_are_read_where_they_are_given(searcher, market):
    request = next(request for request in build_requests(market, "test") if len(request.history) > 2)
    history = list(request.history)

    def scores(**events):
        context = replace(request.context, **events)
        return [hit.score for hit in searcher.search(request.query, history, context=context)]

    plain, count = scores(), len(history)
    assert scores(ages=[60] * count) != plain and scores(ages=[60] * count) != scores(ages=[10**6] * count)
    assert scores(kinds=["carted"] * count) != plain
    bought = set(request.context.purchased)
    assert scores(kinds=["purchased" if item in bought else "clicked" for item in history]) == plain
    for events, message in (
        ({"ages": [1]}, f"ages holds 1 values for a history of {count}"),
        ({"ages": [-1] * count}, "ages holds -1"),
        ({"kinds": ["seen"] * count}, "kinds holds 'seen'"),
    ):
        with pytest.raises(ValueError, match=message):
            scores(**events)
    columns = searcher.reranker.requests.columns(
        [replace(request, history=["gone", *history], context=replace(request.context, ages=[9] * (count + 1)))],
        np.array([[0]]),
    )
    assert columns.gaps.tolist() == [4] * count  # 8 ≤ 9 < 16, and no value for the item that is not known


def test_items_that_join_later_are_ranked_by_what_is_known_of_them(rewarded, market, tmp_path):
    folder = shutil.copytree(rewarded.checkpoint, tmp_path / "checkpoint")
    searcher = Searcher.from_pretrained(folder)
    old = searcher.index.item_ids[7]
    row = market.items[list(market.items["item_id"]).index(old)]
    codes = searcher.index.codes_of([old]).tolist()
    table = pa.table(
        {
            "item_id": ["newcomer", "stranger"],
            "codes": codes * 2,
            "categories": [row["categories"], []],
            "text": [row["title"], None],
        }
    )
    pq.write_table(table, tmp_path / "more.parquet")
    add_from_table(folder, tmp_path / "more.parquet")
    after = Searcher.from_pretrained(folder).reranker
    rows = [after.requests.row_of[item_id] for item_id in (old, "newcomer", "stranger")]
    facets, kinds = after.parts.table.facets, after.parts.table.facets.kinds
    category = [facet for facet in facets.of_items[rows[0]].tolist() if kinds[facets.kind_of[facet]] == "category"]
    assert facets.of_items[rows[1]].tolist() == category and facets.of_items[rows[2]].tolist() == []
    assert after.parts.table.ids[rows].tolist()[1:] == [0, 0] and after.parts.memory.items == len(after.parts.item_ids)
    assert (
        np.linalg.norm(after.parts.table.vectors[rows[1]]) == pytest.approx(1) and not after.parts.table.vectors[rows[2]].any()
    )
    hit = searcher.arm("plain", rerank=False).hits(build_requests(market, "test")[:1], 1)[0][0]
    hits = [[replace(hit, item_id=item_id) for item_id in ("stranger", "newcomer", old, *after.parts.item_ids[:5])]]
    found = after.rerank([Request("", "", row["title"])], hits, 10, explain=True)[0]
    assert all(one.towers is not None for one in found)
    assert [one for one in after.score([Request("", "", "x")], hits).rows[0]][:3] == [rows[2], rows[1], rows[0]]
    sessions = [{"session_id": "s", "user_id": "u", "time": 1, "query": "x", "clicked": ["newcomer"]}]
    update_memory(folder / "reward", table_from_rows("sessions", sessions))
    assert Reranker.from_pretrained(folder / "reward").parts.memory.statistics[1].before(np.array(rows[1:2])).tolist() == [1]


def test_a_damaged_reward_model_is_replaced_and_one_without_a_group_of_inputs_ignores_it(rewarded, recipe, market, tmp_path):
    run = RunFolder(shutil.copytree(rewarded.root, tmp_path / "run"))
    (run.checkpoint / "reward" / "reward_items.safetensors").write_bytes(b"damaged")
    groups = ["id_memory", "long_history", "attributes", "transitions", "log_p"]
    config = RewardConfig(
        hidden_size=8, attention_heads=2, tower_size=8, searches=40, epochs=1, without=groups, text_index=False
    )
    save_recipe(replace(recipe, reward=config), tmp_path / "reward.yaml")
    assert main(["reward", str(run.root), "--recipe", str(tmp_path / "reward.yaml")]) == 0
    reranker = Reranker.from_pretrained(run.checkpoint / "reward")
    assert reranker.parts.without == tuple(groups) and reranker.parts.weights.log_p == 0
    assert not reranker.inputs.table.ids.any() and reranker.inputs.table.facets.of_items.lengths.sum() == 0
    request = max(build_requests(market, "test"), key=lambda one: len(one.history))
    columns = reranker.requests.columns([request], np.arange(5)[None])
    tensors = reranker.inputs.tensors(columns)
    names = reranker.inputs.names
    zero = [
        name.split("_")[0] in ("touched", "recent", "purchased", "shown", "rate")
        and name not in ("shown", "purchased")
        or "transition" in name
        for name in names
    ]
    assert not tensors["features"][..., torch.tensor(zero)].any() and tensors["features"].any()
    assert len(request.history) > 10 == tensors["history"].shape[1]
    with pytest.raises(ValueError, match="reward.without holds 'colour'; allowed are id_memory"):
        RewardConfig(without=("colour",))
