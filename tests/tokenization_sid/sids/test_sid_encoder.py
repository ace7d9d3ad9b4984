"""The frozen parts of a run, used anew."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from onesearch.data.text import item_texts
from onesearch.files import read_json, write_json
from onesearch.tokenization_sid.embedding.embeddings import distinct_queries
from onesearch.tokenization_sid.sids.building import build_sids
from onesearch.tokenization_sid.sids.code_files import load_codes
from onesearch.tokenization_sid.sids.sid_encoder import (
    SID_ENCODER_NAME,
    SidEncoder,
    centroid_distances,
    code_centroids,
    known_rows,
)


def test_texts_get_the_codes_that_the_stage_gave_them(shared_run, market):
    encoder = SidEncoder.load(shared_run)
    codes, known, _ = encoder.encode(distinct_queries(market)[:40])
    np.testing.assert_array_equal(codes, load_codes(shared_run, "queries").codes[:40])
    assert known.all()
    texts = item_texts(market)
    vectors, known = encoder.embed(texts[:40])
    np.testing.assert_array_equal(encoder.quantizer.encode(vectors), load_codes(shared_run, "items").codes[:40])
    assert known.all()
    codes, known, _ = encoder.encode([texts[1], "☃", texts[0]])
    assert known.tolist() == [True, False, True] and codes.shape == (3, 5)
    codes, known, _ = encoder.encode([])
    assert codes.shape == (0, 5) and known.shape == (0,)


def test_vectors_have_unit_length_but_where_nothing_is_known(shared_run):
    vectors, known = SidEncoder.load(shared_run).embed(["red jacket", "☃", "jacket"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0, 1], atol=1e-5)
    assert known.tolist() == known_rows(vectors).tolist() == [True, False, True]


def test_centroids_are_means_and_distances_to_them_exact():
    random = np.random.default_rng(0)
    vectors, first = random.normal(size=(50, 3)).astype(np.float32), random.integers(0, 4, 50)
    centroids = code_centroids(vectors, first, 6)
    assert np.isnan(centroids[4:]).all()
    for code in range(4):
        np.testing.assert_allclose(centroids[code], vectors[first == code].mean(axis=0), atol=1e-6)
    expected = [np.linalg.norm(vector - centroids[code]) for vector, code in zip(vectors, first)]
    np.testing.assert_allclose(centroid_distances(vectors, first, centroids, chunk=7), expected, rtol=1e-5)
    assert centroid_distances(vectors[:1], np.array([5]), centroids).tolist() == [np.inf]


# A folder of its own


@pytest.fixture(scope="module")
def saved(shared_run, tmp_path_factory):
    """Read only."""
    return SidEncoder.load(shared_run).save_pretrained(tmp_path_factory.mktemp("saved") / "query_encoder")


def test_a_folder_of_its_own_gives_the_same_codes_without_the_run(run, market, tmp_path):
    texts = [*distinct_queries(market)[:20], "a red thing nobody asked for", "☃"]
    before = SidEncoder.load(run)
    expected = before.encode(texts)
    folder = before.save_pretrained(tmp_path / "checkpoint" / "query_encoder")
    shutil.rmtree(run.root)
    for loaded in (SidEncoder.from_pretrained(folder), SidEncoder.from_pretrained(tmp_path / "checkpoint", "query_encoder")):
        for found, wanted in zip(loaded.encode(texts), expected):
            np.testing.assert_array_equal(found, wanted)
        assert loaded.core.keywords == before.core.keywords and loaded.quantizer.fingerprint == before.quantizer.fingerprint
    (folder / "notes.md").write_text("mine")
    (folder / "old.json").write_text("{}")
    again = SidEncoder.from_pretrained(folder).save_pretrained(folder)  # in place of itself
    assert (folder / "notes.md").is_file() and not (folder / "old.json").exists()
    np.testing.assert_array_equal(SidEncoder.from_pretrained(again).encode(texts)[0], expected[0])


def test_the_folder_holds_declared_files_and_nothing_pickled(saved):
    listed = read_json(saved / SID_ENCODER_NAME)
    files = {path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file()}
    assert (
        files == {*listed["files"], SID_ENCODER_NAME} >= {"codebooks.safetensors", "keywords.parquet", "encoder/modules.json"}
    )
    assert {Path(name).suffix for name in files} <= {".safetensors", ".parquet", ".json", ".txt"}
    assert listed["fingerprint"] == SidEncoder.from_pretrained(saved).quantizer.fingerprint


def test_an_encoder_known_by_name_is_saved_too(run, recipe, saved, tmp_path):
    """What `--encoder NAME` leaves: embeddings.json names it, and the run has no encoder of its own."""
    named = tmp_path / "published"
    shutil.move(run.encoder, named)
    report = read_json(run.embeddings / "embeddings.json")
    write_json(run.embeddings / "embeddings.json", {**report, "encoder": {**report["encoder"], "model": str(named)}})
    build_sids(run, recipe.codes, page=False)
    folder = SidEncoder.load(run).save_pretrained(tmp_path / "saved")
    shutil.rmtree(named)
    expected = SidEncoder.from_pretrained(saved).encode(["red jacket"])[0]
    np.testing.assert_array_equal(SidEncoder.from_pretrained(folder).encode(["red jacket"])[0], expected)


def test_loading_leaves_the_text_encoder_for_later(saved):
    code = (
        "import sys; from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder; "
        f"SidEncoder.from_pretrained({str(saved)!r}); print([n for n in sys.modules if n.startswith('sentence_transformers')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_damaged_missing_and_mixed_parts_are_named(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "copy")
    weights = next((folder / "encoder").rglob("model.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ValueError, match="model.safetensors is damaged or was not saved with the other parts"):
        SidEncoder.from_pretrained(folder)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match="model.safetensors does not exist; copy the whole folder again"):
        SidEncoder.from_pretrained(folder)
    (folder / SID_ENCODER_NAME).write_text('{"format": "another/1"}')
    with pytest.raises(ValueError, match="has format 'another/1'"):
        SidEncoder.from_pretrained(folder)
    (folder / SID_ENCODER_NAME).unlink()
    with pytest.raises(FileNotFoundError, match="holds no SID encoder"):
        SidEncoder.from_pretrained(folder)
    for name in ("no/such/folder", "nobody/has-this"):
        with pytest.raises(FileNotFoundError, match=f"'{name}' is no folder"):
            SidEncoder.from_pretrained(name)


def test_parts_of_two_folders_do_not_mix(run, recipe, saved, tmp_path):
    build_sids(run, recipe.codes, keywords=None, page=False)
    other = SidEncoder.load(run).save_pretrained(tmp_path / "other")
    for name in ("codebooks.safetensors", "keywords.parquet"):
        mixed = shutil.copytree(saved, tmp_path / f"mixed {name}")
        shutil.copy2(other / name, mixed)
        with pytest.raises(ValueError, match=f"{name} is damaged or was not saved with the other parts"):
            SidEncoder.from_pretrained(mixed)


def test_nothing_else_is_overwritten(saved, tmp_path):
    (tmp_path / "weights.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="something else than a SID encoder"):
        SidEncoder.from_pretrained(saved).save_pretrained(tmp_path)
    assert (tmp_path / "weights.txt").read_text() == "precious"
