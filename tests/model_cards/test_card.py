"""The card of a checkpoint shows the diagnostics and the settings of its evaluation, and its snippet gives the measured hits."""

from __future__ import annotations

import contextlib
import io
import json
import re
from dataclasses import asdict

import pytest
from huggingface_hub import ModelCard

from onesearch import Request, Searcher
from onesearch.data.requests import build_requests
from onesearch.evaluation.evaluator import evaluate
from onesearch.files import read_json
from onesearch.model_cards.card import card_text, refresh_card, write_card
from onesearch.model_cards.latency import measure_latency, reranking_cost
from onesearch.model_cards.training_text import count_parameters
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.pipeline.evaluation import evaluate_run
from onesearch.pipeline.recipe import EvaluationConfig

OTHER_SETTINGS = SearchConfig(num_beams=7, rank_by="item", items_per_sid=2, exclude_history=True)


def test_the_card_shows_the_codes_and_their_page(shared_run):
    text = (shared_run.checkpoint / "README.md").read_text(encoding="utf-8")
    report = read_json(shared_run.sids / "diagnostics.json")
    assert "](diagnostics.png)" in text and "\nlanguage: en\n" in text
    assert (shared_run.checkpoint / "diagnostics.png").read_bytes() == (shared_run.sids / "diagnostics.png").read_bytes()
    rows = [line for line in text.splitlines() if line.startswith(tuple(f"| {level} |" for level in range(5)))]
    assert len(rows) == len(report["codebook_sizes"])
    assert f"{report['items']['used_per_level'][0]} of 16" in rows[0]
    assert f"{100 * report['items']['icr_sids']:.1f} % of the SIDs belong to one item" in text
    assert "by chance" in text and "category purity" in text


def test_a_run_without_a_page_category_or_sessions_has_a_card_without_them(run):
    path = run.sids / "diagnostics.json"
    report = {**read_json(path), "page": [], "purity": {"coarse": None, "fine": None}}
    report["agreement"] = {"split": "validation", "click": None, "purchase": None}
    path.write_text(json.dumps(report))
    text = write_card(run, "tiny").read_text(encoding="utf-8")
    assert "diagnostics.png" not in text and "by chance" not in text and "category purity" not in text
    assert "| 4 | " in text


def test_diagnostics_of_another_schema_are_refused(run):
    path = run.sids / "diagnostics.json"
    path.write_text(json.dumps({**read_json(path), "schema": 1}))
    with pytest.raises(ValueError, match="diagnostics.json has schema 1, expected 2; build the SIDs again"):
        write_card(run, "tiny")


@pytest.mark.parametrize("saved", [True, False], ids=["saved with the checkpoint", "given to the evaluation"])
def test_the_snippet_gives_the_hits_that_the_table_was_measured_on(run, market, saved, monkeypatch):
    if saved:
        OTHER_SETTINGS.save_pretrained(run.checkpoint)
    measure = {"overwrite": True, "baselines": False, "progress": False}
    report = evaluate_run(run, EvaluationConfig(sample=20), None if saved else asdict(OTHER_SETTINGS), **measure)
    page = write_card(run, "tiny").read_text(encoding="utf-8")
    assert "| `num_beams` | `7` |" in page and "| `rank_by` | `'item'` |" in page and "At most 2 items of one SID" in page
    snippet, alone = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert ("num_beams=7" in snippet) is not saved and ("num_beams=7" in alone) is not saved
    monkeypatch.chdir(run.root.parent)  # the card names no folder of this machine
    namespace: dict[str, object] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(snippet, namespace)
    searcher, rankings = namespace["searcher"], report.rankings["onesearch"]
    requests = [request for request in build_requests(market, "test") if request.session_id in rankings]
    for request in requests:
        hits = searcher.search(request.query, request.history, top_k=10, context=request.context)
        assert [hit.item_id for hit in hits] == list(rankings[request.session_id].item_ids[:10])
    again = evaluate([searcher], requests, split="test").retrievers["onesearch"]["targets"]["purchase"]["item"]["HR@5"]
    row = next(line for line in page.splitlines() if line.startswith("| onesearch | "))
    assert f"| {again['value']:.4f} [" in row, "the snippet gives the row of the table"
    # The query that it prints is answered as the evaluator would measure it.
    query = re.search(r'search\("(.*?)", history', snippet)[1]
    measured = Searcher.from_pretrained(run.checkpoint, **asdict(OTHER_SETTINGS))
    (ranking,) = measured.retrieve([Request("", "", query)], 10)
    assert [line.split()[0] for line in printed.getvalue().splitlines()] == list(ranking.item_ids)
    other = Searcher.from_pretrained(run.checkpoint, **asdict(SearchConfig(num_beams=10))).retrieve(requests, 10)
    assert any(ranking.item_ids != rankings[request.session_id].item_ids[:10] for request, ranking in zip(requests, other))


