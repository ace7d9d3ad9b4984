"""The card of a checkpoint shows the diagnostics and the settings of its evaluation, and its snippet gives the measured hits."""

from __future__ import annotations

import contextlib
import io
import json
import re
from dataclasses import asdict

import pytest

from onesearch import Request, Searcher
from onesearch.data.requests import build_requests
from onesearch.files import read_json
from onesearch.model_cards.card import refresh_card, write_card
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
def test_the_snippet_gives_the_hits_that_the_table_was_measured_on(run, market, saved):
    if saved:
        OTHER_SETTINGS.save_pretrained(run.checkpoint)
    measure = {"overwrite": True, "baselines": False, "progress": False}
    report = evaluate_run(run, EvaluationConfig(sample=20), None if saved else asdict(OTHER_SETTINGS), **measure)
    page = write_card(run, "tiny").read_text(encoding="utf-8")
    assert "| `num_beams` | `7` |" in page and "| `rank_by` | `'item'` |" in page and "At most 2 items of one SID" in page
    (snippet,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert ("num_beams=7" in snippet) is not saved
    namespace: dict[str, object] = {}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(snippet, namespace)
    searcher, rankings = namespace["searcher"], report.rankings["onesearch"]
    requests = [request for request in build_requests(market, "test") if request.session_id in rankings]
    for request in requests:
        hits = searcher.search(request.query, request.history, top_k=10, context=request.context)
        assert [hit.item_id for hit in hits] == list(rankings[request.session_id].item_ids[:10])
    # The query that it prints is answered as the evaluator would measure it.
    query = re.search(r'search\("(.*?)", history', snippet)[1]
    measured = Searcher.from_pretrained(run.checkpoint, **asdict(OTHER_SETTINGS))
    (ranking,) = measured.retrieve([Request("", "", query)], 10)
    assert [line.split()[0] for line in printed.getvalue().splitlines()] == list(ranking.item_ids)
    other = Searcher.from_pretrained(run.checkpoint, **asdict(SearchConfig(num_beams=10))).retrieve(requests, 10)
    assert any(ranking.item_ids != rankings[request.session_id].item_ids[:10] for request, ranking in zip(requests, other))


def test_an_evaluation_writes_the_card_anew_unless_it_was_edited(run, caplog):
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
    edited = path.read_bytes()
    evaluate_run(run, EvaluationConfig(sample=6), **measure)
    assert path.read_bytes() == edited and "README.md was edited, so that it is left as it is" in caplog.text
    path.unlink()
    refresh_card(run)
    assert not path.exists()
