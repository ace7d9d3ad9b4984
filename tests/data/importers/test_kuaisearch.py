"""KuaiSearch's importer, on a small market in the published shape and on the published demo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from importer_files import real, sound, write_jsonl

from onesearch.data.importers import importing, kuaisearch_logs
from onesearch.data.importers.importing import read_jsonl
from onesearch.data.importers.kuaisearch import LEFT_OUT, import_kuaisearch
from onesearch.data.importers.kuaisearch_statistics import COUNTS
from onesearch.data.requests import build_requests


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
    numbers = {"category_level1_id": 1, "category_level2_id": 1, "category_level3_id": 0}
    return {**row, **names, **numbers, **changes}


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
    users = {
        "user_show_cnt_30d_hist": 5.0,
        "user_click_cnt_30d_hist": 1.0,
        "user_order_cnt_30d_hist": 0.0,
        "user_gmv_30d_hist": 0.0,
    }
    more = {
        "user_fan_number": 9,
        "user_follow_number": 65,
        "search_entrance": "mall",
        "is_purchased": 0,
        "user_statistical_features": users,
        "target_item_statistical_features": counts(952.0, 47.0, 2.0),
    }
    return {**row, **lists, **more, "target_item_price": 3990.0, "split": "train", **changes}


def counts(shown: Any, clicked: Any, ordered: Any) -> dict[str, Any]:
    return {"item_show_cnt_30d_hist": shown, "item_click_cnt_30d_hist": clicked, "item_order_cnt_30d_hist": ordered}


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


def test_kuaisearch_rank_and_relevance_may_be_absent(kuai, tmp_path, caplog):
    (kuai / "rank.jsonl").unlink()
    (kuai / "relevance.jsonl").unlink()
    market = sound(import_kuaisearch(kuai), tmp_path)
    assert market.info["recent_history"]["without_earlier_lists"] == 2 and len(market.relevance) == 0
    assert "the market has no judgements" in caplog.text and "the market has no prices" in caplog.text


def test_kuaisearch_downloads_a_dataset_id(kuai, monkeypatch):
    asked = {}

    def snapshot_download(repo_id: str, **options: Any) -> str:
        asked.update(options, repo_id=repo_id)
        return str(kuai)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert len(import_kuaisearch("benchen4395/KuaiSearch").items) == 7
    assert asked == {"repo_id": "benchen4395/KuaiSearch", "repo_type": "dataset", "allow_patterns": ["*_lite*", "*relevance*"]}


def test_kuaisearch_statistics_are_those_before_the_training_requests(kuai, tmp_path, caplog):
    """The earliest of each item, from before the first held-out request; here the last two of ten requests are held out."""
    write_jsonl(kuai / "recall.jsonl", [kuai_recall(number, 7, 10 * number) for number in range(1, 11)])
    ranks = [
        kuai_rank(3, 7, 30, 1, target_item_statistical_features=counts(9.0, 3.0, 1.0)),
        kuai_rank(2, 7, 20, 1, target_item_statistical_features=counts(7.0, 2.0, 0.0)),
        kuai_rank(2, 7, 20, 2, target_item_statistical_features=counts(5.0, 0.5, -1.0)),
        kuai_rank(2, 7, 20, 3, target_item_statistical_features=None),
        kuai_rank(10, 7, 100, 4, target_item_statistical_features=counts(8.0, 8.0, 8.0)),
    ]
    write_jsonl(kuai / "rank.jsonl", ranks)
    with pytest.raises(ValueError, match="1 × rank.jsonl: item_click_cnt_30d_hist must be a whole number"):
        import_kuaisearch(kuai)
    market = sound(import_kuaisearch(kuai, bad_rows="drop", recent_history=False), tmp_path)
    names = ("shown_count", "click_count", "purchase_count", "cart_count")
    found = {item["item_id"]: tuple(item[name] for name in names) for item in market.items}
    assert found["1"] == (7, 2, 0, None) and found["2"] == (5, None, None, None)
    assert {found[item] for item in ("3", "4", "5", "6")} == {(None, None, None, None)}
    assert market.info["statistics"] == {"items": 2, "too_late": 1}


def test_kuaisearch_scene_and_entrance(kuai, tmp_path):
    ranks = [kuai_rank(1, 7, 20, 1, search_entrance="homepage"), kuai_rank(2, 7, 50, 1, query="帽子")]
    write_jsonl(kuai / "rank.jsonl", [*ranks, kuai_rank(3, 8, 30, 1, search_entrance="UNKNOWN")])
    market = sound(import_kuaisearch(kuai), tmp_path)
    found = {row["session_id"]: (row["scene"], row["entrance"]) for row in market.sessions}
    before = {name: place for name, place in found.items() if name.startswith("before-")}
    assert before and set(before.values()) == {("unknown", None)}
    assert found["1"] == ("search", "homepage")
    assert found["2"] == ("search", None), "rank knows the session with another query"
    assert found["3"] == ("search", None)


def test_kuaisearch_values_without_a_type_are_tags(kuai, tmp_path):
    judged = {"query": "大衣", "brand": "金粟兰", "seller_name": "小店", "score": 3}
    values = "金粟兰,2025年秋季,春季 秋季,否,其他,长袖,简约风,防风,300g（含）-400g（不含）,8岁（含）—14岁（不含）,棉,中国大陆,黑色,纯色"
    rows = [
        {**judged, "item_title": "商品4", "attr_value": values},
        {**judged, "item_title": "商品4", "attr_value": "长袖,圆领"},
        {**judged, "item_title": "别的", "attr_value": "长袖"},
        {**judged, "item_title": "商品1", "attr_value": "\\N"},
    ]
    write_jsonl(kuai / "relevance.jsonl", rows)
    items = {item["title"]: item for item in sound(import_kuaisearch(kuai), tmp_path).items}
    attributes = {kind: found for kind, found in items["商品4"]["attributes"].items() if found}
    assert attributes == {
        "brand": ["金粟兰"],
        "season": ["2025年秋季", "春季", "秋季"],
        "style": ["简约风"],
        "specifications": ["300g（含）-400g（不含）"],
        "audience": ["8岁（含）—14岁（不含）"],
        "material": ["棉"],
        "location": ["中国大陆"],
        "color": ["黑色"],
        "pattern": ["纯色"],
    }
    assert items["商品4"]["tags"] == ["长袖", "防风", "圆领"]
    assert items["别的"]["tags"] == ["长袖"] and items["商品1"]["tags"] == items["商品5"]["tags"] == []


class Watched(dict):
    """A row that notes which of its columns are read."""

    def __init__(self, row: dict[str, Any], seen: set[str]) -> None:
        super().__init__(row)
        self.seen = seen

    def get(self, key: str, default: Any = None) -> Any:
        self.seen.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self.seen.add(key)
        return super().__getitem__(key)


def columns_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[set[str], set[str]]]:
    """Columns of each table of a folder, and those that the importer reads."""
    columns: dict[str, set[str]] = {table: set() for table in LEFT_OUT}
    seen: dict[str, set[str]] = {table: set() for table in LEFT_OUT}

    def watching(path: Path, bad: Any) -> Any:
        for line, row in read_jsonl(path, bad):
            columns[path.stem].update(row)
            yield line, Watched(row, seen[path.stem])

    monkeypatch.setattr(importing, "read_jsonl", watching)
    monkeypatch.setattr(kuaisearch_logs, "read_jsonl", watching)
    import_kuaisearch(folder, bad_rows="drop")
    return {table: (columns[table], seen[table]) for table in LEFT_OUT}


def test_kuaisearch_reads_every_column_or_names_it(kuai, monkeypatch):
    for table, (columns, seen) in columns_read(kuai, monkeypatch).items():
        assert columns - seen == set(LEFT_OUT[table]), table
    assert import_kuaisearch(kuai).info["left_out"] == {table: list(names) for table, names in LEFT_OUT.items() if names}


def test_kuaisearch_files_have_the_columns_that_these_tests_have(kuai, monkeypatch):
    """The published 200 rows of each table."""
    published = real("kuaisearch_demo")
    own = columns_read(kuai, monkeypatch)
    for table, (columns, _) in own.items():
        rows = [json.loads(line) for line in (published / f"{table}.jsonl").read_text(encoding="utf-8").splitlines()]
        assert {key for row in rows for key in row} == columns, table
        if table == "rank":
            assert set(rows[0]["target_item_statistical_features"]) == set(COUNTS)


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
