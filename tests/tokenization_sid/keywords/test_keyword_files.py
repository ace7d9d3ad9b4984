"""Keywords as files: strict in, the same out."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onesearch.tokenization_sid.embedding.bands import CategoryBands
from onesearch.tokenization_sid.keywords.keyword_files import KEYWORDS_NAME, load_keywords, read_dictionary, save_keywords
from onesearch.tokenization_sid.keywords.keywords import CoreKeywords, Keyword
from onesearch.tokenization_sid.keywords.price_bands import PriceBands


def test_what_is_saved_is_loaded(tmp_path):
    keywords = [Keyword("连衣裙", "entity", 7, 0.25), Keyword("red", "color", 0)]
    bands = PriceBands(("平价", "中端", "高端"), CategoryBands({("a", "b"): np.array([3.0, 4.0])}))
    core = CoreKeywords(keywords, np.eye(3, dtype=np.float32)[:2], 5, bands, fused=False)
    save_keywords(tmp_path / KEYWORDS_NAME, core, "fingerprint")
    loaded = load_keywords(tmp_path / KEYWORDS_NAME, "fingerprint")
    assert loaded.keywords == core.keywords and [keyword.asked for keyword in loaded.keywords] == [0.25, 0.0]
    assert (loaded.core, loaded.bands.to_dict(), loaded.fused) == (5, bands.to_dict(), False)
    np.testing.assert_array_equal(loaded.embeddings, core.embeddings)
    assert loaded.embeddings.dtype == np.float32
    table = pq.read_table(tmp_path / KEYWORDS_NAME)
    assert table.column_names == ["type", "text", "page_views", "asked", "embedding"]


def test_a_run_without_keywords_has_a_file_without_rows(tmp_path):
    save_keywords(tmp_path / "k.parquet", CoreKeywords([], np.zeros((0, 3), dtype=np.float32)), "fingerprint")
    loaded = load_keywords(tmp_path / "k.parquet", "fingerprint")
    assert loaded.keywords == [] and loaded.embeddings.shape == (0, 3)


def test_missing_damaged_and_foreign_files_are_named(tmp_path):
    path = tmp_path / "k.parquet"
    with pytest.raises(FileNotFoundError, match="k.parquet does not exist.*sids build"):
        load_keywords(path, "fingerprint")
    path.write_bytes(b"PAR1")
    with pytest.raises(ValueError, match="k.parquet is damaged"):
        load_keywords(path, "fingerprint")
    pq.write_table(pa.table({"text": ["red"]}), path)
    with pytest.raises(ValueError, match="k.parquet has format None.*copy it again"):
        load_keywords(path, "fingerprint")
    save_keywords(path, CoreKeywords([], np.zeros((0, 3), dtype=np.float32)), "another")
    with pytest.raises(ValueError, match="belongs to codebooks another"):
        load_keywords(path, "fingerprint")


ROWS = [{"type": "color", "text": " Off  White", "page_views": 3}, {"type": "material", "text": "橡木"}]


def written(path, rows):
    if path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("name", ["d.json", "d.parquet"])
def test_dictionaries(tmp_path, name):
    expected = [Keyword("off white", "color", 3), Keyword("橡木", "material", 0)]
    assert read_dictionary(written(tmp_path / name, ROWS)) == expected


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"type": "colour", "text": "red"}, "row 1: type 'colour' is unknown; allowed are entity, .*pattern"),
        ({"text": "red"}, "row 1: type None"),
        ({"type": "color", "text": " "}, "row 1: text ' ' is invalid"),
        ({"type": "color", "text": 5}, "row 1: text 5 is invalid"),
        ({"type": "color"}, "row 1: text None"),
        ({"type": "color", "text": "red", "page_views": -1}, "row 1: page_views -1 is invalid; give a whole number"),
        ({"type": "color", "text": "red", "page_views": 1.5}, "row 1: page_views 1.5"),
        ({"type": "color", "text": "red", "page_views": True}, "row 1: page_views True"),
        ({"type": "color", "text": "red", "views": 1}, "row 1: unknown column 'views'; allowed are type, text, page_views"),
        ({"type": "color", "text": "OFF white"}, "row 1: color 'off white' is in row 0 already"),
        ("red", "row 1: 'red' is not an object"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, words):
    with pytest.raises(ValueError, match=words):
        read_dictionary(written(tmp_path / "d.json", [ROWS[0], row]))


def test_files_that_are_no_dictionary(tmp_path):
    with pytest.raises(ValueError, match="ends in .json or .parquet"):
        read_dictionary(tmp_path / "d.csv")
    with pytest.raises(FileNotFoundError, match="type, text, page_views"):
        read_dictionary(tmp_path / "d.json")
    with pytest.raises(ValueError, match="holds a dict"):
        read_dictionary(written(tmp_path / "d.json", {"color": ["red"]}))
    (tmp_path / "d.parquet").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no .*parquet file"):
        read_dictionary(tmp_path / "d.parquet")
