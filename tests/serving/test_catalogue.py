"""Updates of a checkpoint's catalogue, as the command line makes them."""

from __future__ import annotations

import pickle
import re
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from onesearch import Searcher, SidIndex
from onesearch.cli import main
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME, SID_UPDATES_NAME


def write_table(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def test_added_items_are_found_and_removed_ones_are_not(checkpoint, tmp_path, capsys):
    before = Searcher.from_pretrained(checkpoint).search("red shoe", top_k=5)
    best = before[0]
    table = write_table(
        tmp_path / "new.parquet",
        item_id=["new-1", "new-2"],
        codes=[list(best.sid), [1, 2, 3, 0, 1]],
        popularity=[1e9, 0.0],
        categories=[["Novelties"], None],
    )
    index = (checkpoint / SID_INDEX_NAME).read_bytes()
    assert main(["items", "add", str(checkpoint), str(table)]) == 0
    assert "452 items" in capsys.readouterr().out
    assert main(["items", "remove", str(checkpoint), best.item_id]) == 0
    assert (checkpoint / SID_INDEX_NAME).read_bytes() == index  # the large file is not touched
    searcher = Searcher.from_pretrained(checkpoint)
    after = searcher.search("red shoe", top_k=5)
    assert after[0].item_id == "new-1" and after[0].sid == best.sid and after[0].score == pytest.approx(best.score, abs=1e-5)
    assert best.item_id not in {hit.item_id for hit in searcher.search("red shoe", top_k=1000, num_beams=1000)}
    assert [hit.item_id for hit in searcher.search("red shoe", categories=["Novelties"])] == ["new-1"]
    searcher.model.save_pretrained(tmp_path / "copy")  # merges
    assert not (tmp_path / "copy" / SID_UPDATES_NAME).exists()
    merged = SidIndex.load(tmp_path / "copy" / SID_INDEX_NAME)
    assert merged.item_ids == searcher.model.sid_index.item_ids and len(merged) == 451


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item_id": ["x"]}, "'codes'.* missing"),
        ({"item_id": ["x", "y"], "codes": [[0, 0, 0, 0, 0], [0, 0]]}, "row 1 .*5 codes"),
        ({"item_id": ["x"], "codes": [[0, 0, 0, 0, 99]]}, "code 99 at level 4"),
        ({"item_id": ["item-0000000"], "codes": [[0, 0, 0, 0, 0]]}, "'item-0000000' is in the catalogue already"),
        ({"item_id": [7], "codes": [[0, 0, 0, 0, 0]]}, "item ids must be text"),
        ({"item_id": [""], "codes": [[0, 0, 0, 0, 0]]}, "item id '' at place 0 is empty"),
        ({"item_id": ["x", "a b"], "codes": [[0, 0, 0, 0, 0]] * 2}, "item id 'a b' at place 1"),
        ({"item_id": ["x", None], "codes": [[0, 0, 0, 0, 0]] * 2}, "item ids must be text, got NoneType at place 1"),
        ({"item_id": ["x"], "codes": [[0, 0, 0, 0, 0] * 2]}, "row 0 .*5 codes"),
        ({"item_id": ["x"], "codes": [None]}, "column codes is null"),
        ({"item_id": ["x", "y"], "codes": [[0, 0, 0, 0, 0], None]}, "row 1 .*5 codes"),
        ({"item_id": ["x", "y"], "codes": [[0, 0, 0, 0, 0], [0, 0, 0, 0, None]]}, "row 1 .*5 whole numbers"),
        ({"item_id": ["x"], "codes": [[0.0, 0, 0, 0, 0]]}, "row 0 .*5 whole numbers"),
        ({"item_id": ["x"], "codes": [[0, 0, 0, 0, 1 << 32]]}, "code 4294967296 at level 4"),
        ({"item_id": ["x"], "codes": ["00000"]}, "column codes is string"),
        (
            {"item_id": ["x", "y"], "codes": [[0, 0, 0, 0, 0]] * 2, "popularity": [1.0, None]},
            "row 1 of column popularity is null",
        ),
        ({"item_id": ["x"], "codes": [[0, 0, 0, 0, 0]], "popularity": [float("nan")]}, "popularity at place 0 is nan"),
        ({"item_id": ["x"], "codes": [[0, 0, 0, 0, 0]], "popularity": [1e300]}, "popularity at place 0 is 1e[+]300"),
        ({"item_id": ["x"], "codes": [[0, 0, 0, 0, 0]], "popularity": ["12"]}, "popularity at place 0 is '12'"),
        (
            {"item_id": ["x"], "codes": [[0, 0, 0, 0, 0]], "categories": ["Shoes"]},
            "category path at place 0 must be a list.*'Shoes'",
        ),
        ({"item_id": ["x"], "codes": [[0, 0, 0, 0, 0]], "categories": [["Shoes", None]]}, "must be text, got NoneType"),
        ({"item_id": ["x"], "codes": [[0, 0, 0, 0, 0]], "categories": [["Shoes", " "]]}, "empty or broken name"),
        ({"item_id": ["x"], "codes": [[0, 0, 0, 0, 0]], "categories": [[7]]}, "must be text, got int"),
    ],
)
def test_a_table_that_does_not_fit_changes_nothing(checkpoint, tmp_path, capsys, columns, message):
    before = sorted(path.name for path in checkpoint.iterdir())
    table = write_table(tmp_path / "new.parquet", **columns)
    assert main(["items", "add", str(checkpoint), str(table)]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert sorted(path.name for path in checkpoint.iterdir()) == before


def test_a_table_that_is_too_large_is_refused_before_it_is_read(checkpoint, tmp_path, capsys, monkeypatch):
    from onesearch.serving import catalogue

    table = write_table(tmp_path / "new.parquet", item_id=["x", "y"], codes=[[0, 0, 0, 0, 0]] * 2)
    monkeypatch.setattr(catalogue, "read_table", lambda *_: pytest.fail("the table was read"))
    for name, limit in {"MAX_ROWS": 1, "MAX_BYTES": 10}.items():
        with monkeypatch.context() as patch:
            patch.setattr(catalogue, name, limit)
            assert main(["items", "add", str(checkpoint), str(table)]) == 2
            assert re.search(r"2 rows and [\d,]+ bytes; at most", capsys.readouterr().err)
    for wrong in (tmp_path, tmp_path / "none.parquet"):
        assert main(["items", "add", str(checkpoint), str(wrong)]) == 2
        assert "is not a file" in capsys.readouterr().err
    assert not (checkpoint / SID_UPDATES_NAME).exists()


def test_removing_what_is_not_there_is_refused(checkpoint, capsys):
    assert main(["items", "remove", str(checkpoint), "nowhere"]) == 2
    assert "'nowhere' is not in the catalogue of 450 items" in capsys.readouterr().err
    assert not (checkpoint / SID_UPDATES_NAME).exists()


def test_commands_that_were_stopped_can_be_repeated(checkpoint, tmp_path, capsys):
    """`--known skip` and `--unknown skip` do what is left to do, and write nothing if nothing is."""
    codes = [[1, 2, 3, 0, 1]] * 2
    one = write_table(tmp_path / "one.parquet", item_id=["a"], codes=codes[:1])
    both = write_table(
        tmp_path / "both.parquet", item_id=["a", "b"], codes=codes, popularity=[1.0, 2.0], categories=[["x"], ["y"]]
    )
    skip = ["items", "remove", str(checkpoint), "a", "b", "--unknown", "skip"]
    assert main(skip) == 0
    assert not (checkpoint / SID_UPDATES_NAME).exists()
    assert main(["items", "add", str(checkpoint), str(one)]) == 0
    assert main(["items", "add", str(checkpoint), str(both)]) == 2
    assert "'a' is in the catalogue already" in capsys.readouterr().err
    for _ in range(2):
        assert main(["items", "add", str(checkpoint), str(both), "--known", "skip"]) == 0
        index = SidIndex.load(checkpoint / SID_INDEX_NAME)
        assert index.item_ids[450:] == ["a", "b"] and "y" in index.categories and "x" not in index.categories
        written = (checkpoint / SID_UPDATES_NAME).stat().st_mtime_ns
    assert main(["items", "add", str(checkpoint), str(both), "--known", "skip"]) == 0
    assert (checkpoint / SID_UPDATES_NAME).stat().st_mtime_ns == written
    assert main(["items", "remove", str(checkpoint), "b"]) == 0
    assert main(skip) == 0
    assert len(SidIndex.load(checkpoint / SID_INDEX_NAME)) == 450


def test_one_process_at_a_time_changes_a_catalogue(checkpoint):
    from threading import Thread

    from onesearch.modeling_onesearch.locks_onesearch import index_locked
    from onesearch.serving.catalogue import remove

    ids = SidIndex.load(checkpoint / SID_INDEX_NAME).item_ids
    with index_locked(checkpoint / SID_INDEX_NAME):
        waiting = Thread(target=remove, args=(checkpoint, [ids[0]]))
        waiting.start()
        remove(checkpoint, [ids[1]])  # the same thread may
        waiting.join(0.3)
        assert waiting.is_alive()
        assert ids[0] in SidIndex.load(checkpoint / SID_INDEX_NAME).item_ids
    waiting.join(30)
    left = SidIndex.load(checkpoint / SID_INDEX_NAME).item_ids
    assert not {ids[0], ids[1]} & set(left) and len(left) == len(ids) - 2


def test_a_searcher_can_be_pickled(checkpoint):
    searcher = Searcher.from_pretrained(checkpoint)
    other = pickle.loads(pickle.dumps(searcher))  # noqa: S301 - our own bytes
    found, expected = other.search("red shoe", exclude=["item-0000000"]), searcher.search("red shoe", exclude=["item-0000000"])
    assert [hit.item_id for hit in found] == [hit.item_id for hit in expected]
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-5)


