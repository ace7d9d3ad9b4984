"""Importers, on small files of the published shape, and on the published files if they are present."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from onesearch.data.checking import check_market
from onesearch.data.importers.amazon import category_query, import_amazon
from onesearch.data.importers.chorus import import_chorus
from onesearch.data.importers.importing import BadRows, TableBuilder, read_jsonl
from onesearch.data.importers.kuaisearch import import_kuaisearch
from onesearch.data.importers.tables import import_tables
from onesearch.data.market import Market
from onesearch.data.requests import build_requests
from onesearch.data.text import item_texts

REAL = Path(os.environ.get("ONESEARCH_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")


def real(name: str) -> Path:
    if not (REAL / name).is_dir():
        pytest.skip(f"{name} is missing; set ONESEARCH_DATA to the folder that holds it")
    return REAL / name


def write_jsonl(path: Path, rows: list[dict[str, Any] | str]) -> Path:
    """Write rows as JSON, and text unchanged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    data = ("\n".join(lines) + "\n").encode("utf-8")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def sound(market: Market, folder: Path) -> Market:
    """The market, after a check that finds no problem in it."""
    assert check_market(market.save(folder / "market")) == []
    return market


# Shared parts


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
        bad.add(Path("x.jsonl"), line, "odd", "value " * 50)
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


# KuaiSearch


def kuai_item(number: int, **changes: Any) -> dict[str, Any]:
    row = {
        "item_id": number,
        "item_title": f"商品{number}",
        "brand_id": 1,
        "brand_name": "金粟兰",
        "seller_id": 1,
        "seller_name": "小店",
    }
    names = {"category_level1_name": "女装", "category_level2_name": "皮草", "category_level3_name": "UNKNOWN"}
    return {**row, **names, **changes}


def kuai_recall(session: int, user: int, time: int, **changes: Any) -> dict[str, Any]:
    row = {"user_id": user, "session_id": session, "impressed_item_ids": [1, 2, 3], "clicked_item_ids": [1]}
    return {**row, "purchased_item_ids": [], "time_index": time, "query": "大衣", "split": "train", **changes}


def kuai_rank(session: int, user: int, time: int, target: int, **changes: Any) -> dict[str, Any]:
    row = {
        "user_id": user,
        "session_id": session,
        "time_index": time,
        "query": "大衣",
        "target_item_id": target,
        "is_clicked": 0,
    }
    lists = {"recently_clicked_item_ids": [4, 4, 5, 1], "recently_purchased_item_ids": [5, 6]}
    return {**row, **lists, "target_item_price": 3990.0, "split": "train", **changes}


@pytest.fixture
def kuai(tmp_path) -> Path:
    folder = tmp_path / "kuai"
    items = [kuai_item(number) for number in range(1, 7)]
    items[1].update(brand_name="UNKNOWN", category_level2_name="UNKNOWN")
    items[2].update(brand_name="无品牌")
    user = {"gender": "F", "age_bucket": "31-40", "fre_country": "中国", "fre_province": "辽宁", "fre_city": "UNKNOWN"}
    judged = {"query": "大衣", "brand": "金粟兰", "seller_name": "小店", "attr_value": "\\N"}
    write_jsonl(folder / "items.jsonl", items)
    write_jsonl(folder / "users.jsonl", [{"user_id": 7, **user}, {"user_id": 8, **user, "fre_province": "UNKNOWN"}])
    write_jsonl(folder / "recall.jsonl", [kuai_recall(2, 7, 50, query="皮草"), kuai_recall(1, 7, 20), kuai_recall(3, 8, 30)])
    ranks = [kuai_rank(2, 7, 50, 1, target_item_price=4990.0, recently_clicked_item_ids=[3]), kuai_rank(1, 7, 20, 1)]
    write_jsonl(folder / "rank.jsonl", [*ranks, kuai_rank(1, 7, 20, 2, target_item_price=None), kuai_rank(9, 8, 40, 3)])
    rows = [{**judged, "item_title": "商品1", "score": 3}, {**judged, "item_title": "别的", "score": 0}]
    write_jsonl(folder / "relevance.jsonl", [*rows, {**judged, "query": "帽子", "item_title": "别的", "score": 2}])
    return folder


