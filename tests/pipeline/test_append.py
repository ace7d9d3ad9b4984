"""Appending to a run: new items are encoded with what is frozen, and found by the next search."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from onesearch import Searcher, SidIndex
from onesearch.cli import main
from onesearch.data.market import Market
from onesearch.data.text import item_texts
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME, SID_UPDATES_NAME
from onesearch.pipeline.appending import append_to_run
from onesearch.pipeline.steps import make_sids
from onesearch.tokenization_sid.embedding.embeddings import load_facts
from onesearch.tokenization_sid.sids.appending import appended_codes
from onesearch.tokenization_sid.sids.code_files import load_codes
from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder


@pytest.fixture
def table(market, tmp_path):
    """Copies of two items under new ids: they get the old ones' codes up to the last residual level, which may be balanced."""
    rows = market.items.with_format("arrow")[[3, 7]]
    rows = rows.set_column(0, "item_id", [["new-3", "new-7"]])
    path = tmp_path / "new.parquet"
    pq.write_table(rows, path)
    return path


def balance_the_level(run, recipe):
    """Give a run, its checkpoint included, SIDs whose last residual level is balanced as a whole: equal items share a SID."""
    make_sids(replace(recipe, codes=replace(recipe.codes, balanced="level")), run)
    shutil.copy(run.sids / SID_INDEX_NAME, run.checkpoint / SID_INDEX_NAME)
    fingerprint = {"sid_fingerprint": SidIndex.load(run.sids / SID_INDEX_NAME).fingerprint}
    for path in (run.checkpoint / "config.json", run.checkpoint / "tokenizer_config.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | fingerprint))


def nearest_free_code(run, items, row):
    """Third code of a copy of an item: the nearest one of those with room in the parent, which the copy makes grow to n items."""
    encoder, published = SidEncoder.load(run), load_codes(run, "items").codes
    market = replace(Market.load(run.market), items=items.select([row]))
    rows = market.items.with_format("arrow")[:]
    vectors = encoder.embed(item_texts(market), load_facts(run).texts(market), encoder.core.further_texts(rows)).vectors
    residual = vectors[0].astype(np.float64)
    *before, last = encoder.quantizer.level_centroids[:3]
    for centroids, code in zip(before, published[row]):
        residual = residual / np.linalg.norm(residual) - centroids[code]
    distances = np.linalg.norm(residual / np.linalg.norm(residual) - last, axis=1)
    siblings = published[(published[:, :2] == published[row, :2]).all(axis=1), 2]
    room = np.bincount(siblings, minlength=len(last)) < np.ceil((len(siblings) + 1) / len(last))
    return int(np.where(room, distances, np.inf).argmin())


@pytest.mark.parametrize("balanced", ["parent", "level"])
def test_appended_items_are_found_by_the_next_search(run, recipe, market, table, capsys, balanced):
    if balanced == "level":
        balance_the_level(run, recipe)
    before = SidIndex.load(run.checkpoint / SID_INDEX_NAME)
    old = [market.items["item_id"][row] for row in (3, 7)]
    assert main(["sids", "append", "--run", str(run.root), str(table)]) == 0
    assert "collisions" in capsys.readouterr().out
    for folder in (run.sids, run.checkpoint):
        index = SidIndex.load(folder / SID_INDEX_NAME)
        assert len(index) == len(before) + 2 and index.codes[: len(before)].tolist() == before.codes.tolist()
        copies, originals = index.codes_of(["new-3", "new-7"]), index.codes_of(old)
        assert copies[:, :2].tolist() == originals[:, :2].tolist()
        if balanced == "level":
            assert copies.tolist() == originals.tolist()
        else:
            assert copies[:, 2].tolist() == [nearest_free_code(run, market.items, row) for row in (3, 7)]
    searcher = Searcher.from_pretrained(run.checkpoint)
    sids = {item: searcher.model.sid_index.sid_of(item) for item in ("new-3", old[0])}
    hits = searcher.search(market.items["title"][3], top_k=1000, num_beams=1000, items_per_sid=100)
    assert {hit.item_id: hit.sid for hit in hits if hit.item_id in sids} == sids
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
