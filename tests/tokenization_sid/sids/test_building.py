"""The SID stage on the tiny run."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from onesearch import RQOPQ, SidIndex
from onesearch.data.arrow_tables import table_from_rows
from onesearch.data.market import Market
from onesearch.data.requests import build_requests
from onesearch.data.text import item_texts
from onesearch.files import RunFolder, read_json
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME
from onesearch.pipeline.steps import make_sids
from onesearch.tokenization_sid.embedding.embeddings import distinct_queries, load_embeddings
from onesearch.tokenization_sid.keywords.configs import KeywordConfig, RecogniserConfig
from onesearch.tokenization_sid.keywords.keyword_files import KEYWORDS_NAME, load_keywords
from onesearch.tokenization_sid.keywords.recogniser import FOLDER, TokenRecogniser
from onesearch.tokenization_sid.quantizers.configs import PRQConfig, RQKMeansConfig, RQVAEConfig, SimVQConfig
from onesearch.tokenization_sid.sids import building
from onesearch.tokenization_sid.sids.appending import append_items
from onesearch.tokenization_sid.sids.building import build_sids, held_out_agreement
from onesearch.tokenization_sid.sids.code_files import load_codes
from onesearch.tokenization_sid.sids.fusion import FusionCheck
from onesearch.tokenization_sid.sids.inspection import Catalogue, inspect
from onesearch.tokenization_sid.sids.item_codes import item_popularity
from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder


def test_the_stage_left_codebooks_index_and_diagnostics_that_agree(shared_run, market):
    quantizer = RQOPQ.from_pretrained(shared_run.sids)
    index = SidIndex.load(shared_run.sids / SID_INDEX_NAME)
    report = read_json(shared_run.sids / "diagnostics.json")
    assert index.item_ids == list(market.items["item_id"])
    assert index.fingerprint == quantizer.fingerprint == report["fingerprint"]
    assert index.codebook_sizes == quantizer.config.codebook_sizes == tuple(report["codebook_sizes"])
    assert report["items"]["count"] == len(index) and report["items"]["distinct_sids"] == len(index.trie)
    assert report["items"]["icr_items"] > 0.5 and report["items"]["mse"] < 0.2
    assert 0 < report["items"]["unexplained_variance"] < 0.5


def test_the_diagnostics_have_the_parts_of_their_schema(shared_run):
    report = read_json(shared_run.sids / "diagnostics.json")
    parts = "schema fingerprint codebook_sizes fit_on keywords fusion keyword_lists named items queries both purity told agreement page"
    assert list(report) == parts.split() and report["schema"] == 2
    assert report["both"]["count"] == report["items"]["count"] + report["queries"]["count"]
    assert set(report["items"]) == set(report["queries"]) == set(report["both"])
    assert report["purity"]["fine"]["per_prefix"][0] > 3 * report["purity"]["fine"]["without_codes"]
    assert report["named"]["items"] == 1 and 0.5 < report["named"]["queries"] < 1
    for kind in ("click", "purchase"):
        agreed = report["agreement"][kind]
        assert agreed["per_prefix"][0] > 3 * agreed["chance_per_prefix"][0]
        assert agreed["per_prefix"] == sorted(agreed["per_prefix"], reverse=True)


def test_agreement_counts_the_held_out_sessions(shared_run, market):
    items, queries = load_codes(shared_run, "items"), load_codes(shared_run, "queries")
    row_of_item = {item: row for row, item in enumerate(market.items["item_id"])}
    row_of_query = {query: row for row, query in enumerate(distinct_queries(market))}
    report = held_out_agreement(market, items, queries)
    for kind in ("click", "purchase"):
        equal = []
        for request in build_requests(market, "validation"):
            code = queries.codes[row_of_query[request.query]]
            for item in set(request.clicked if kind == "click" else request.purchased):
                equal.append(items.codes[row_of_item[item], 0] == code[0])
        assert report[kind]["pairs"] == len(equal)
        assert report[kind]["per_prefix"][0] == pytest.approx(np.mean(equal))


def test_codes_of_items_and_queries_are_those_of_the_frozen_parts(shared_run, market):
    quantizer = RQOPQ.from_pretrained(shared_run.sids)
    core = load_keywords(shared_run.sids / KEYWORDS_NAME, quantizer.fingerprint)
    queries, stored = distinct_queries(market), load_codes(shared_run, "queries")
    fused = core.fuse(queries, load_embeddings(shared_run, "queries"))
    np.testing.assert_array_equal(stored.codes, quantizer.for_queries.encode(fused))
    assert stored.known.all() and len(stored.codes) == len(queries) and stored.reference is None
    items, index = load_codes(shared_run, "items"), SidIndex.load(shared_run.sids / SID_INDEX_NAME)
    np.testing.assert_array_equal(items.codes, index.codes)
    assert items.fingerprint == index.fingerprint and items.reference.distances.shape == (101,)
    assert (np.diff(items.reference.distances) >= 0).all()


def test_the_same_run_gives_the_same_sids(run, recipe):
    before = SidIndex.load(run.sids / SID_INDEX_NAME)
    pages = {name: (run.sids / name).read_bytes() for name in ("diagnostics.png", "diagnostics.svg", "diagnostics.json")}
    built = build_sids(run, recipe.codes)
    assert {name: (run.sids / name).read_bytes() for name in pages} == pages
    assert built.fingerprint == before.fingerprint and np.array_equal(built.codes, before.codes)
    assert np.array_equal(built.popularity, before.popularity)


def test_keywords_change_the_codes(run, recipe):
    before = SidIndex.load(run.sids / SID_INDEX_NAME).fingerprint
    built = build_sids(run, recipe.codes, keywords=None, page=False)
    assert built.fingerprint != before
    report = read_json(run.sids / "diagnostics.json")
    assert report["keywords"] is False and report["named"] == {"items": 0, "queries": 0} and report["page"] == []
    assert load_keywords(run.sids / KEYWORDS_NAME, built.fingerprint).keywords == []
    assert not (run.sids / "diagnostics.png").exists()  # it showed other codes


def test_keywords_that_do_not_pay_are_kept_and_not_fused(run, recipe, monkeypatch, caplog):
    worse = FusionCheck(10, 0.9, 0.5, None, None, pays=False)
    monkeypatch.setattr(building, "check_fusion", lambda *arrays: worse)
    plain = build_sids(run, recipe.codes, keywords=None, page=False)
    off = build_sids(run, recipe.codes, keywords=KeywordConfig(fusion="auto"), page=False)
    assert "not fused" in caplog.text and "ICR 0.900 without and 0.500 with fusion" in caplog.text
    np.testing.assert_array_equal(off.codes, plain.codes)
    report = read_json(run.sids / "diagnostics.json")
    assert report["keywords"] is False and report["fusion"] == worse.to_dict() and report["keyword_lists"]["brand"] > 5
    core = load_keywords(run.sids / KEYWORDS_NAME, off.fingerprint)
    assert core.keywords and not core.fused
    forced = build_sids(run, recipe.codes, keywords=KeywordConfig(fusion="always"), page=False)
    assert (forced.codes != plain.codes).any() and read_json(run.sids / "diagnostics.json")["keywords"] is True
    never = build_sids(run, recipe.codes, keywords=KeywordConfig(fusion="never"), page=False)
    np.testing.assert_array_equal(never.codes, plain.codes)
    assert read_json(run.sids / "diagnostics.json")["fusion"] is None


def test_the_recogniser_lies_beside_the_codes(run, recipe):
    training = RecogniserConfig(hidden_size=8, layers=1, vocab_size=300, steps=3, batch_size=4)
    build_sids(run, recipe.codes, keywords=KeywordConfig("always", core=2, recogniser=True, training=training), page=False)
    assert {path.suffix for path in (run.sids / FOLDER).iterdir()} == {".json", ".safetensors"}
    assert TokenRecogniser.from_pretrained(run.sids / FOLDER).model.config.hidden_size == 8
    encoder = SidEncoder.load(run)
    texts = item_texts(Market.load(run.market))[:20]
    assert encoder.core.core == 2 and max(map(len, encoder.core.match(texts))) == 2
    np.testing.assert_array_equal(encoder.encode(texts).codes[:, :2], load_codes(run, "items").codes[:20, :2])  # not balanced
    build_sids(run, recipe.codes, page=False)
    assert not (run.sids / FOLDER).exists()


def test_a_dictionary_adds_keywords(run, recipe, tmp_path):
    (tmp_path / "words.json").write_text('[{"type": "entity", "text": "Wok"}, {"type": "function", "text": "never named"}]')
    before = {
        keyword.text
        for keyword in load_keywords(run.sids / KEYWORDS_NAME, RQOPQ.from_pretrained(run.sids).fingerprint).keywords
    }
    built = build_sids(run, recipe.codes, dictionary=tmp_path / "words.json", page=False)
    after = {keyword.text for keyword in load_keywords(run.sids / KEYWORDS_NAME, built.fingerprint).keywords}
    assert after == before | {"wok", "never named"}
    with pytest.raises(ValueError, match="needs keywords: without"):
        build_sids(run, recipe.codes, keywords=None, dictionary=tmp_path / "words.json")


def test_without_matplotlib_the_stage_goes_on_and_says_so(run, recipe, monkeypatch, caplog):
    monkeypatch.setattr("onesearch.tokenization_sid.sids.building.plots_available", lambda: False)
    build_sids(run, recipe.codes)
    assert "pip install onesearch[plots]" in caplog.text
    assert read_json(run.sids / "diagnostics.json")["page"] == [] and not (run.sids / "diagnostics.svg").exists()


CONFIGS = {
    "rq-k-means": RQKMeansConfig(residual_sizes=(8, 4), iterations=3),
    "prq-k-means": PRQConfig(residual_sizes=(8, 4), opq=(1, 4), iterations=2, balanced="level"),
    "rq-vae": RQVAEConfig(residual_sizes=(8, 4), hidden=(), steps=5),
    "sim-vq": SimVQConfig(residual_sizes=(8, 4), hidden=(12,), latent=6, steps=5),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_every_quantizer_goes_the_whole_way(kind, run, market, recipe):
    """Build, index, report, encode queries, inspect and append."""
    if kind in ("rq-vae", "sim-vq"):
        pytest.importorskip("vector_quantize_pytorch")
    make_sids(replace(recipe, codes=CONFIGS[kind]), run)
    report, index = read_json(run.sids / "diagnostics.json"), SidIndex.load(run.sids / SID_INDEX_NAME)
    assert (
        tuple(report["codebook_sizes"]) == index.codebook_sizes == CONFIGS[kind].codebook_sizes
        and report["fingerprint"] == index.fingerprint
    )
    encoder = SidEncoder.load(run)
    assert encoder.quantizer.kind == kind
    queries = distinct_queries(market)[:5]
    np.testing.assert_array_equal(encoder.encode(queries)[0], load_codes(run, "queries").codes[:5])
    found = inspect(Catalogue.of_run(run), market.items["item_id"][3])
    assert found.codes == tuple(load_codes(run, "items").codes[3].tolist())
    new = table_from_rows("items", [{**market.items[3], "item_id": "new"}])
    assert append_items(run, new).collisions.with_published == 1


def test_popularity_counts_the_training_split_alone(market):
    item_ids = list(market.items["item_id"])
    popularity = dict(zip(item_ids, item_popularity(market, item_ids).tolist()))
    requests = build_requests(market, "train")
    bought = sum(len(set(request.purchased)) for request in requests)
    clicked = sum(len(set(request.clicked)) for request in requests)
    assert sum(popularity.values()) == pytest.approx(bought + clicked / 100, rel=1e-4)
    seen = {item for request in requests for item in (*request.clicked, *request.purchased)}
    assert {item for item, count in popularity.items() if count} == seen
    counts = Counter(item for request in requests for item in set(request.purchased))
    clicks = Counter(item for request in requests for item in set(request.clicked))
    assert popularity == pytest.approx({item: counts[item] + clicks[item] / 100 for item in item_ids}, rel=1e-6)


def test_a_catalogue_of_three_items_without_sessions_gets_sids(tmp_path):
    from onesearch.pipeline.recipe import Recipe
    from onesearch.pipeline.steps import make_sids
    from onesearch.tokenization_sid.embedding.configs import TextEncoderConfig
    from onesearch.tokenization_sid.embedding.embeddings import embed_market

    run = RunFolder(tmp_path)
    items = [{"item_id": name, "title": f"{name} shoe"} for name in ("red", "blue", "green")]
    Market.from_rows(items=items).save(run.market)
    embed_market(run, TextEncoderConfig(dimension=4, vocab_size=60))
    make_sids(Recipe("three"), run)
    index = SidIndex.load(run.sids / SID_INDEX_NAME)
    assert index.item_ids == ["red", "blue", "green"] and len(index.codebook_sizes) == 5


def test_an_earlier_stage_that_is_missing_is_named(tmp_path, recipe):
    with pytest.raises(FileNotFoundError, match="onesearch data"):
        build_sids(RunFolder(tmp_path), recipe.codes)


@pytest.mark.slow
def test_two_processes_give_the_files_of_one(run, tmp_path):
    """Under torchrun, through the command line; blocks are small so that both processes have some."""
    script = tmp_path / "shared.py"
    script.write_text(
        "import sys\nfrom onesearch.tokenization_sid.sids import encoding\nfrom onesearch.cli import main\n"
        "encoding.ROWS_PER_BLOCK = 7\nraise SystemExit(main(sys.argv[1:]))\n",
        encoding="utf-8",
    )
    flags = ["sids", "build", str(run.root), "--residual-sizes", "16,8", "--opq", "1x4"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    found = []
    for command in ([*launcher, str(script)], [sys.executable, str(script)]):
        subprocess.run([*command, *flags], check=True, capture_output=True, timeout=600)
        stored = [load_codes(run, kind) for kind in ("items", "queries")]
        parts = {name: (run.sids / name).read_bytes() for name in ("keywords.parquet", "diagnostics.json")}
        found.append(
            (parts, *(part.codes.tolist() for part in stored), SidIndex.load(run.sids / SID_INDEX_NAME).codes.tolist())
        )
    assert found[0] == found[1] and len(found[0][1]) == 450