def test_filtered_requests_are_answered_beside_updates(checkpoint):
    searcher, done, errors = Searcher.from_pretrained(checkpoint), threading.Event(), []
    index = searcher.index
    item_ids, category = index.item_ids, index.categories[0]
    codes = index.codes_of(item_ids[:1])
    filters = [{"exclude": item_ids[10:20]}, {"items": item_ids[20:60]}, {"categories": [category]}]

    def update():
        while not done.is_set():
            index.add_items(["new"], codes, np.array([1e6]), [[category]])
            index.remove_items(["new", item_ids[0]])
            index.add_items([item_ids[0]], codes)

    def search(place):
        try:
            for turn in range(30):
                hits = searcher.search("red shoe", **filters[(place + turn) % 3], num_beams=50)
                assert hits and len({hit.item_id for hit in hits}) == len(hits)
                assert not {hit.item_id for hit in hits} & set(filters[(place + turn) % 3].get("exclude", ()))
        except BaseException as error:  # noqa: BLE001 - handed on
            errors.append(error)

    updating = threading.Thread(target=update)
    searching = [threading.Thread(target=search, args=(place,)) for place in range(3)]
    for thread in (updating, *searching):
        thread.start()
    for thread in searching:
        thread.join()
    done.set()
    updating.join()
    assert not errors