def test_kuaisearch_maps_every_table(kuai, tmp_path):
    market = sound(import_kuaisearch(kuai), tmp_path)
    items = {item["item_id"]: item for item in market.items}
    assert items["1"]["title"] == "商品1" and items["1"]["brand"] == "金粟兰" and items["1"]["seller"] == "小店"
    assert items["1"]["categories"] == ["女装", "皮草"] and items["1"]["attributes"]["brand"] == ["金粟兰"]
    assert items["2"]["brand"] is None and items["2"]["categories"] == ["女装"]
    assert items["3"]["brand"] == "无品牌" and items["3"]["attributes"]["brand"] == []
    assert (items["1"]["price"], items["2"]["price"], items["3"]["price"]) == (4990.0, None, 3990.0)
    assert market.users[:]["region"] == ["辽宁", None]
    assert market.info["language"] == "zh" and market.info["split"] == {"method": "time", "validation": 0.05, "test": 0.1}
    assert market.info["published_split"] == {"train": 3} and market.info["dropped"] == {}


def test_kuaisearch_puts_recent_history_before_the_first_request(kuai, tmp_path):
    market = sound(import_kuaisearch(kuai), tmp_path)
    assert market.sessions[:]["session_id"] == ["before-7", "1", "3", "2"]
    before = market.sessions[0]
    assert (before["time"], before["query"], before["clicked"], before["purchased"]) == (19, "", ["4", "5"], ["5", "6"])
    counts = {"users": 1, "items": 4, "also_in_first_request": 1, "without_earlier_lists": 1}
    assert market.info["recent_history"] == counts
    market.info["split"] = {"method": "none"}
    requests = build_requests(market, "train")
    assert [(request.session_id, request.history) for request in requests] == [
        ("1", ("4", "5", "6")),
        ("3", ()),
        ("2", ("4", "5", "6", "1")),
    ]
    assert import_kuaisearch(kuai, recent_history=False).sessions[:]["session_id"] == ["1", "3", "2"]


def test_kuaisearch_judgements_find_or_add_their_items(kuai, tmp_path):
    market = sound(import_kuaisearch(kuai), tmp_path)
    added = market.items[6]
    assert added["item_id"].startswith("rel-") and added["title"] == "别的" and added["brand"] == "金粟兰"
    assert market.relevance[:]["item_id"] == ["1", added["item_id"], added["item_id"]] and market.relevance[:]["grade"] == [
        3,
        0,
        2,
    ]
    assert market.info["relevance"] == {"judged_items_in_catalogue": 1, "judged_items_added": 1, "judgements_left_out": 0}
    published = sound(import_kuaisearch(kuai, judged_items=False), tmp_path)
    assert len(published.items) == 6 and published.relevance[:]["item_id"] == ["1"]
    assert published.info["relevance"]["judgements_left_out"] == 2


def test_kuaisearch_sessions_that_recur_keep_distinct_ids(kuai):
    write_jsonl(kuai / "recall.jsonl", [kuai_recall(1, 7, 20), kuai_recall(1, 7, 20, query="帽子"), kuai_recall(1, 7, 25)])
    assert import_kuaisearch(kuai, recent_history=False).sessions[:]["session_id"] == ["1", "1-2", "1-3"]


