"""Markets of six items, with given or random sessions."""

from __future__ import annotations

from dataclasses import replace

from datasets import Dataset
from hypothesis import strategies as st

from onesearch.data.arrow_tables import table_from_rows
from onesearch.data.market import Market

ITEMS = [
    {"item_id": item, "title": f"{word} {item}", "categories": ["Clothes", word], "brand": "Mo"}
    for item, word in zip("abcdef", ("dress", "dress", "shoe", "shoe", "hat", "hat"))
]
BASE = Market.from_rows(items=ITEMS, users=[{"user_id": "u", "gender": "f", "age_bucket": "25-34"}, {"user_id": "v"}])

KEYS = ("user_id", "time", "query", "clicked", "purchased", "impressed")


def market_of(sessions: list[tuple], split: dict | None = None) -> Market:
    """Market whose sessions are given as tuples (user, time, query, clicked, purchased[, shown])."""
    rows = [{"session_id": f"s{number}", **dict(zip(KEYS, session))} for number, session in enumerate(sessions)]
    return replace(BASE, sessions=Dataset(table_from_rows("sessions", rows)), info={"split": split or {"method": "none"}})


ITEM_IDS = st.lists(st.sampled_from("abcdef"), max_size=3, unique=True)
SESSIONS = st.lists(
    st.tuples(
        st.sampled_from("uvw"), st.integers(0, 12), st.sampled_from(["", " ", "dress", "shoe"]), ITEM_IDS, ITEM_IDS, ITEM_IDS
    ),
    max_size=30,
).map(lambda sessions: sorted(sessions, key=lambda session: session[1]))
SPLIT = st.sampled_from(
    [{"method": "none"}, {"method": "leave_last_out"}, {"method": "time"}, {"method": "time", "validation": 0.2, "test": 0.3}]
)


def before(sessions, row):
    """Sessions of the same user at strictly earlier times."""
    return [session for session in sessions if session[0] == sessions[row][0] and session[1] < sessions[row][1]]


def touched(sessions):
    """Items clicked or bought, in the order of a history."""
    return [item for session in sessions for item in [*(c for c in session[3] if c not in session[4]), *session[4]]]
