"""Files of judged pairs: how grades are read, and that what measures is not learned from."""

from __future__ import annotations

import pytest
from importer_files import sound

from onesearch.data.exports import read_shop
from onesearch.data.exports.judgements import ENOUGH, grades_of
from onesearch.data.requests import SPLITS, split_sessions

PRODUCTS = "id,title\n" + "".join(f"{number},shoe {number}\n" for number in range(50))


def read(tmp_path, *logs):
    (tmp_path / "p.csv").write_text(PRODUCTS)
    paths = [tmp_path / f"{number}.csv" for number in range(len(logs))]
    for path, text in zip(paths, logs):
        path.write_text(text)
    shop = read_shop(tmp_path / "p.csv", paths)
    return sound(shop.market, tmp_path), shop.report


@pytest.mark.parametrize(
    ("texts", "grades"),
    [
        ("E S C I", [3, 2, 1, 0]),
        ("Exact Partial Irrelevant", [3, 1, 0]),
        ("0 1 2 3", [0, 1, 2, 3]),
        ("0 2", [0, 2]),
        ("0 1", [0, 3]),
        ("1 2 3 4 5", [0, 1, 2, 2, 3]),
        ("0.1 0.9", [0, 3]),
        ("-1 0 1", [0, 2, 3]),
        ("1", None),
        ("red blue", None),
        ("1 red", None),
    ],
)
def test_grades(texts, grades):
    texts = texts.split()
    assert grades_of(texts) == (None if grades is None else dict(zip(texts, grades)))


def test_few_judged_queries_measure_alone(tmp_path):
    rows = "query,product_id,esci_label\nred shoe,1,E\nred shoe,2,I\nred shoe,1,S\nboot,3,S\nboot,77,E\nboot,4,\n"
    market, report = read(tmp_path, rows)
    assert not len(market.sessions) and market.info["split"] == {"method": "none"}
    found = {(row["query"], row["item_id"]): row["grade"] for row in market.relevance}
    assert found == {("red shoe", "1"): 3, ("red shoe", "2"): 0, ("boot", "3"): 2}
    (file,) = report.logs
    assert (file.rows, file.kept, file.lost) == (6, 4, 2) and "one row per judgement" in file.form
    assert "4 judged pairs of 2 queries measure the search" in report.to_table()
    assert "grades from 0 to 3: E is 3, S is 2, I is 0" in report.to_table()


def test_many_judged_queries_are_learned_from_and_held_out_ones_measure(tmp_path):
    queries = ENOUGH + 200
    rows = "".join(f"query {n},{n % 50},3\nquery {n},{(n + 1) % 50},2\nquery {n},{(n + 2) % 50},0\n" for n in range(queries))
    market, report = read(tmp_path, "query,item_id,grade\n" + rows + "nothing fits,1,0\n")
    splits = split_sessions(market)
    assert len(market.sessions) == queries and market.info["split"]["method"] == "random"
    session = next(row for row in market.sessions if row["query"] == "query 7")
    assert (session["clicked"], session["purchased"], session["impressed"]) == (["7", "8"], [], [])
    held_out = {row["query"] for row, split in zip(market.sessions, splits) if SPLITS[split] == "test"}
    assert {row["query"] for row in market.relevance} == held_out and 0 < len(held_out) < queries / 5
    assert len(market.relevance) == 3 * len(held_out)
    assert f"{len(held_out):,} queries are held out" in report.to_table()
    assert market.info["clicks"] == "items that were judged relevant"


def test_judgements_beside_a_log_measure_alone(tmp_path):
    log = "time,user,query,item,event\n" + "".join(f"2024-01-{day:02d},u{day},shoe,{day},click\n" for day in range(1, 29))
    market, report = read(tmp_path, log, "query,item_id,grade\nshoe,1,3\nshoe,2,0\n")
    assert len(market.sessions) == 28 and len(market.relevance) == 2 and "clicks" not in market.info
    assert market.info["split"]["method"] == "time"
    assert [file.kept for file in report.logs] == [28, 2]


@pytest.mark.parametrize("column", ["time", "user_id", "event"])
def test_a_grade_beside_behaviour_is_left_out(tmp_path, column):
    value = {"time": "2024-01-01", "user_id": "u", "event": "click"}[column]
    market, report = read(tmp_path, f"query,item_id,rating,{column}\nshoe,1,5,{value}\nboot,2,1,{value}\n")
    assert len(market.sessions) == 2 and not len(market.relevance)
    whys = {part.column: part.why for part in report.logs[0].columns}
    assert whys["rating"].startswith("grades count in a file of judgements")