@pytest.mark.parametrize(
    ("table", "row", "reason"),
    [
        ("items", kuai_item(1), "item_id occurs twice"),
        ("items", kuai_item(9, item_title=" "), "item_title must not be blank"),
        ("items", kuai_item(9, item_title="\ud83d"), "item_title holds a lone surrogate"),
        ("users", {"user_id": 7}, "user_id occurs twice"),
        ("users", {"user_id": None}, "user_id must be text or an integer"),
        ("recall", kuai_recall(9, 99, 1), "user_id is not in users"),
        ("recall", kuai_recall(9, 7, 1, impressed_item_ids=[1, 99]), "impressed_item_ids is not in items"),
        ("recall", kuai_recall(9, 7, 1, clicked_item_ids=[6]), "clicked holds an item that is not among the impressed"),
        ("recall", kuai_recall(9, 7, 1, purchased_item_ids=None), "purchased_item_ids must be a list"),
        ("recall", kuai_recall(9, 7, 1, query=""), "query must not be blank"),
        ("recall", kuai_recall(9, 7, "now"), "time_index must be an integer"),
        ("rank", kuai_rank(1, 7, 60, 99), "target_item_id is not in items"),
        ("rank", kuai_rank(1, 7, 10, 1, recently_clicked_item_ids=[99]), "recently_clicked_item_ids is not in items"),
        ("rank", kuai_rank(1, 7, 60, 1, target_item_price="dear"), "target_item_price must be a finite number"),
        ("relevance", {"query": "q", "item_title": "t", "score": 4}, "score must be an integer from 0 to 3"),
    ],
)
def test_kuaisearch_bad_rows_raise_or_are_counted(kuai, tmp_path, table, row, reason):
    path = kuai / f"{table}.jsonl"
    line = path.read_text(encoding="utf-8").count("\n") + 1
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(ValueError) as error:
        import_kuaisearch(kuai)
    assert f"1 × {table}.jsonl: {reason}" in str(error.value) and f"{table}.jsonl:{line}" in str(error.value)
    market = sound(import_kuaisearch(kuai, bad_rows="drop"), tmp_path)
    ((key, count),) = market.info["dropped"].items()
    assert key.startswith(f"{table}.jsonl: {reason}") and count == 1


def test_kuaisearch_finds_the_published_file_names(kuai, tmp_path):
    expected = import_kuaisearch(kuai)
    lite = tmp_path / "lite"
    for table in ("items", "users", "recall", "rank"):
        write_jsonl(lite / f"{table}_lite.jsonl", (kuai / f"{table}.jsonl").read_text(encoding="utf-8").splitlines())
    write_jsonl(lite / "relevance" / "train.jsonl", (kuai / "relevance.jsonl").read_text(encoding="utf-8").splitlines())
    market = import_kuaisearch(lite)
    assert (
        market.info == expected.info
        and market.sessions[:] == expected.sessions[:]
        and market.relevance[:] == expected.relevance[:]
    )
    with pytest.raises(FileNotFoundError, match="holds no items: looked for items.jsonl"):
        import_kuaisearch(lite, lite=False)
    write_jsonl(lite / "items.jsonl", [kuai_item(1)])
    assert len(import_kuaisearch(lite).items) == len(expected.items)


def test_kuaisearch_rank_and_relevance_may_be_absent(kuai, tmp_path):
    (kuai / "rank.jsonl").unlink()
    (kuai / "relevance.jsonl").unlink()
    market = sound(import_kuaisearch(kuai), tmp_path)
    assert market.info["recent_history"]["without_earlier_lists"] == 2 and len(market.relevance) == 0


def test_kuaisearch_downloads_a_dataset_id(kuai, monkeypatch):
    asked = {}

    def snapshot_download(repo_id: str, **options: Any) -> str:
        asked.update(options, repo_id=repo_id)
        return str(kuai)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert len(import_kuaisearch("benchen4395/KuaiSearch").items) == 7
    assert asked == {"repo_id": "benchen4395/KuaiSearch", "repo_type": "dataset", "allow_patterns": ["*_lite*", "*relevance*"]}


@pytest.mark.parametrize("source", ["nowhere", "./some/folder", "/no/such", Path("no/such")])
def test_kuaisearch_does_not_download_a_mistyped_folder(source, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: pytest.fail("downloaded"))
    with pytest.raises(FileNotFoundError, match="neither a folder nor a dataset id"):
        import_kuaisearch(source)


def test_kuaisearch_demo_does_not_join(tmp_path):
    folder = real("kuaisearch_demo")
    with pytest.raises(ValueError) as error:
        import_kuaisearch(folder)
    assert "400 bad rows" in str(error.value) and "200 × rank.jsonl: target_item_id is not in items" in str(error.value)
    market = sound(import_kuaisearch(folder, bad_rows="drop"), tmp_path)
    assert (len(market.items), len(market.users), len(market.sessions), len(market.relevance)) == (400, 200, 0, 200)
    assert sum(market.info["dropped"].values()) == 400


# Amazon


