"""What stands for the history of a user who has none."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onesearch.views.default_histories import LENGTH, ClickCounts, DefaultHistories

ITEM_IDS = [f"i{row}" for row in range(20)]
ITEM_SIDS = np.stack([np.arange(20) // 5, np.arange(20) % 5], axis=1)
CATEGORIES = np.arange(20) // 10
QUERIES = ["red", "crimson", "scarlet", "boots", "unknown words"]
QUERY_SIDS = np.array([[0, 1], [0, 1], [0, 4], [2, 0], [-1, -1]])


def counts(*sessions):
    """Counts of (query row, clicked, shown) sessions."""
    found = ClickCounts(QUERY_SIDS, CATEGORIES, ITEM_SIDS)
    for session in sessions:
        found.add(*session)
    return found


def test_the_most_clicked_items_stand_by_page_views():
    found = counts((0, [1, 2], [1, 2, 3, 3]), (0, [2, 3], [2, 3, 1]), (0, [2, 1], [1, 1, 1]))
    # Clicks: 2 thrice, 1 twice, 3 once. Views: 1 five times, 3 thrice, 2 twice; the most viewed stands last.
    assert found.history(0) == [2, 3, 1]


def test_only_so_many_are_kept():
    found = counts(*((0, [item], [item] * item) for item in range(20)), (0, list(range(10, 20)), []))
    assert found.history(0) == list(range(10, 20)) and LENGTH == 10


def test_a_query_falls_back_step_by_step():
    found = counts((0, [7], []), (3, [12], []), (-1, [19], [19]))
    assert found.history(0) == [7]
    assert found.history(1) == [7]  # the same SID
    assert found.history(2) == [7]  # the same first code
    assert counts((0, [12, 11], [11])).history(3) == [12, 11]  # category 1 has the items below code 2
    assert counts((0, [7], [])).history(3) == [7]  # no click in that category: the whole market
    assert found.history(4) == [12, 7, 19]  # without a SID: the whole market, by page views
    assert counts().history(0) == []


def test_frozen_histories_are_those_of_the_counts(tmp_path):
    found = counts((0, [7, 8], [8]), (3, [12], []), (-1, [19], [19]))
    frozen = DefaultHistories.of_counts(found, QUERIES, ITEM_IDS)
    for row, query in enumerate(QUERIES):
        sid = QUERY_SIDS[row].tolist() if QUERY_SIDS[row, 0] >= 0 else None
        assert frozen.of(query, sid) == [ITEM_IDS[item] for item in found.history(row)]
    assert frozen.of("never seen", [0, 3]) == ["i7", "i8"] and frozen.of("never seen", None)[-1] == "i8"
    frozen.save(tmp_path / "defaults.parquet")
    assert DefaultHistories.load(tmp_path / "defaults.parquet") == frozen
    assert DefaultHistories.of_counts(counts(), QUERIES, ITEM_IDS).of("red", [0, 1]) == []


def test_a_damaged_file_names_itself(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"nothing")
    pq.write_table(pa.table({"kind": [1]}), tmp_path / "b.parquet")
    for name, words in (("a.parquet", "damaged or no parquet file"), ("b.parquet", "no table of default histories")):
        with pytest.raises(ValueError, match=f"{name} is {words}.*copy the checkpoint again"):
            DefaultHistories.load(tmp_path / name)
