"""The SID stage on the tiny run."""

from __future__ import annotations

import numpy as np
import pytest

from onesearch import RQOPQ, SidIndex
from onesearch.data.market import Market
from onesearch.data.requests import build_requests
from onesearch.files import RunFolder, read_json
from onesearch.modeling_onesearch.index_onesearch import SID_INDEX_NAME
from onesearch.tokenization_sid.sids import build_sids, item_popularity


def test_the_stage_left_codebooks_index_and_diagnostics_that_agree(shared_run, market):
    quantizer = RQOPQ.from_pretrained(shared_run.sids)
    index = SidIndex.load(shared_run.sids / SID_INDEX_NAME)
    report = read_json(shared_run.sids / "diagnostics.json")
    assert index.item_ids == list(market.items["item_id"])
    assert index.digest == quantizer.digest == report["digest"]
    assert index.widths == quantizer.config.widths == tuple(report["widths"])
    assert report["items"] == len(index) and report["distinct_sids"] == len(index.trie)
    assert report["icr_items"] > 0.5 and report["mse"] < 0.2


def test_the_same_run_gives_the_same_sids(run, recipe):
    before = SidIndex.load(run.sids / SID_INDEX_NAME)
    built = build_sids(run, recipe.codes)
    assert built.digest == before.digest and np.array_equal(built.codes, before.codes)
    assert np.array_equal(built.popularity, before.popularity)


def test_keywords_change_the_codes(run, recipe):
    before = SidIndex.load(run.sids / SID_INDEX_NAME).digest
    assert build_sids(run, recipe.codes, keywords=False).digest != before
    assert read_json(run.sids / "diagnostics.json")["keywords"] is False


def test_popularity_counts_the_training_split_alone(market):
    item_ids = list(market.items["item_id"])
    popularity = dict(zip(item_ids, item_popularity(market, item_ids).tolist()))
    requests = build_requests(market, "train")
    bought = sum(len(set(request.purchased)) for request in requests)
    clicked = sum(len(set(request.clicked)) for request in requests)
    assert sum(popularity.values()) == pytest.approx(bought + clicked / 100, rel=1e-4)
    seen = {item for request in requests for item in (*request.clicked, *request.purchased)}
    assert {item for item, count in popularity.items() if count} == seen


def test_a_catalogue_of_three_items_without_sessions_gets_sids(tmp_path):
    from onesearch.recipe import Recipe
    from onesearch.road import make_sids
    from onesearch.tokenization_sid.embeddings import embed_market
    from onesearch.tokenization_sid.text_encoder import TextEncoderConfig

    run = RunFolder(tmp_path)
    items = [{"item_id": name, "title": f"{name} shoe"} for name in ("red", "blue", "green")]
    Market.from_rows(items=items).save(run.market)
    embed_market(run, TextEncoderConfig(dimension=4, vocab_size=60))
    make_sids(Recipe("three"), run)
    index = SidIndex.load(run.sids / SID_INDEX_NAME)
    assert index.item_ids == ["red", "blue", "green"] and len(index.widths) == 5


def test_an_earlier_stage_that_is_missing_is_named(tmp_path, recipe):
    with pytest.raises(FileNotFoundError, match="onesearch data"):
        build_sids(RunFolder(tmp_path), recipe.codes)