@pytest.fixture
def amazon(tmp_path) -> Path:
    folder = tmp_path / "amazon"
    item = {
        "asin": "B001",
        "title": "Lip Balm",
        "categories": [["Beauty", "Skin Care", "Lips & Balms"]],
        "attributes": [],
        "brand": "Mo",
    }
    blank = {"item_id": 3, "title": " ", "asin": "B003", "brand": ""}
    write_jsonl(folder / "items.jsonl", [{**item, "item_id": 1}, {**item, "item_id": 2, "brand": "Unknown"}, {**item, **blank}])
    sequences = [{"user_id": 1, "reviewer_id": "A", "items": [1, 2, 3]}, {"user_id": 2, "reviewer_id": "B", "items": [3, 1]}]
    write_jsonl(folder / "sequences.jsonl", sequences)
    return folder


def test_amazon_gives_one_session_per_purchase(amazon, tmp_path):
    market = sound(import_amazon(amazon), tmp_path)
    assert market.sessions[:]["session_id"] == ["u1-1", "u2-1", "u1-2", "u2-2", "u1-3"]
    assert market.sessions[:]["time"] == [1, 1, 2, 2, 3]
    assert market.sessions[2]["purchased"] == ["2"] and market.sessions[2]["clicked"] == []
    assert set(market.sessions[:]["query"]) == {"beauty skin care lips balms"}
    assert [item["title"] for item in market.items] == ["Lip Balm", "Lip Balm", "Lips & Balms B003"]
    assert [item["brand"] for item in market.items] == ["Mo", None, None]
    assert market.items[0]["attributes"]["brand"] == ["Mo"] and market.items[0]["attributes"]["entity"] == []
    assert market.info["titles_filled"] == 1 and market.info["queries"].startswith("artificial")
    (request,) = build_requests(market, "test")
    assert (request.history, request.purchased) == (("1", "2"), ("3",))


def test_amazon_without_queries_is_the_next_item_protocol(amazon, tmp_path):
    """All queries are the same; everything else equals the market with category queries."""
    market, searched = sound(import_amazon(amazon, queries="none"), tmp_path), import_amazon(amazon)
    assert set(market.sessions[:]["query"]) == {"next purchase"} and market.info["queries"].startswith("none")
    assert market.sessions.data.drop(["query"]).equals(searched.sessions.data.drop(["query"]))
    assert market.items.data.equals(searched.items.data)
    with pytest.raises(ValueError, match="queries='title'.*category, none"):
        import_amazon(amazon, queries="title")


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (["Beauty", "Hair Care", "Shampoo & Hair Care"], "beauty hair care shampoo"),
        (["Beauty", "Women's", "Hot-Air Brushes"], "beauty womens hot air brushes"),
        (["Beauty", "Crème_Café, 2 in 1"], "beauty crème café 2 in 1"),
        ([], ""),
    ],
)
def test_category_queries(path, query):
    assert category_query(path) == query


@pytest.mark.parametrize(
    ("file", "row", "reason"),
    [
        ("items.jsonl", {"item_id": 1, "title": "t", "categories": []}, "item_id occurs twice"),
        ("items.jsonl", {"item_id": 4, "title": "t", "categories": ["Beauty"]}, "categories must be a list of category paths"),
        ("items.jsonl", {"item_id": 4, "title": "", "categories": []}, "asin must be text"),
        ("sequences.jsonl", {"user_id": 1, "items": [1]}, "user_id occurs twice"),
        ("sequences.jsonl", {"user_id": 3, "items": [99]}, "items is not in items.jsonl"),
        ("sequences.jsonl", {"user_id": 3, "items": []}, "items must not be empty"),
        ("sequences.jsonl", {"user_id": 3, "items": [1.0]}, "items must be text or an integer"),
    ],
)
def test_amazon_bad_rows_raise_or_are_counted(amazon, tmp_path, file, row, reason):
    with (amazon / file).open("a") as out:
        out.write(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=f"{file}: {reason}"):
        import_amazon(amazon)
    market = sound(import_amazon(amazon, bad_rows="drop"), tmp_path)
    assert (len(market.items), len(market.users), len(market.sessions)) == (3, 2, 5) and sum(
        market.info["dropped"].values()
    ) == 1


