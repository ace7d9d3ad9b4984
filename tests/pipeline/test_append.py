"""Appending to a run: new items are encoded with what is frozen, and found by the next search."""

from __future__ import annotations

import subprocess
import sys
import threading

import pyarrow.parquet as pq
import pytest

from onesearch import Searcher, SidIndex
from onesearch.cli import main
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME, SID_UPDATES_NAME
from onesearch.pipeline.appending import append_to_run
from onesearch.tokenization_sid.sids.appending import appended_codes


@pytest.fixture
def table(market, tmp_path):
    """Copies of two items under new ids, with the titles of old ones: they get the old ones' SIDs."""
    rows = market.items.with_format("arrow")[[3, 7]]
    rows = rows.set_column(0, "item_id", [["new-3", "new-7"]])
    path = tmp_path / "new.parquet"
    pq.write_table(rows, path)
    return path


def test_appended_items_are_found_by_the_next_search(run, market, table, capsys):
    before = SidIndex.load(run.checkpoint / SID_INDEX_NAME)
    old = [market.items["item_id"][row] for row in (3, 7)]
    assert main(["sids", "append", "--run", str(run.root), str(table)]) == 0
    assert "collisions" in capsys.readouterr().out
    for folder in (run.sids, run.checkpoint):
        index = SidIndex.load(folder / SID_INDEX_NAME)
        assert len(index) == len(before) + 2 and index.codes[: len(before)].tolist() == before.codes.tolist()
        assert index.codes_of(["new-3", "new-7"]).tolist() == index.codes_of(old).tolist()
    searcher = Searcher.from_pretrained(run.checkpoint)
    sid = searcher.model.sid_index.sid_of("new-3")
    hits = searcher.search(market.items["title"][3], top_k=1000, num_beams=1000, items_per_sid=100)
    assert {"new-3", old[0]} <= {hit.item_id for hit in hits if hit.sid == sid}
    leaf = market.items["categories"][3][-1]
    assert "new-3" in {
        hit.item_id for hit in searcher.search("x", top_k=1000, num_beams=1000, categories=[leaf], items_per_sid=100)
    }


def test_an_append_that_died_half_way_is_finished_by_the_next(run, table):
    append_to_run(run, table)
    (run.checkpoint / SID_UPDATES_NAME).unlink()
    with pytest.raises(ValueError, match="published already"):  # which is true for every index by then
        append_to_run(run, table)
    assert SidIndex.load(run.checkpoint / SID_INDEX_NAME).contains(["new-3", "new-7", "nowhere"]).tolist() == [
        True,
        True,
        False,
    ]


def test_an_index_of_other_codebooks_is_refused(run, table):
    index = SidIndex.load(run.checkpoint / SID_INDEX_NAME)
    SidIndex.build(index.item_ids, index.codes, index.popularity, index.codebook_sizes, "other").save(
        run.checkpoint / SID_INDEX_NAME
    )
    with pytest.raises(ValueError, match="other codebooks"):
        append_to_run(run, table)


APPEND = """
import sys
from pathlib import Path
from onesearch.files import RunFolder
from onesearch.pipeline.appending import append_to_run
print("ready", flush=True)
sys.stdin.readline()
append_to_run(RunFolder(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_two_processes_that_append_at_once_lose_nothing(run, market, tmp_path):
    before, processes = SidIndex.load(run.checkpoint / SID_INDEX_NAME), []
    for name in ("one", "two", "three"):
        rows = market.items.with_format("arrow")[[3, 7]]
        pq.write_table(rows.set_column(0, "item_id", [[f"{name}-3", f"{name}-7"]]), tmp_path / f"{name}.parquet")
        command = [sys.executable, "-c", APPEND, str(run.root), str(tmp_path / f"{name}.parquet")]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.wait(timeout=300) for process in processes] == [0, 0, 0]
    new = [f"{name}-{row}" for name in ("one", "two", "three") for row in (3, 7)]
    assert sorted(appended_codes(run).item_ids) == sorted(new)
    assert len(list((run.sids / "appended").glob("*.parquet"))) == 3
    for folder in (run.sids, run.checkpoint):
        index = SidIndex.load(folder / SID_INDEX_NAME)
        assert len(index) == len(before) + 6 and index.contains(new).all()


def test_who_waits_too_long_is_told(run, table, monkeypatch):
    from onesearch import files

    monkeypatch.setattr(files.locked.__wrapped__, "__defaults__", (0.05,))
    taken, done = threading.Event(), threading.Event()

    def hold():
        with files.locked(run.append_lock, "holding"):
            taken.set()
            done.wait(60)

    other = threading.Thread(target=hold)
    other.start()
    taken.wait(60)
    before = sorted(run.root.rglob("*"))
    try:
        with pytest.raises(TimeoutError, match="appending to .*another process has held the lock"):
            append_to_run(run, table)
    finally:
        done.set()
        other.join()
    assert sorted(run.root.rglob("*")) == before
    append_to_run(run, table)
