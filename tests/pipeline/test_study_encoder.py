"""Studies that measure the encoder alone."""

from __future__ import annotations

import pytest

from onesearch import RunFolder
from onesearch.data.market import Market
from onesearch.data.requests import build_requests
from onesearch.files import read_json
from onesearch.pipeline.recipe import save_recipe
from onesearch.pipeline.study import Study
from onesearch.pipeline.study_cells import run_study
from onesearch.pipeline.study_summary import VALUES_NAME
from onesearch.tokenization_sid.embedding.alignment_measures import measure
from onesearch.tokenization_sid.embedding.embeddings import distinct_queries, load_embeddings


@pytest.mark.slow
def test_a_study_of_the_encoder_trains_no_model(recipe, tmp_path):
    save_recipe(recipe, tmp_path / "base.yaml")
    variants = {"with price": {"encoder.facts": ["price"]}}
    values = {"measured": "encoder", "metrics": ["recall@10", "recall@100"], "seeds": [1], "variants": variants}
    summary = run_study(Study(name="x", base=str(tmp_path / "base.yaml"), **values), tmp_path / "runs", progress=False)
    run = RunFolder(tmp_path / "runs" / "with-price" / "seed-1")
    assert not run.checkpoint.exists() and (run.embeddings / "item_facts.json").exists()
    market = Market.load(run.market)
    vectors = load_embeddings(run, "queries"), load_embeddings(run, "items")
    expected = measure(market, distinct_queries(market), *vectors, split="test")["recall"]["purchase"]
    found = summary["variants"]["with price"]
    assert found["recall@10"]["mean"] == pytest.approx(expected["recall@10"]) and expected["recall@10"] > 0
    assert found["recall@100"]["mean"] == pytest.approx(expected["recall@100"])
    assert 0 < found["items.icr_items"] <= 1
    requests = [request for request in build_requests(market, "test") if request.purchased]
    stored = read_json(run.evaluation / VALUES_NAME)
    assert stored["cold"] == [not request.history for request in requests] and len(requests) == expected["requests"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"measured": "sids"}, "measured='sids' is unknown; allowed are search, encoder"),
        ({"measured": "encoder"}, r"\['HR@10', 'MRR@10'\] are no metrics of an encoder; give recall@10"),
        ({"measured": "encoder", "metrics": ["recall@0"]}, "recall@0"),
    ],
)
def test_what_cannot_be_measured_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        Study(name="x", variants={"a": {}}, **values)