@pytest.mark.parametrize("importer", [import_amazon, import_chorus, import_tables, import_kuaisearch])
def test_an_empty_folder_names_what_is_missing(importer: Callable[..., Market], tmp_path):
    with pytest.raises(FileNotFoundError, match="items|products"):
        importer(tmp_path)


def test_amazon_beauty(tmp_path):
    market = sound(import_amazon(real("amazon_beauty")), tmp_path)
    assert (len(market.items), len(market.users), len(market.sessions)) == (12101, 22363, 198502)
    assert market.info["titles_filled"] == 7 and market.items.data["brand"].null_count == 4647
    queries = market.sessions.data["query"].to_pylist()
    requests = build_requests(market, "test")
    assert len(set(queries)) == 236 and len({request.query for request in requests}) == 228
    assert len(requests) == 22363 and all(len(request.purchased) == 1 and request.history for request in requests)


# Chorus


@pytest.fixture
def chorus(tmp_path) -> Path:
    folder = tmp_path / "chorus"
    first = {
        "id": "10",
        "name": "n",
        "title": "HP Notebook",
        "supplier": "HP",
        "price": 10995,
        "short_description": "8 GB",
        "ean": [],
    }
    attributes = {"attr_t_product_type": "Notebook", "attr_t_product_colour": "Black, Silver", "attr_t_material": "N"}
    other = {"id": "11", "title": "Cable", "supplier": "C2G", "price": None, "attr_t_product_type": "1", "attr_n_width": 3.0}
    write_jsonl(folder / "products.jsonl.gz", [{**first, **attributes, "attr_t_cable_colour": "Black"}, other])
    (folder / "Broad_Query_Set_rated.csv").write_text('query,docid,rating\nlaptop,10,3\n"cable, long",11,0\n', encoding="utf-8")
    return folder


