"""Rows of a log as sessions: what belongs together, and what a row without a query, an item, a user or a time means."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from importer_files import sound

from onesearch.data.exports import read_shop
from onesearch.data.exports.event_columns import KINDS
from onesearch.data.exports.events import MINUTE, Event, SessionRules, session_rows


def read(tmp_path, log, **options):
    (tmp_path / "p.csv").write_text("id,name\n1,red shoe\n2,blue coat\n3,green hat\n")
    (tmp_path / "l.csv").write_text(log)
    shop = read_shop(tmp_path / "p.csv", tmp_path / "l.csv", **{"made_queries": False, **options})
    return sound(shop.market, tmp_path).sessions.to_list(), shop


def brief(sessions):
    return [(s["user_id"], s["query"], s["impressed"], s["clicked"], s["carted"], s["purchased"]) for s in sessions]


HEAD = "time,user,query,item,event\n"


def test_a_session_is_a_query_of_a_user_within_the_gap(tmp_path):
    events = ((0, "u,shoe,1"), (1200, "u,Shoe ,2"), (3000, "u,shoe,3"), (4801, "u,shoe,1"), (0, "v,shoe,2"))
    log = HEAD + "".join(f"{1700000000 + later},{rest},click\n" for later, rest in events)
    sessions, _ = read(tmp_path, log)
    assert brief(sessions) == [
        ("u", "shoe", [], ["1", "2", "3"], [], []),
        ("v", "shoe", [], ["2"], [], []),
        ("u", "shoe", [], ["1"], [], []),
    ]
    sessions, _ = read(tmp_path, log, session_minutes=15)
    assert [s["clicked"] for s in sessions] == [["1"], ["2"], ["2"], ["3"], ["1"]]


def rows(*events):
    return HEAD + "".join(f"2024-01-01 {when},{rest}\n" for when, rest in events)


def test_events_without_a_query_find_theirs(tmp_path):
    log = rows(
        ("10:00:00", "u,shoe,1,view"), ("10:00:10", "u,shoe,1,click"), ("10:05:00", "u,coat,2,click"),
        ("10:06:00", "u,,1,add_to_cart"),  # the latest session that holds item 1
        ("10:07:00", "u,,3,purchase"),  # no session holds item 3: the latest one
        ("12:00:00", "u,,2,click"),  # too late: no search
        ("12:01:00", "u,,3,click"), ("12:02:00", "w,,3,purchase"),
    )  # fmt: skip
    sessions, shop = read(tmp_path, log)
    assert brief(sessions) == [
        ("u", "shoe", ["1", "3"], ["1"], ["1"], ["3"]),
        ("u", "coat", [], ["2"], [], []),
        ("u", "", [], ["2", "3"], [], []),
        ("w", "", [], [], [], ["3"]),
    ]
    assert [s["scene"] for s in sessions] == ["search", "search", "recommendation", "recommendation"]
    table = shop.report.to_table()
    assert "2 events without a query belong to a query of their user before them" in table
    assert "3 events without a query before them make sessions without a query" in table


def test_queries_without_items_and_views_that_are_clicks(tmp_path):
    sessions, _ = read(
        tmp_path, rows(("10:00:00", "u,boots,,search"), ("10:01:00", "u,hat,3,view"), ("10:02:00", "u,,3,transaction"))
    )
    assert brief(sessions) == [
        ("u", "boots", [], [], [], []),
        ("u", "hat", [], ["3"], [], ["3"]),
    ]  # a view is a click where nothing else is


def test_anonymous_users_are_their_visits_or_their_rows(tmp_path):
    events = (",a,shoe,1", "guest,a,shoe,2", ",b,shoe,3", ",,shoe,1", ",,shoe,2", ",,,3")
    head = "time,user,session,query,item,event\n"
    log = head + "".join(f"2024-01-01 10:00:0{second},{rest},click\n" for second, rest in enumerate(events))
    sessions, shop = read(tmp_path, log)
    assert [(s["user_id"], s["clicked"]) for s in sessions] == [
        ("anonymous-a", ["1", "2"]), ("anonymous-b", ["3"]), ("anonymous-s3", ["1", "2"]), ("anonymous-row-6", ["3"]),
    ]  # fmt: skip
    assert "6 rows without a user" in shop.report.to_table()


def test_every_lost_row_is_counted_by_reason(tmp_path):
    log = rows(
        ("10:00", "u,shoe,1,click"), ("10:01", "u,shoe,99,click"), ("25:99", "u,shoe,1,click"), ("10:02", "u,shoe,1,dance"),
        ("10:03", "u,shoe,1,remove_from_cart"), ("10:04", "u,,,click"), ("10:05", "u,shoe,1,click"), ("10:06", "u,shoe"),
    )  # fmt: skip
    sessions, shop = read(tmp_path, log)
    (report,) = shop.report.logs
    assert brief(sessions) == [("u", "shoe", [], ["1"], [], [])]
    assert {loss.reason: loss.count for loss in report.lost_rows} == {
        "the item is not in the catalogue": 1,
        "the time is empty or no time": 1,
        "the kind of the event is unknown": 1,
        "the kind of the event says no interest in an item": 1,
        "neither a query nor an item": 1,
        "fewer cells than the header has columns": 1,
    }
    assert (report.rows, report.kept, report.merged, report.lost) == (8, 1, 1, 6)
    assert shop.market.info["split"] == {"method": "none"}  # one request is too few for a test


def test_items_named_by_their_titles_and_logs_of_another_shop(tmp_path):
    sessions, _ = read(tmp_path, rows(("10:00", "u,shoe,red shoe,click"), ("10:01", "u,hat,Green Hat,click")))
    assert [s["clicked"] for s in sessions] == [["1"], ["3"]]
    sessions, shop = read(tmp_path, rows(("10:00", "u,shoe,X1,click")))
    assert not sessions and shop.report.logs[0].lost == 1 and shop.market.info["split"] == {"method": "none"}
    assert "no row of the log can be used, for the reasons above" in shop.report.to_table()


def test_a_row_may_be_a_session_or_a_shown_item(tmp_path):
    sessions, _ = read(
        tmp_path,
        "session_id,user_id,timestamp,query,results,clicks,orders\n"
        's1,u1,2024-01-01,shoe,"1,2,99",1,\ns2,u2,2024-01-02,coat,2 3,2|1,2\ns3,u2,2024-01-03,hat,,,\ns4,u2,2024-01-03,,,,\n',
    )
    assert brief(sessions) == [
        ("u1", "shoe", ["1", "2"], ["1"], [], []), ("u2", "coat", ["2", "3", "1"], ["2", "1"], [], ["2"]), ("u2", "hat", [], [], [], []),
    ]  # fmt: skip
    shown = "query,results,clicked_item_id,user,ts\nshoe,1|2|3,2,u1,2024-01-01\ncoat,1|2,,u2,2024-01-02\n"
    assert brief(read(tmp_path, shown)[0]) == [
        ("u1", "shoe", ["1", "2", "3"], ["2"], [], []),
        ("u2", "coat", ["1", "2"], [], [], []),
    ]
    flags = (
        "query,product_id,position,clicked,purchased,user,ts\n"
        "shoe,1,1,1,0,u1,1700000000\nshoe,2,2,0,0,u1,1700000000\ncoat,2,1,true,1,u2,1700009000\n"
    )
    assert brief(read(tmp_path, flags)[0]) == [
        ("u1", "shoe", ["1", "2"], ["1"], [], []),
        ("u2", "coat", ["2"], ["2"], [], ["2"]),
    ]


def test_a_log_without_times_keeps_its_order_and_is_split_at_random(tmp_path):
    sessions, shop = read(tmp_path, "search_term,sku,user\n" + "shoe,1,u\ncoat,2,u\n" * 20)
    assert [s["time"] for s in sessions] == list(range(40)) and {s["user_id"] for s in sessions} == {"u"}
    assert shop.market.info["split"]["method"] == "random"


def test_pairs_of_queries_and_items_alone_are_sessions(tmp_path):
    sessions, _ = read(tmp_path, "search_term,sku\nshoe,1\ncoat,2\nshoe,3\n")
    assert [(s["user_id"], s["query"], s["clicked"]) for s in sessions] == [
        ("anonymous-row-1", "shoe", ["1"]), ("anonymous-row-2", "coat", ["2"]), ("anonymous-row-3", "shoe", ["3"]),
    ]  # fmt: skip


def test_a_profile_becomes_a_user(tmp_path):
    _, shop = read(
        tmp_path, "time,user,query,item,event,gender,age\n2024-01-01,u,shoe,1,click,f,25-34\n2024-01-02,u,coat,2,click,,\n"
    )
    assert shop.market.users.to_list() == [{"user_id": "u", "gender": "f", "age_bucket": "25-34", "region": None}]


EVENTS = st.lists(
    st.builds(
        Event,
        st.integers(0, 500).map(lambda minute: minute * MINUTE),
        st.sampled_from("uvw"),
        st.sampled_from(["", "", "a", "b"]),
        st.sampled_from(["", "shoe", "coat"]),
        st.sampled_from("123"),
        st.sampled_from(KINDS),
    ),
    max_size=40,
)


@given(EVENTS, st.sampled_from([None, 5 * MINUTE, 30 * MINUTE]))
def test_no_event_is_lost_and_sessions_keep_to_the_rules(events, gap):
    events.sort(key=lambda event: event.moment)
    sessions, counts = SessionRules(gap).sessions(events)
    wanted = {(event.user_id, event.item_id, event.kind) for event in events}
    assert wanted == {(s.user_id, item, kind) for s in sessions for kind in KINDS for item in s.items[kind]}
    assert sum(len(s.items[kind]) for s in sessions for kind in KINDS) == len(events) - counts["repeated"]
    for row in session_rows(sessions, is_clock=True):
        shown = set(row["impressed"])
        assert not shown or shown >= {*row["clicked"], *row["carted"], *row["purchased"]}
        assert (row["scene"] == "search") == bool(row["query"])
    for session in sessions:
        moments = [
            event.moment
            for event in events
            if event.user_id == session.user_id and session.begin <= event.moment <= session.last
        ]
        assert gap is None or all(later - earlier <= gap for earlier, later in zip(moments, moments[1:]))


@pytest.mark.parametrize("name", ["wann", "moment"])
def test_a_log_that_names_nothing_known_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match="no column holds queries or items of the catalogue; name one with log_columns="):
        read(tmp_path, f"{name},colour\n2024-01-01,x\n")


SEARCHES = """time,user,query
2024-01-01 10:00,u,red shoe
2024-01-01 11:00,v,hat
"""
CLICKS = """timestamp;customer;product
2024-01-01T10:01:00;u;1
2024-01-01T11:01:00;v;3
2024-01-01T11:02:00;v;9
"""
ORDERS = """order_id,order_date,customer_id,sku,quantity
7,2024-01-01 10:20,u,1,2
8,2024-01-02 09:00,v,2,1
"""


def several(folder, *texts):
    (folder / "p.csv").write_text("sku,title\n1,red shoe\n2,blue coat\n3,hat\n")
    paths = [folder / f"{number}.csv" for number in range(len(texts))]
    for path, text in zip(paths, texts):
        path.write_text(text)
    return folder / "p.csv", paths


def test_searches_clicks_and_orders_of_three_files_are_joined_by_user_and_time(tmp_path):
    products, paths = several(tmp_path, SEARCHES, CLICKS, ORDERS)
    shop = read_shop(products, paths, made_queries=False)
    sessions = [
        (row["user_id"], row["query"], row["clicked"], row["purchased"])
        for row in sound(shop.market, tmp_path).sessions.to_list()
    ]
    assert sessions == [("u", "red shoe", ["1"], ["1"]), ("v", "hat", ["3"], []), ("v", "", [], ["2"])]
    assert [(file.name, file.rows, file.kept, file.lost) for file in shop.report.logs] == [
        ("0.csv", 2, 2, 0),
        ("1.csv", 3, 2, 1),
        ("2.csv", 2, 2, 0),
    ]
    table = shop.report.to_table()
    assert "1.csv (UTF-8, separated by semicolon; one row per event): 3 rows read, 2 kept, 1 left out" in table
    assert table.count("a session is a user's events") == 1
    for order in ([2, 0, 1], [1, 2, 0]):  # whatever the order of the files
        again = read_shop(products, [paths[place] for place in order], made_queries=False).market.sessions.to_list()
        assert again == shop.market.sessions.to_list()


def test_whole_sessions_and_events_are_one_log(tmp_path):
    whole = "session_id,user_id,time,query,clicked\ns1,u,2024-01-01 09:00,coat,2\n"
    shop = read_shop(*several(tmp_path, whole, SEARCHES, CLICKS))
    rows = sound(shop.market, tmp_path).sessions.to_list()
    assert [(row["session_id"], row["query"], row["clicked"]) for row in rows] == [
        ("s1", "coat", ["2"]),
        ("s1-2", "red shoe", ["1"]),
        ("s2", "hat", ["3"]),
    ]


def test_columns_of_the_user_concern_the_files_that_have_them(tmp_path):
    odd = "wann,wer,was\n2024-01-01 10:01,u,1\n"
    products, paths = several(tmp_path, SEARCHES, odd)
    given = {"time": "wann", "user_id": "wer", "item_id": "was"}
    (row, _) = read_shop(products, paths, log_columns=given).market.sessions.to_list()
    assert (row["user_id"], row["query"], row["clicked"]) == ("u", "red shoe", ["1"])
    with pytest.raises(ValueError, match="0.csv has no column 'wo'"):
        read_shop(products, paths, log_columns={"item_id": "wo"})


def test_several_files_need_times(tmp_path):
    with pytest.raises(ValueError, match="1.csv: no column holds times, by which the events of several files could be joined"):
        read_shop(*several(tmp_path, SEARCHES, "user,product\nu,1\n"))
