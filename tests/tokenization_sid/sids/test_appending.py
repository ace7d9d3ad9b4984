"""New items: frozen parts, nothing published moves, a file that appears whole or not at all."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onesearch.data.arrow_tables import table_from_rows
from onesearch.data.market import Market
from onesearch.serving import catalogue
from onesearch.tokenization_sid.embedding.configs import TextEncoderConfig
from onesearch.tokenization_sid.embedding.embeddings import embed_market
from onesearch.tokenization_sid.sids import appending
from onesearch.tokenization_sid.sids.appended_files import load_appended
from onesearch.tokenization_sid.sids.appending import append_items, appended_codes, encode_items, read_items
from onesearch.tokenization_sid.sids.building import build_sids
from onesearch.tokenization_sid.sids.code_files import load_codes


def copies(market, rows, prefix="new-"):
    """Items table of published items under new ids."""
    return table_from_rows("items", [{**market.items[row], "item_id": f"{prefix}{row}"} for row in rows])


def state(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".append.lock")
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def largest_excess(codes):
    """Most items of one third code above ⌈n / 8⌉ of the n items in its parent (the tests have 8 third codes)."""
    parents, inverse, members = np.unique(codes[:, :2], axis=0, return_inverse=True, return_counts=True)
    cells, loads = np.unique(inverse.ravel() * 8 + codes[:, 2], return_counts=True)
    return int((loads + (-members[cells // 8] // 8)).max())


def test_an_item_like_a_published_one_gets_a_free_code_in_its_parent(shared_run, market):
    stored = load_codes(shared_run, "items")
    coded = encode_items(shared_run, copies(market, range(0, 450, 9)))
    assert stored.codebook_sizes[2] == 8 and largest_excess(stored.codes) <= 0
    np.testing.assert_array_equal(coded.codes[:, :2], stored.codes[::9, :2])
    assert largest_excess(np.concatenate([stored.codes, coded.codes])) <= 0
    assert (
        coded.item_ids[1] == "new-9"
        and coded.fingerprint == stored.fingerprint
        and coded.codebook_sizes == stored.codebook_sizes
    )
    assert coded.categories[1] == market.items[9]["categories"] and not coded.popularity.any()


def test_an_item_like_a_published_one_gets_its_sid_if_the_level_is_balanced(run, recipe, market):
    build_sids(run, replace(recipe.codes, balanced="level"), page=False)
    stored = load_codes(run, "items")
    coded = encode_items(run, copies(market, range(0, 450, 9)))
    np.testing.assert_array_equal(coded.codes, stored.codes[::9])


def test_appending_moves_nothing_that_is_published(run, market):
    before = state(run.root)
    report = append_items(run, copies(market, range(60)))
    after = state(run.root)
    assert {path: after[path] for path in before} == before
    assert set(after) - set(before) == {report.path} and report.path == run.sids / "appended" / "00000.parquet"
    assert report.collisions.items == 60
    assert report.drift.far_share <= 0.1 and report.drift.without_known_words == 0
    first = appended_codes(run)
    append_items(run, copies(market, range(60, 70), "more-"))
    both = appended_codes(run)
    assert both.item_ids[:60] == first.item_ids and both.item_ids[60] == "more-60"
    np.testing.assert_array_equal(both.codes[:60], first.codes)
    published = load_codes(run, "items").codes
    np.testing.assert_array_equal(both.codes[:, :2], published[:70, :2])
    assert largest_excess(np.concatenate([published, both.codes])) <= 0
    assert len(both.categories) == len(both.popularity) == 70


def test_published_items_are_refused_or_skipped(run, market):
    append_items(run, copies(market, [3]))
    known = pa.concat_tables([copies(market, [1], "item-x"), copies(market, [3]), table_from_rows("items", [market.items[0]])])
    before = state(run.root)
    with pytest.raises(ValueError, match=r"'new-3' \(row 1\) and 1 more are published already.*never moves"):
        encode_items(run, known)
    with pytest.raises(ValueError, match="published already"):
        append_items(run, known)
    with pytest.raises(ValueError, match="'keep' is unknown; allowed are raise, skip"):
        encode_items(run, known, known="keep")
    assert state(run.root) == before
    report = append_items(run, known, known="skip")
    assert report.skipped == 2 and appended_codes(run).item_ids == ["new-3", "item-x1"]
    nothing = append_items(run, known, known="skip")
    assert nothing.path is None and nothing.skipped == 3 and len(list((run.sids / "appended").iterdir())) == 2


def test_a_run_without_additions_has_none(shared_run):
    assert len(load_appended(shared_run).table) == 0 and appended_codes(shared_run).codes.shape == (0, 5)


def test_a_text_without_known_words_is_reported(run, caplog):
    report = append_items(run, table_from_rows("items", [{"item_id": "s", "title": "☃☃"}]))
    assert report.drift.without_known_words == 1 and "no word that the encoder knows" in caplog.text
    assert report.to_dict()["drift"]["warnings"] == report.drift.warnings


def test_what_no_longer_gives_published_items_their_sids_is_refused(run, market):
    before = state(run.sids)
    info = {**market.info, "text_fields": ["seller"]}
    Market(market.items, market.users, market.sessions, market.relevance, info).save(run.market, overwrite=True)
    for act in (encode_items, append_items):
        with pytest.raises(ValueError, match="text fields or the items of .* have changed since its SIDs were built"):
            act(run, copies(market, [3]))
    fewer = market.items.select(range(100)).flatten_indices()
    Market(fewer, market.users, market.sessions, market.relevance, market.info).save(run.market, overwrite=True)
    with pytest.raises(ValueError, match="have changed"):
        append_items(run, copies(market, [3]))
    assert state(run.sids) == before


def test_another_encoder_is_refused(run, market):
    embed_market(run, TextEncoderConfig(dimension=16, vocab_size=300, epochs=0, seed=7))
    with pytest.raises(ValueError, match="the encoder, .* have changed"):
        append_items(run, copies(market, [3]))


def test_additions_to_other_codebooks_are_refused(run, recipe, market):
    append_items(run, copies(market, [3]))
    build_sids(run, recipe.codes, keywords=None, page=False)
    with pytest.raises(ValueError, match="00000.parquet belongs to codebooks .* remove it and append its items again"):
        append_items(run, copies(market, [4]))


def test_damaged_and_foreign_additions_are_named(run, market):
    path = append_items(run, copies(market, [3])).path
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(ValueError, match="00000.parquet has format None"):
        load_appended(run)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="00000.parquet is damaged"):
        load_appended(run)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"item_id": "a", "title": "x"}, {"item_id": " ", "title": "x"}], "row 1: item_id is ' '"),
        ([{"item_id": "a", "title": "x"}, {"item_id": None, "title": "x"}], "row 1: item_id is None"),
        ([{"item_id": "a", "title": None}], "row 0: title is None"),
        (
            [{"item_id": "a", "title": "x"}, {"item_id": "b", "title": "x"}, {"item_id": "a", "title": "y"}],
            "row 2: item_id 'a' is already the id of row 0",
        ),
        ([{"item_id": "a"}], r"missing columns \['title'\]"),
        ([{"item_id": "a", "title": {"en": "x"}}], "column 'title' is struct"),
        ([{"item_id": "a b", "title": "x"}], "row 0: item_id is 'a b'; an id is text without white space"),
        ([{"item_id": 4006381333931.0, "title": "x"}], "column 'item_id' is double, .*row 0: 4006381333931.0"),
        ([{"item_id": "a", "title": "x", "colour": "red", "size": 1}], r"unknown columns \['colour', 'size'\]"),
        ([{"item_id": "a", "title": "x", "price": float("nan")}], "row 0: price is nan"),
    ],
)  # fmt: skip
def test_bad_tables_are_named(tmp_path, rows, words):
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "items.parquet")
    with pytest.raises(ValueError, match=f"items.parquet.*{words}"):
        read_items(tmp_path / "items.parquet")


def test_files_that_are_no_table(tmp_path):
    with pytest.raises(FileNotFoundError, match="items.parquet does not exist"):
        read_items(tmp_path / "items.parquet")
    (tmp_path / "items.parquet").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no parquet file"):
        read_items(tmp_path / "items.parquet")


def test_a_table_that_is_too_large_is_refused_before_it_is_read(shared_run, market, tmp_path, monkeypatch):
    path = tmp_path / "items.parquet"
    rows = [{"item_id": f"new-{row}", "title": "shoe"} for row in range(3)]
    pq.write_table(pa.Table.from_pylist(rows), path)
    monkeypatch.setattr(appending, "read_given_table", None)  # nothing may be read
    monkeypatch.setattr(appending, "MAX_ROWS", 2)
    with pytest.raises(ValueError, match="items.parquet has 3 rows and .* at most 2 rows .*: split it"):
        read_items(path)
    with pytest.raises(ValueError, match="the table has 3 rows"):
        append_items(shared_run, copies(market, [3, 4, 5]))
    monkeypatch.setattr(appending, "MAX_ROWS", 3)
    monkeypatch.setattr(appending, "MAX_BYTES", 10)
    with pytest.raises(ValueError, match="items.parquet has 3 rows and .* at most 3 rows and 10 bytes"):
        read_items(path)


def test_a_folder_of_tables_is_not_read(tmp_path):
    pq.write_table(pa.table({"item_id": ["a"], "title": ["x"]}), tmp_path / "items.parquet")
    with pytest.raises(IsADirectoryError, match="is a folder; new items come as one parquet file"):
        read_items(tmp_path)


def test_the_limits_of_an_append_are_those_of_items_add():
    assert (appending.MAX_ROWS, appending.MAX_BYTES) == (catalogue.MAX_ROWS, catalogue.MAX_BYTES)