def test_an_evaluation_renews_the_card_and_keeps_what_people_wrote(run, caplog):
    path = run.checkpoint / "README.md"
    write_card(run, "My shop", "me/shop")
    before = path.read_text(encoding="utf-8")
    measure = {"overwrite": True, "baselines": False, "progress": False}
    evaluate_run(run, EvaluationConfig(sample=5), {"num_beams": 4}, name="other", **measure)
    assert path.read_text(encoding="utf-8") == before, "a report beside the main one does not count"
    evaluate_run(run, EvaluationConfig(sample=5), {"num_beams": 4}, **measure)
    after = path.read_text(encoding="utf-8")
    assert "5 requests" in after and "num_beams=4" in after and "5 requests" not in before
    assert after.count('"me/shop"') == before.count('"me/shop"') and "# My shop\n" in after and "name: My shop\n" in after
    assert not caplog.records or "was edited" not in caplog.text
    path.write_text(after.replace("# My shop\n", "# My shop\n\nFor shoes only.\n"), encoding="utf-8")
    evaluate_run(run, EvaluationConfig(sample=6), **measure)
    edited = path.read_text(encoding="utf-8")
    assert "# My shop\n\nFor shoes only.\n" in edited and "6 requests" in edited and "5 requests" not in edited
    path.write_text(edited.replace("6 requests", "all requests"), encoding="utf-8")
    evaluate_run(run, EvaluationConfig(sample=5), **measure)
    assert "all requests" in path.read_text(encoding="utf-8")
    assert "the generated part 'results' was edited, so that it is left as it is" in caplog.text
    path.unlink()
    refresh_card(run)
    assert not path.exists()


def test_every_number_of_the_results_is_one_of_the_report(rewarded):
    run = rewarded
    measure_latency(run, requests=3)
    text = card_text(run, "tiny")
    report, times = read_json(run.evaluation / "metrics.json"), read_json(run.evaluation / "latency.json")
    known = {f"{value:.4f}" for value in numbers(report)}
    results = re.search(r"<!-- onesearch:results -->(.*)<!-- /onesearch:results", text, re.DOTALL)[1]
    found = re.findall(r"\b\d\.\d{4}\b", results)
    assert len(found) > 50 and set(found) <= known
    for name, row in times["arms"].items():
        assert f"| {name} | {row['median_ms']:.2f} | {row['p95_ms']:.2f} | {row['cpu_ms']:.2f} |" in text
    assert times["hardware"]["processor"] in text and f"torch {times['hardware']['torch']}" in text
    results = ModelCard(text).data.eval_results
    assert {result.metric_type for result in results} >= {"purchase_hr_at_10", "click_hr_at_10", "purchase_ndcg_at_10"}
    for result in results:
        kind, _, metric = result.metric_type.partition("_")
        targets = report["retrievers"][result.metric_config]["targets"]
        estimate = targets[kind]["item"][metric.upper().replace("_AT_", "@")]
        assert result.metric_value == round(estimate["value"], 4)
        assert result.metric_args["interval"] == [round(estimate["low"], 4), round(estimate["high"], 4)]


def test_the_card_says_what_re_ranking_costs():
    arms = {name: {"cpu_ms": value} for name, value in (("onesearch", 6.0), ("onesearch_text", 9.0), ("onesearch_reward", 8.0))}
    assert reranking_cost(arms) == "The reward model takes 2.00 ms of a search's 8.00 ms of CPU time (25%)."
    assert reranking_cost({"onesearch": {"cpu_ms": 6.0}}) is None


def numbers(value):
    """All numbers in nested values."""
    if isinstance(value, dict | list):
        return [number for part in (value.values() if isinstance(value, dict) else value) for number in numbers(part)]
    return [value] if isinstance(value, int | float) else []


def test_the_metadata_says_what_the_files_of_the_run_say(run):
    recipe = run.root / "recipe.yaml"
    recipe.write_text(
        recipe.read_text().replace("source: null", "source: shop/log").replace("checkpoint: null", "checkpoint: org/bart")
    )
    data = ModelCard(card_text(run, "tiny", license="mit")).data
    assert (data.license, data.language, data.library_name, data.pipeline_tag) == ("mit", "en", "transformers", "text-ranking")
    assert data.datasets == ["shop/log"] and data.base_model == "org/bart" and data.model_name == "tiny"
    text = card_text(run, "tiny")
    assert "started from org/bart" in text and "| personalised |" in text and "Not measured" in text
    assert f"{count_parameters(run.checkpoint):,} parameters" in text
