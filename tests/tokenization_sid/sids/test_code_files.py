"""Codes as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from onesearch.tokenization_sid.sids.code_files import Reference, StoredCodes, codes_path


def test_what_is_saved_is_loaded(tmp_path):
    known = np.array([True, False])
    reference = Reference(np.full((4, 2), np.nan), np.arange(101.0))
    stored = StoredCodes(np.array([[1, 2], [3, 0]]), known, (4, 3), "fingerprint", reference)
    stored.save(tmp_path / "codes.safetensors")
    loaded = StoredCodes.load(tmp_path / "codes.safetensors", "fingerprint")
    np.testing.assert_array_equal(loaded.codes, stored.codes)
    assert loaded.codes.dtype == np.int32 and loaded.known.tolist() == [True, False] and loaded.codebook_sizes == (4, 3)
    np.testing.assert_array_equal(loaded.reference.distances, np.arange(101.0))
    assert np.isnan(loaded.reference.centroids).all() and loaded.reference.centroids.shape == (4, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["codes.safetensors"]


def test_missing_damaged_and_foreign_files_are_named(tmp_path):
    path = tmp_path / "codes.safetensors"
    with pytest.raises(FileNotFoundError, match="codes.safetensors.*sids build"):
        StoredCodes.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="codes.safetensors is damaged"):
        StoredCodes.load(path)
    save_file({"codes": np.zeros(1)}, path)
    with pytest.raises(ValueError, match="format None"):
        StoredCodes.load(path)
    StoredCodes(np.zeros((1, 1), dtype=int), np.ones(1, dtype=bool), (2,), "another").save(path)
    with pytest.raises(ValueError, match="belongs to codebooks another"):
        StoredCodes.load(path, "fingerprint")


def test_only_items_and_queries_have_codes():
    assert codes_path(Path("x"), "queries").name == "query_codes.safetensors"
    with pytest.raises(ValueError, match="'users'.*items, queries"):
        codes_path(Path("x"), "users")
