"""The table format, the splits, and the contents of histories."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Features
from hypothesis import given, settings
from hypothesis import strategies as st
from markets import SESSIONS, SPLIT, before, market_of, touched

from onesearch.data.arrow_tables import conform, table_from_rows
from onesearch.data.market import Market
from onesearch.data.requests import SPLITS, build_requests, split_sessions, targets_of
from onesearch.data.schema import ATTRIBUTE_TYPES, TABLES, arrow_schema

ITEMS = [
    {
        "item_id": "a",
        "title": "red dress",
        "brand": "Mo",
        "seller": "Shop",
        "categories": ["Clothes", "Dresses"],
        "price": 9.5,
        "attributes": {"color": ["red"], "entity": ["dress"]},
        "features": [0.5, -1.0],
    },
    {"item_id": "b", "title": "裙子"},
]


def test_save_then_load_gives_the_same_market(tmp_path):
    market = Market.from_rows(
        items=ITEMS,
        users=[{"user_id": "u", "gender": "F"}],
        sessions=[{"session_id": "s", "user_id": "u", "time": 3, "query": "dress", "impressed": ["a", "b"], "clicked": ["a"]}],
        relevance=[{"query": "dress", "item_id": "a", "grade": 3}],
        info={"name": "tiny", "split": {"method": "none"}},
    )
    loaded = Market.load(market.save(tmp_path / "market"))
    for name in TABLES:
        assert getattr(loaded, name)[:] == getattr(market, name)[:]
        assert getattr(loaded, name).features == Features.from_arrow_schema(pa.schema(TABLES[name]))
    assert loaded.info == {**market.info, "rows": {"items": 2, "users": 1, "sessions": 1, "relevance": 1}}
    assert loaded.items[1]["attributes"] == {kind: [] for kind in ATTRIBUTE_TYPES}
    assert loaded.items[1]["brand"] is None and loaded.sessions[0]["purchased"] == []


def test_the_schemas_are_those_that_datasets_writes():
    for name, columns in TABLES.items():
        written = Features.from_arrow_schema(pa.schema(columns)).arrow_schema
        assert arrow_schema(name).equals(written, check_metadata=True)


def test_saving_twice_replaces_the_folder(tmp_path):
    Market.from_rows(items=ITEMS).save(tmp_path / "market")
    with pytest.raises(FileExistsError, match="--overwrite"):
        Market.from_rows(items=ITEMS[:1]).save(tmp_path / "market")
    assert len(Market.load(tmp_path / "market").items) == 2
    Market.from_rows(items=ITEMS[:1]).save(tmp_path / "market", overwrite=True)
    assert len(Market.load(tmp_path / "market").items) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["market"]


def test_loading_without_a_table_names_it(tmp_path):
    Market.from_rows(items=ITEMS).save(tmp_path / "market")
    (tmp_path / "market" / "users.parquet").unlink()
    with pytest.raises(FileNotFoundError, match="users.parquet"):
        Market.load(tmp_path / "market")


def test_conform_fills_orders_and_casts():
    table = conform("items", pa.table({"title": ["t"], "item_id": [7], "price": [1]}), origin="mine")
    assert table.schema.equals(arrow_schema("items"))
    assert table.to_pylist()[0]["item_id"] == "7"
    assert table.to_pylist()[0]["categories"] == []
    assert table.to_pylist()[0]["attributes"]["brand"] == []


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"item_id": ["a"]}, ["mine", "title"]),
        ({"item_id": ["a"], "title": ["t"], "price": ["dear"]}, ["mine", "price", "float", "dear"]),
    ],
)
def test_conform_names_what_is_wrong(columns, words):
    with pytest.raises(ValueError) as error:
        conform("items", pa.table(columns), origin="mine")
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"item_id": "a", "title": "t", "colour": "red"}, "colour"),
        ({"item_id": "a", "title": "t", "attributes": {"colour": ["red"]}}, "colour"),
        ({"item_id": 7, "title": "t"}, "items"),
    ],
)
def test_rows_that_do_not_fit_raise(row, word):
    with pytest.raises(ValueError, match=word):
        table_from_rows("items", [row])


def test_an_ill_typed_file_does_not_load(tmp_path):
    Market.from_rows(items=ITEMS).save(tmp_path / "market")
    pq.write_table(pa.table({"user_id": [["u"]]}), tmp_path / "market" / "users.parquet")
    with pytest.raises(ValueError, match="users.parquet.*user_id"):
        Market.load(tmp_path / "market")


@settings(max_examples=100, deadline=None)
@given(sessions=SESSIONS, split=SPLIT, max_history=st.integers(1, 25))
def test_a_history_ends_before_its_session_and_splits_partition(sessions, split, max_history):
    market = market_of(sessions, split)
    requests = {name: build_requests(market, name, max_history) for name in SPLITS}
    ids = [request.session_id for part in requests.values() for request in part]
    wanted = [
        f"s{row}" for row, (_, _, query, clicked, bought, _) in enumerate(sessions) if query.strip() and (clicked or bought)
    ]
    assert sorted(ids) == sorted(wanted)
    assigned = split_sessions(market)
    for name, part in requests.items():
        for request in part:
            row = int(request.session_id[1:])
            user, time, query, clicked, purchased, _ = sessions[row]
            assert SPLITS[assigned[row]] == name
            assert (request.user_id, request.query) == (user, query)
            assert (request.clicked, request.purchased) == (tuple(clicked), tuple(purchased))
            assert list(request.history) == touched(before(sessions, row))[-max_history:]


@settings(max_examples=40, deadline=None)
@given(sessions=SESSIONS, validation=st.floats(0, 0.4), test=st.floats(0.01, 0.5))
def test_a_time_split_runs_from_train_to_test(sessions, validation, test):
    assigned = split_sessions(market_of(sessions, {"method": "time", "validation": validation, "test": test}))
    assert np.all(np.diff(assigned) >= 0)
    searches = assigned[[bool(query.strip()) for _, _, query, *_ in sessions]]  # a session without a query is no request
    assert abs(np.sum(searches == 2) - test * len(searches)) <= 1
    assert abs(np.sum(searches == 1) - validation * len(searches)) <= 1


@settings(max_examples=40, deadline=None)
@given(sessions=SESSIONS)
def test_leave_last_out_takes_the_last_two_of_each_user(sessions):
    assigned = split_sessions(market_of(sessions, {"method": "leave_last_out"}))
    rows = defaultdict(list)
    for row, session in enumerate(sessions):
        rows[session[0]].append(int(assigned[row]))
    for splits in rows.values():
        assert splits == [0] * (len(splits) - 2) + [1, 2] if len(splits) >= 3 else set(splits) == {0}


def test_sessions_at_the_same_time_do_not_see_each_other():
    market = market_of([("u", 1, "dress", ["a"], []), ("u", 1, "shoe", ["b"], []), ("u", 2, "hat", ["c"], [])])
    assert [request.history for request in build_requests(market, "train")] == [(), (), ("a", "b")]


def test_a_session_without_a_query_is_history_and_no_request():
    market = market_of([("u", 0, "", ["a", "b"], ["b"]), ("u", 1, "dress", ["c"], [])])
    (request,) = build_requests(market, "train")
    assert request.history == ("a", "b")
    assert targets_of(request, "click") == ("c",) and targets_of(request, "purchase") == ()


@pytest.mark.parametrize(
    ("split", "word"),
    [
        ({"method": "chance"}, "chance"),
        ({"method": "time", "test": 0.9, "validation": 0.2}, "0.9"),
        ({"method": "time", "test": 0}, "0"),
    ],
)
def test_unknown_splits_raise(split, word):
    with pytest.raises(ValueError, match=word):
        split_sessions(market_of([("u", 1, "q", ["a"], [])], split))


def test_unknown_options_raise():
    market = market_of([("u", 1, "q", ["a"], [])])
    with pytest.raises(ValueError, match="dev"):
        build_requests(market, "dev")
    with pytest.raises(ValueError, match="order"):
        targets_of(build_requests(market, "train")[0], "order")
