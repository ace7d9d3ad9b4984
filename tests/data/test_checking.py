"""Each kind of problem is planted in a sound market; the checker finds it with its row, and no other problem."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onesearch.data.checking import Problem, check_market, report
from onesearch.data.market import Market


@pytest.fixture(scope="module")
def sound_folder(tmp_path_factory) -> Path:
    session = {"user_id": "u", "query": "dress", "impressed": ["a", "b"], "clicked": ["a"], "purchased": ["a"]}
    market = Market.from_rows(
        items=[{"item_id": item, "title": f"item {item}", "categories": ["x"]} for item in "abc"],
        users=[{"user_id": "u"}, {"user_id": "v"}],
        sessions=[{**session, "session_id": f"s{time}", "time": time} for time in range(4)],
        relevance=[{"query": "dress", "item_id": "a", "grade": grade} for grade in (0, 3)],
        info={"name": "tiny", "source": "test", "split": {"method": "time", "validation": 0.1, "test": 0.2}},
    )
    return market.save(tmp_path_factory.mktemp("sound") / "market")


@pytest.fixture
def folder(sound_folder, tmp_path) -> Path:
    return Path(shutil.copytree(sound_folder, tmp_path / "market"))


def plant(folder: Path, table: str, row: int, column: str, value: Any) -> None:
    """Set one cell of a parquet file."""
    path = folder / f"{table}.parquet"
    content = pq.read_table(path)
    values = content.column(column).to_pylist()
    values[row] = value
    position = content.column_names.index(column)
    pq.write_table(
        content.set_column(position, content.schema.field(position), pa.array(values, content.schema.types[position])), path
    )


def found(folder: Path) -> list[tuple]:
    return [(problem.table, problem.row, problem.kind) for problem in check_market(folder)]


def test_a_sound_market_has_no_problems(folder):
    assert check_market(folder) == []
    assert report([]) == "no problems"


@pytest.mark.parametrize(
    ("table", "row", "column", "value", "kind", "word"),
    [
        ("items", 2, "item_id", None, "empty_id", "None"),
        ("items", 2, "item_id", " ", "empty_id", "' '"),
        ("items", 2, "item_id", "b c", "malformed_id", "'b c'"),
        ("items", 2, "item_id", "b\n", "malformed_id", "white space"),
        ("items", 2, "item_id", "b\0", "malformed_id", "NUL"),
        ("items", 2, "item_id", "b", "duplicate_id", "row 1"),
        ("items", 1, "price", float("inf"), "number", "inf"),
        ("items", 1, "features", [1.0, float("nan")], "number", "nan"),
        ("items", 1, "click_count", -1, "count", "-1"),
        ("items", 2, "title", "", "empty_title", "title"),
        ("items", 2, "title", None, "empty_title", "None"),
        ("items", 1, "categories", None, "null_list", "categories"),
        ("items", 1, "attributes", None, "null_list", "attributes"),
        ("items", 1, "attributes", {"color": None}, "null_list", "attributes"),
        ("users", 1, "user_id", "u", "duplicate_id", "'u'"),
        ("users", 1, "user_id", "", "empty_id", "''"),
        ("users", 1, "user_id", "v\u2003", "malformed_id", "user_id"),
        ("sessions", 3, "session_id", "s1", "duplicate_id", "row 1"),
        ("sessions", 3, "session_id", None, "empty_id", "session_id"),
        ("sessions", 3, "session_id", "s 3", "malformed_id", "'s 3'"),
        ("sessions", 3, "user_id", None, "empty_id", "user_id"),
        ("sessions", 3, "user_id", "nobody", "dangling_user", "nobody"),
        ("sessions", 1, "impressed", ["a", "ghost", "b", "ghoul"], "dangling_item", "'ghost' (and 1 more)"),
        ("sessions", 1, "impressed", ["a", None], "dangling_item", "None"),
        ("sessions", 1, "clicked", ["ghost"], "dangling_item", "clicked item 'ghost'"),
        ("sessions", 1, "purchased", ["ghost"], "dangling_item", "purchased item 'ghost'"),
        ("sessions", 1, "clicked", ["c"], "not_impressed", "'c'"),
        ("sessions", 1, "purchased", ["a", "c"], "not_impressed", "purchased item 'c'"),
        ("sessions", 1, "clicked", None, "null_list", "clicked"),
        ("sessions", 1, "carted", ["c"], "not_impressed", "carted item 'c'"),
        ("sessions", 1, "carted", None, "null_list", "carted"),
        ("sessions", 1, "scene", "live", "scene", "'live'"),
        ("sessions", 2, "query", None, "null_query", "null"),
        ("sessions", 2, "time", None, "null_time", "null"),
        ("sessions", 3, "time", 1, "unsorted", "row 2"),
        ("relevance", 1, "item_id", "ghost", "dangling_item", "ghost"),
        ("relevance", 1, "item_id", None, "empty_id", "item_id"),
        ("relevance", 1, "query", None, "null_query", "null"),
        ("relevance", 1, "query", " ", "empty_query", "blank"),
        ("relevance", 1, "grade", 4, "grade", "4"),
        ("relevance", 1, "grade", -1, "grade", "-1"),
        ("relevance", 1, "grade", None, "grade", "None"),
    ],
)
def test_a_planted_problem_is_found(folder, table, row, column, value, kind, word):
    plant(folder, table, row, column, value)
    (problem,) = [problem for problem in check_market(folder) if (problem.table, problem.kind) == (table, kind)]
    assert problem.row == row and word in problem.message
    assert found(folder) == [(table, row, kind)]


def test_all_problems_are_named_at_once(folder):
    plant(folder, "items", 0, "title", "")
    plant(folder, "sessions", 1, "clicked", ["ghost", "c"])
    plant(folder, "sessions", 3, "clicked", ["c"])
    plant(folder, "relevance", 0, "grade", 9)
    assert found(folder) == [
        ("items", 0, "empty_title"),
        ("sessions", 1, "dangling_item"),
        ("sessions", 1, "not_impressed"),
        ("sessions", 3, "not_impressed"),
        ("relevance", 0, "grade"),
    ]


def test_what_is_allowed_is_not_reported(folder):
    plant(folder, "sessions", 0, "query", "")
    plant(folder, "sessions", 1, "impressed", [])
    plant(folder, "sessions", 2, "time", 1)
    assert check_market(folder) == []


def test_users_may_be_left_out(folder):
    users = pq.read_table(folder / "users.parquet")
    pq.write_table(users.slice(0, 0), folder / "users.parquet")
    assert check_market(folder) == []


def test_tables_in_several_row_groups_keep_their_row_numbers(folder):
    sessions = pq.read_table(folder / "sessions.parquet")
    pq.write_table(sessions, folder / "sessions.parquet", row_group_size=1)
    assert check_market(folder) == []
    plant(folder, "sessions", 3, "clicked", ["c"])
    chunks = pa.concat_tables([pq.read_table(folder / "sessions.parquet").slice(row, 1) for row in range(4)])
    pq.write_table(chunks, folder / "sessions.parquet", row_group_size=2)
    assert found(folder) == [("sessions", 3, "not_impressed")]


@pytest.mark.parametrize("table", ["items", "users", "sessions", "relevance"])
def test_missing_and_unreadable_tables(folder, table):
    (folder / f"{table}.parquet").unlink()
    assert found(folder) == [(table, None, "missing_file")]
    (folder / f"{table}.parquet").write_bytes(b"no parquet")
    assert found(folder) == [(table, None, "unreadable_file")]


def test_columns_that_are_missing_unknown_or_ill_typed(folder):
    items = pq.read_table(folder / "items.parquet")
    pq.write_table(items.drop_columns(["title", "price"]), folder / "items.parquet")
    assert found(folder) == [("items", None, "missing_column")]
    pq.write_table(items.append_column("colour", pa.array(["red"] * 3)), folder / "items.parquet")
    assert found(folder) == [("items", None, "unknown_column")]
    price = items.column_names.index("price")
    pq.write_table(items.set_column(price, "price", pa.array(["dear"] * 3)), folder / "items.parquet")
    assert found(folder) == [("items", None, "column_type")]
    pq.write_table(pa.table({"query": ["q"], "item_id": ["a"], "grade": [300]}), folder / "relevance.parquet")
    assert ("relevance", None, "column_type") in found(folder)


def test_castable_columns_are_sound(folder):
    pq.write_table(
        pa.table({"query": ["q"], "item_id": ["a"], "grade": pa.array([2], pa.int64())}), folder / "relevance.parquet"
    )
    assert check_market(folder) == []


@pytest.mark.parametrize(
    ("info", "kind"),
    [
        ({"split": {"method": "chance"}}, "split"),
        ({"split": {"method": "random", "seed": -1}}, "split"),
        ({"split": "time"}, "split"),
        ({"split": {"method": ["time"]}}, "split"),
        ({"split": {"method": "time", "test": 0}}, "split"),
        ({"split": {"method": "time", "test": "10 %"}}, "split"),
        ({"split": {"method": "leave_last_out"}}, None),
        ({}, "split"),
        ([], "split"),
        ({"split": {"method": "none"}, "language": None}, None),
        ({"split": {"method": "none"}, "language": "de-AT"}, None),
        ({"split": {"method": "none"}, "language": "German"}, "language"),
        ({"split": {"method": "none"}, "text_limits": {"description": 300}}, None),
        ({"split": {"method": "none"}, "text_limits": {"description": "300"}}, "text_limits"),
        ({"split": {"method": "none"}, "text_fields": ["title", "colour"]}, "text_fields"),
        ({"split": {"method": "none"}, "text_fields": "title"}, "text_fields"),
    ],
)
def test_the_split_of_market_json(folder, info, kind):
    (folder / "market.json").write_text(json.dumps(info))
    assert found(folder) == ([("market.json", None, kind)] if kind else [])


def test_a_market_without_sessions_needs_no_split(tmp_path):
    Market.from_rows(items=[{"item_id": "a", "title": "x"}]).save(tmp_path / "market")
    assert check_market(tmp_path / "market") == []


def test_no_items_are_a_problem(tmp_path):
    Market.from_rows(items=[]).save(tmp_path / "market")
    assert found(tmp_path / "market") == [("items", None, "no_items")]


def test_a_split_without_requests_is_a_problem(folder):
    (folder / "market.json").write_text(json.dumps({"split": {"method": "leave_last_out"}}))
    plant(folder, "sessions", 0, "query", "")
    plant(folder, "sessions", 1, "query", " ")
    (problem,) = check_market(folder)  # u's last two sessions are validation and test
    assert problem.kind == "no_requests" and "train split" in problem.message
    plant(folder, "sessions", 3, "clicked", [])
    plant(folder, "sessions", 3, "purchased", [])
    assert [problem.message.split(" split ")[0] for problem in check_market(folder)] == [
        "no session of the train",
        "no session of the test",
    ]


def test_a_column_that_is_there_twice_is_a_problem(folder):
    items = pq.read_table(folder / "items.parquet")
    pq.write_table(items.append_column("title", items.column("title")), folder / "items.parquet")
    assert found(folder) == [("items", None, "duplicate_column")]


@pytest.mark.parametrize(
    ("table", "column", "values", "word"),
    [
        ("sessions", "time", [0.0, 1.0, 1.5, 2.0], "row 2: 1.5"),
        ("sessions", "session_id", [4.006381333931e12, 1.0, 2.0, 3.0], "row 0: 4006381333931.0"),
        ("sessions", "clicked", [[1.0], [], [], []], "list<element: double>"),
        ("sessions", "query", [1, 2, 3, 4], "int64"),
        ("items", "price", ["9.5", "1", "2"], "row 0: '9.5'"),
    ],
)
def test_no_value_is_changed_to_fit_its_column(folder, table, column, values, word):
    """Casts that Arrow would make without a word."""
    content = pq.read_table(folder / f"{table}.parquet")
    changed = content.set_column(content.column_names.index(column), column, pa.array(values))
    pq.write_table(changed, folder / f"{table}.parquet")
    (problem,) = [problem for problem in check_market(folder) if problem.kind == "column_type"]
    assert word in problem.message and column in problem.message
    with pytest.raises(ValueError, match=column):
        Market.load(folder)


def test_market_json_missing_or_damaged(folder):
    (folder / "market.json").write_text("{")
    assert found(folder) == [("market.json", None, "unreadable_file")]
    (folder / "market.json").unlink()
    assert found(folder) == [("market.json", None, "missing_file")]


def test_a_missing_folder_raises(tmp_path):
    with pytest.raises(NotADirectoryError, match="nowhere"):
        check_market(tmp_path / "nowhere")


def test_the_report_counts_each_kind_and_shows_the_first():
    problems = [Problem("sessions", row, "unsorted", f"time of {row}") for row in range(5)]
    problems.append(Problem("items", None, "missing_column", "title"))
    assert report(problems, limit=2).splitlines() == [
        "6 problems",
        "items: missing_column: 1",
        "  title",
        "sessions: unsorted: 5",
        "  row 0: time of 0",
        "  row 1: time of 1",
        "  … and 3 more",
    ]
