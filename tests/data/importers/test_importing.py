"""Parts that all importers share: bad rows, damaged files, table builders, missing files."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from importer_files import write_jsonl

from onesearch.data.bad_rows import BadRows
from onesearch.data.importers.amazon import import_amazon
from onesearch.data.importers.chorus import import_chorus
from onesearch.data.importers.importing import TableBuilder, read_jsonl
from onesearch.data.importers.kuaisearch import import_kuaisearch
from onesearch.data.importers.tables import import_tables
from onesearch.data.market import Market


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_malformed_lines_are_named_with_file_and_line(tmp_path, name):
    path = write_jsonl(tmp_path / name, [{"a": 1}, "", "{broken", "[1]", {"a": 2}])
    bad = BadRows("raise")
    assert list(read_jsonl(path, bad)) == [(1, {"a": 1}), (5, {"a": 2})]
    with pytest.raises(ValueError) as error:
        bad.close()
    for words in (
        "2 bad rows",
        f"1 × {name}: not valid JSON",
        f"{name}:3",
        f"1 × {name}: not a JSON object",
        f"{name}:4 ([1])",
    ):
        assert words in str(error.value)


def test_bytes_that_are_no_utf8_are_a_bad_row(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\n{"a": "\xff"}\n')
    bad = BadRows("drop")
    assert list(read_jsonl(tmp_path / "rows.jsonl", bad)) == [(1, {"a": 1})]
    assert bad.close() == {"rows.jsonl: not valid JSON in UTF-8": 1}


def test_a_cut_gzip_file_is_named(tmp_path):
    path = write_jsonl(tmp_path / "rows.jsonl.gz", [{"a": number} for number in range(1000)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="rows.jsonl.gz is a damaged gzip file"):
        list(read_jsonl(path, BadRows()))


def test_only_the_first_examples_are_shown():
    bad = BadRows("raise", examples=2)
    for line in range(1, 6):
        bad.add("x.jsonl", line, "odd", "value " * 50)
    with pytest.raises(ValueError) as error:
        bad.close()
    assert "5 × x.jsonl: odd; first: x.jsonl:1" in str(error.value) and "x.jsonl:3" not in str(error.value)
    assert max(map(len, str(error.value).splitlines())) < 260


def test_bad_rows_has_two_modes():
    with pytest.raises(ValueError, match="'skip'.*raise, drop"):
        BadRows("skip")


def test_a_table_builder_gives_the_same_table_in_chunks():
    rows = [{"query": f"q{number}", "item_id": "a", "grade": 1} for number in range(7)]
    whole, parts = (TableBuilder("relevance", chunk=chunk).extend(rows) for chunk in (100, 3))
    assert whole.table().equals(parts.table()) and len(parts) == 7
    assert TableBuilder("relevance").table().num_rows == 0


@pytest.mark.parametrize("importer", [import_amazon, import_chorus, import_tables, import_kuaisearch])
def test_an_empty_folder_names_what_is_missing(importer: Callable[..., Market], tmp_path):
    with pytest.raises(FileNotFoundError, match="items|products"):
        importer(tmp_path)


def test_a_market_without_items_is_no_market(tmp_path):
    """Every row was bad, and was dropped."""
    write_jsonl(tmp_path / "items.jsonl", [{"item_id": 1, "title": 5, "categories": []}])
    write_jsonl(tmp_path / "sequences.jsonl", [{"user_id": 1, "items": [1]}])
    with pytest.raises(ValueError, match="no item is left; left out were: .*title must be text"):
        import_amazon(tmp_path, bad_rows="drop")
    with pytest.raises(ValueError, match="no item is left"):
        write_jsonl(tmp_path / "own" / "items.jsonl", [])
        import_tables(tmp_path / "own")