def test_chorus_maps_products_and_ratings(chorus, tmp_path):
    market = sound(import_chorus(chorus), tmp_path)
    notebook, cable = market.items
    assert notebook["brand"] == "HP" and notebook["price"] == pytest.approx(109.95) and notebook["categories"] == ["Notebook"]
    attributes = {kind: values for kind, values in notebook["attributes"].items() if values}
    assert attributes == {"entity": ["Notebook"], "brand": ["HP"], "color": ["Black", "Silver"], "specifications": ["8 GB"]}
    assert cable["price"] is None and cable["categories"] == [] and cable["attributes"]["specifications"] == []
    assert market.relevance[:] == {"query": ["laptop", "cable, long"], "item_id": ["10", "11"], "grade": [3, 0]}
    assert item_texts(market) == ["HP Notebook HP 8 GB", "Cable C2G"]
    assert market.info["attribute_fields"] == {"imported": 4, "not_imported": 1} and market.info["split"] == {"method": "none"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("laptop,99,1", "docid is not in products.jsonl.gz"),
        ("laptop,10,4", "rating must be 0, 1, 2 or 3"),
        (",10,1", "query must not be blank"),
        ("laptop,10", "rating must be 0, 1, 2 or 3"),
        ("laptop,10,3,4", "more cells than the header has columns"),
    ],
)
def test_chorus_bad_ratings(chorus, tmp_path, line, reason):
    with (chorus / "Broad_Query_Set_rated.csv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=f"{reason}; first: Broad_Query_Set_rated.csv:4"):
        import_chorus(chorus)
    assert len(sound(import_chorus(chorus, bad_rows="drop"), tmp_path).relevance) == 2


def test_chorus_ratings_need_their_header(chorus):
    (chorus / "Broad_Query_Set_rated.csv").write_text("laptop,10,3\n")
    with pytest.raises(ValueError, match="missing columns"):
        import_chorus(chorus)


def test_chorus_electronics(tmp_path):
    market = sound(import_chorus(real("chorus_electronics")), tmp_path)
    assert (len(market.items), len(market.sessions), len(market.relevance)) == (19406, 0, 3668)
    assert len(set(market.relevance[:]["query"])) == 135
    assert len(pc.list_flatten(pc.struct_field(market.items.data["attributes"], "specifications"))) == 18685
    assert market.info["attribute_fields"] == {"imported": 19, "not_imported": 5335}


# Your own tables

ITEM = {
    "item_id": 1,
    "title": "red dress",
    "price": 10,
    "attributes": {"color": "red", "entity": ["dress", ""]},
    "features": [1, 0.5],
}
SESSION = {"session_id": "s", "user_id": 5, "time": 2, "query": "dress", "impressed": None, "clicked": [1], "purchased": []}


@pytest.fixture
def own(tmp_path) -> Path:
    folder = tmp_path / "own"
    write_jsonl(folder / "items.jsonl", [ITEM, {"item_id": "b", "title": "blue shoe", "categories": "Shoes", "brand": " "}])
    write_jsonl(folder / "users.jsonl.gz", [{"user_id": 5, "gender": "F"}])
    later = {**SESSION, "session_id": "t", "time": 1, "query": "", "impressed": [1, "b"], "purchased": ["b"]}
    write_jsonl(folder / "sessions.jsonl", [SESSION, later, {**SESSION, "session_id": "r"}])
    write_jsonl(folder / "relevance.jsonl", [{"query": "dress", "item_id": 1, "grade": 3}])
    return folder


def test_own_tables(own, tmp_path):
    market = sound(import_tables(own, language="en"), tmp_path)
    assert market.items[:]["item_id"] == ["1", "b"] and market.items[:]["price"] == [10.0, None]
    assert market.items[0]["attributes"]["color"] == ["red"] and market.items[0]["attributes"]["entity"] == ["dress"]
    assert market.items[1]["categories"] == ["Shoes"] and market.items[1]["brand"] is None
    assert market.sessions[:]["session_id"] == ["t", "s", "r"] and market.sessions[1]["clicked"] == ["1"]
    assert market.info["sessions_moved"] == 2 and market.info["name"] == "own" and market.info["language"] == "en"
    assert market.info["split"] == {"method": "time", "validation": 0.05, "test": 0.1}


def test_items_are_enough(tmp_path):
    write_jsonl(tmp_path / "own" / "items.jsonl", [ITEM])
    market = sound(import_tables(tmp_path / "own"), tmp_path)
    assert len(market.items) == 1 and len(market.users) == 0 and market.info["split"] == {"method": "none"}


def test_own_parquet_tables_give_the_same_market(own, tmp_path):
    market = import_tables(own, split="leave_last_out")
    again = import_tables(market.save(tmp_path / "saved"), split="leave_last_out")
    for name in ("items", "users", "sessions", "relevance"):
        assert getattr(again, name)[:] == getattr(market, name)[:]
    assert again.info["sessions_moved"] == 0 and again.info["split"] == {"method": "leave_last_out"}


def test_own_parquet_attributes_may_be_an_arrow_map(tmp_path):
    attributes = pa.array([[("color", ["red"])]], type=pa.map_(pa.string(), pa.list_(pa.string())))
    pq.write_table(pa.table({"item_id": [1], "title": ["t"], "attributes": attributes}), tmp_path / "items.parquet")
    assert import_tables(tmp_path).items[0]["attributes"]["color"] == ["red"]


def test_own_csv_tables(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    rows = [
        ["item_id", "title", "price", "categories", "attributes.color"],
        ["1", "Dress, red", "9.5", "Clothes|Dresses", "red"],
    ]
    with (folder / "items.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([*rows, ["2", "Shoe", "", "", ""]])
    (folder / "relevance.csv").write_text("query,item_id,grade\ndress,1,3\n")
    market = sound(import_tables(folder), tmp_path)
    assert market.items[0]["title"] == "Dress, red" and market.items[0]["categories"] == ["Clothes", "Dresses"]
    assert market.items[0]["attributes"]["color"] == ["red"] and market.items[:]["price"] == [9.5, None]
    assert market.relevance[:]["grade"] == [3]


@pytest.mark.parametrize(
    ("table", "row", "reason"),
    [
        ("items", {"title": "t"}, "item_id must be text or an integer"),
        ("items", {"item_id": True, "title": "t"}, "item_id must be text or an integer"),
        ("items", {"item_id": "1", "title": "t"}, "item_id occurs twice"),
        ("items", {"item_id": 3, "title": ""}, "title must not be blank"),
        ("items", {"item_id": 3, "title": 4}, "title must be text"),
        ("items", {"item_id": 3, "title": "t", "colour": "red"}, "unknown column 'colour'"),
        ("items", {"item_id": 3, "title": "t", "price": "dear"}, "price must be a finite number"),
        ("items", {"item_id": 3, "title": "t", "price": float("nan")}, "price must be a finite number"),
        ("items", {"item_id": 3, "title": "t", "attributes": {"colour": "red"}}, "unknown attribute type 'colour'"),
        ("items", {"item_id": 3, "title": "t", "attributes": {"color": 1}}, "attributes.color must be a text or a list"),
        ("items", {"item_id": 3, "title": "t", "attributes": ["red"]}, "attributes must map attribute types"),
        ("items", {"item_id": 3, "title": "t", "categories": [1]}, "categories must be text"),
        ("items", {"item_id": 3, "title": "t", "features": [None]}, "features must be a list of numbers"),
        ("users", {"user_id": 5}, "user_id occurs twice"),
        ("sessions", {**SESSION, "user_id": 6, "session_id": "x"}, "user_id is not in users"),
        ("sessions", SESSION, "session_id occurs twice"),
        ("sessions", {**SESSION, "session_id": "x", "clicked": ["ghost"]}, "clicked is not in items"),
        (
            "sessions",
            {**SESSION, "session_id": "x", "impressed": ["b"]},
            "clicked holds an item that is not among the impressed",
        ),
        ("sessions", {**SESSION, "session_id": "x", "purchased": None}, "purchased must be a list of ids"),
        ("sessions", {**SESSION, "session_id": "x", "time": 1.5}, "time must be an integer"),
        ("sessions", {**SESSION, "session_id": "x", "query": None}, "query must be text"),
        ("relevance", {"query": "q", "item_id": "ghost", "grade": 1}, "item_id is not in items"),
        ("relevance", {"query": "q", "item_id": 1, "grade": 4}, "grade must be an integer from 0 to 3"),
    ],
)
def test_own_bad_rows_raise_or_are_counted(own, tmp_path, table, row, reason):
    name = "users.jsonl.gz" if table == "users" else f"{table}.jsonl"
    opened = gzip.open(own / name, "at") if table == "users" else (own / name).open("a")
    with opened as file:
        file.write(json.dumps(row) + "\n")
    with pytest.raises(ValueError) as error:
        import_tables(own)
    assert f"1 × {name}: {reason}" in str(error.value) and f"first: {name}:" in str(error.value)
    market = sound(import_tables(own, bad_rows="drop"), tmp_path)
    assert (len(market.items), len(market.users), len(market.sessions), len(market.relevance)) == (2, 1, 3, 1)
    assert sum(market.info["dropped"].values()) == 1


def test_own_csv_bad_cells(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,title,price\n1,a,dear\n2,b,3,4\n3,c,\n")
    with pytest.raises(ValueError) as error:
        import_tables(tmp_path)
    assert "items.csv:2 ('dear')" in str(error.value) and "more cells than the header" in str(error.value)
    assert import_tables(tmp_path, bad_rows="drop").items[:]["item_id"] == ["3"]


def test_own_files_that_are_not_what_they_seem(own):
    (own / "items.csv").write_text("item_id,title\n1,a\n")
    with pytest.raises(ValueError, match="items.jsonl and items.csv"):
        import_tables(own)
    assert len(import_tables(own, format="jsonl").items) == 2
    with pytest.raises(ValueError, match="'xml'.*jsonl, parquet, csv"):
        import_tables(own, format="xml")
    with pytest.raises(ValueError, match="'random'.*leave_last_out"):
        import_tables(own, format="jsonl", split="random")
    (own / "sessions.csv").write_text("session_id\n1\n")
    with pytest.raises(ValueError, match="sessions.csv: sessions hold lists"):
        import_tables(own, format="csv")
    (own / "items.csv").write_bytes(b"item_id,title\n1,\xff\n")
    (own / "sessions.csv").unlink()
    with pytest.raises(ValueError, match="items.csv:.*UTF-8"):
        import_tables(own, format="csv")
    (own / "items.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="items.parquet is not a parquet file"):
        import_tables(own, format="parquet")
