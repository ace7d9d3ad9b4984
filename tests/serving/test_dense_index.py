"""The dense index: its term in the order of the hits, its items beside those of the beams, and its updates."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from onesearch.data.text import item_texts
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.parquet_files import write_table
from onesearch.serving.catalogue import add_from_table, remove
from onesearch.serving.dense_index import FOLDER_NAME, DenseIndex, prompt_states
from onesearch.serving.searcher import Searcher


@pytest.fixture(scope="module")
def dense(shared_run):
    return DenseIndex.of_run(shared_run)


@pytest.fixture
def searcher(shared_searcher, dense):
    own = shared_searcher.arm("dense", dense_weight=0.0)
    own.dense = dense
    return own


def test_an_index_is_read_back_as_it_was_written(dense, tmp_path):
    projected = replace(dense, projection=np.ones((dense.vectors.shape[1], 3), dtype=np.float32))
    for index in (dense, projected):
        index.save_pretrained(tmp_path / "dense")
        other = DenseIndex.from_pretrained(tmp_path / "dense")
        assert other.item_ids == index.item_ids
        np.testing.assert_array_equal(other.vectors, index.vectors)
        assert (other.projection is None) == (index.projection is None)
    np.testing.assert_allclose(
        other.queries(["red shoe"], np.eye(3)[:1]), projected.queries(["red shoe"], np.eye(3)[:1]), atol=1e-6
    )


def test_a_projection_of_the_states_joins_the_text_vector(dense):
    size = dense.vectors.shape[1]
    shift = np.zeros((size, 2), dtype=np.float32)
    shift[0, 1] = 2.0
    states = np.array([[0.0, 5.0]])  # at unit length (0, 1), whose projection is (2, 0, 0, …)
    plain = dense.queries(["red shoe"])
    moved = plain + 2.0 * np.eye(size, dtype=np.float32)[:1]
    found = replace(dense, projection=shift).queries(["red shoe"], states)
    np.testing.assert_allclose(found, moved / np.linalg.norm(moved), atol=1e-6)
    with pytest.raises(ValueError, match="give the states of the prompts"):
        replace(dense, projection=shift).queries(["red shoe"])


def test_the_score_is_log_p_and_the_weighted_cosine(searcher, dense, market):
    query = market.sessions[0]["query"]
    plain = {hit.item_id: hit.score for hit in searcher.search(query, top_k=1000)}
    hits = searcher.search(query, top_k=1000, dense_weight=3.0)
    assert {hit.item_id for hit in hits} == set(plain)
    cosines = dense.vectors @ dense.queries([query])[0]
    for hit in hits:
        assert hit.score == pytest.approx(plain[hit.item_id] + 3.0 * cosines[dense.item_ids.index(hit.item_id)], abs=1e-4)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_large_weight_and_the_nearest_items_give_dense_retrieval(searcher, dense, market):
    query = market.sessions[0]["query"]
    cosines = dense.vectors @ dense.queries([query])[0]
    nearest = [dense.item_ids[row] for row in np.argsort(-cosines, kind="stable")[:10]]
    settings = {"dense_weight": 1e6, "candidates": "beam+dense", "num_beams": 2}
    found = [hit.item_id for hit in searcher.search(query, **settings)]
    assert found == nearest
    without = [hit.item_id for hit in searcher.search(query, exclude=nearest[:3], **settings)]
    assert not set(without) & set(nearest[:3]) and without[:7] == nearest[3:]
    only = nearest[4:6]
    assert {hit.item_id for hit in searcher.search(query, items=only, **settings)} == set(only)


def test_batches_give_the_hits_of_single_searches(searcher, market):
    queries = market.sessions[:5]["query"]
    settings = {"dense_weight": 5.0, "candidates": "beam+dense"}
    together = searcher.search_batch(queries, **settings)
    for query, hits in zip(queries, together):
        alone = searcher.search(query, **settings)
        np.testing.assert_allclose([hit.score for hit in hits], [hit.score for hit in alone], atol=1e-4)


def test_states_do_not_depend_on_padding(searcher, market):
    from onesearch.data.requests import Request

    short, long = Request("", "", "red"), Request("", "", " ".join(item_texts(market)[:2]))
    alone = prompt_states(searcher.model, searcher.model_inputs([short]))
    both = prompt_states(searcher.model, searcher.model_inputs([short, long]))
    assert both.shape == (2, searcher.model.config.d_model)
    np.testing.assert_allclose(both[0], alone[0], atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dense_weight": 1.0}, "dense_weight=1.0 needs a dense index.*onesearch dense"),
        ({"candidates": "beam+dense"}, "needs rerank=True or a dense_weight"),
        ({"dense_weight": -1.0}, "dense_weight=-1.0 must be at least 0"),
    ],
)
def test_what_cannot_be_searched_is_refused(shared_searcher, settings, said):
    with pytest.raises(ValueError, match=said):
        shared_searcher.search("red shoe", **settings)


def test_items_come_and_go_with_the_catalogue(shared_run, dense, tmp_path):
    folder = tmp_path / "checkpoint"
    shutil.copytree(shared_run.checkpoint, folder)
    dense.save_pretrained(folder / FOLDER_NAME)
    replace(SearchConfig.from_pretrained(folder), dense_weight=1e6, candidates="beam+dense", rerank=False).save_pretrained(
        folder
    )
    searcher = Searcher.from_pretrained(folder)
    text, codes = "red rain coat of wool", list(searcher.index.codes[0])
    table = pa.table({"item_id": ["new", "silent"], "codes": [codes, codes], "text": [text, None]})
    write_table(table, tmp_path / "items.parquet")
    add_from_table(folder, tmp_path / "items.parquet")
    searcher = Searcher.from_pretrained(folder)
    assert searcher.search(text, top_k=1)[0].item_id == "new"
    assert not searcher.dense.vectors[searcher.dense.item_ids.index("silent")].any()
    remove(folder, ["new"])
    assert "new" not in {hit.item_id for hit in Searcher.from_pretrained(folder).search(text, top_k=50)}
