"""A changed byte in any safetensors or parquet file that this package writes is refused by name, or changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from onesearch.parquet_files import SEAL, read_table, table_writer, write_table
from onesearch.tokenization_sid.parallel.rows import ShardedRows
from onesearch.tokenization_sid.tensor_files import read_tensors, write_tensors

TESTS = Path(__file__).parent
TABLE = pa.table({"number": list(range(100)), "text": [f"row {row}" for row in range(100)]})


def check_fuzz(count, seed):
    command = [sys.executable, str(TESTS / "file_fuzz.py"), str(count), str(seed)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=1500, cwd=TESTS)
    assert finished.returncode == 0, f"exit code {finished.returncode}\n{finished.stderr[-3000:]}"
    found = json.loads(finished.stdout.splitlines()[-1])
    print(found)
    assert len(found) == 15
    for kind, counts in found.items():
        assert counts.keys() <= {"refused", "same"} and sum(counts.values()) == count, (kind, counts)
        assert counts["refused"] >= 0.8 * count, (kind, counts)


def test_changed_files_are_refused_by_name_or_change_nothing():
    check_fuzz(10, seed=0)


@pytest.mark.slow
def test_thousands_of_changed_files_are_refused_by_name_or_change_nothing():
    check_fuzz(3000, seed=1)


def test_a_seal_covers_all_bytes_and_other_readers_do_not_see_it(tmp_path):
    path = tmp_path / "table.parquet"
    write_table(TABLE, path, row_group_size=30)
    assert read_table(path).equals(TABLE) and pq.read_table(path).equals(TABLE)
    content = path.read_bytes()
    assert content.count(SEAL) == 1
    mark = range(content.index(SEAL), content.index(SEAL) + len(SEAL))
    for place in [*range(0, len(content), 7), *mark]:
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        if place in mark:  # no seal: the table is read by the checksums of its pages
            assert read_table(path).equals(TABLE)
            continue
        with pytest.raises(ValueError, match="table.parquet is damaged"):
            read_table(path)


def test_tables_written_in_chunks_have_a_seal(tmp_path):
    with table_writer(tmp_path / "chunks.parquet", TABLE.schema) as writer:
        writer.write_table(TABLE[:50])
        writer.write_table(TABLE[50:])
    assert read_table(tmp_path / "chunks.parquet").equals(TABLE)
    assert (tmp_path / "chunks.parquet").read_bytes().count(SEAL) == 1


def test_tables_of_other_tools_have_no_seal(tmp_path):
    pq.write_table(TABLE, tmp_path / "other.parquet")
    assert read_table(tmp_path / "other.parquet").equals(TABLE)


def test_shards_are_compared_with_their_fingerprint_before_their_rows_are_read(tmp_path):
    paths, vectors = [tmp_path / f"{shard}.safetensors" for shard in range(2)], np.random.default_rng(0).random((40_000, 2))
    for path, part in zip(paths, (vectors[:30_000], vectors[30_000:])):
        write_tensors(path, {"embeddings": part}, {"format": "test/1"})
    rows = ShardedRows(paths, expected="test/1")
    np.testing.assert_array_equal(rows[29_000:31_000], vectors[29_000:31_000])
    content = bytearray(paths[1].read_bytes())
    content[-1] ^= 1
    paths[1].write_bytes(content)
    rows = ShardedRows(paths, expected="test/1")
    np.testing.assert_array_equal(rows[:30_000], vectors[:30_000])
    with pytest.raises(ValueError, match="1.safetensors is damaged .*fingerprint"):
        rows[29_999:30_001]
    save_file({"embeddings": vectors}, paths[0])
    with pytest.raises(ValueError, match="0.safetensors has format None"):
        ShardedRows(paths[:1], expected="test/1")[:1]
    assert ShardedRows(paths[:1])[:1].shape == (1, 2)  # files of other tools are read unchecked
    write_tensors(paths[0], {"embeddings": vectors[:0]}, {"format": "test/1"})
    assert len(ShardedRows(paths[:1], expected="test/1")) == 0


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(tmp_path, monkeypatch):
    """safetensors opens a file by its name more than once, so header and tensors may come from two files."""
    from onesearch.tokenization_sid import tensor_files

    path = tmp_path / "one.safetensors"
    write_tensors(path, {"codes": np.zeros((5, 3))}, {"format": "test/1"})
    opened, whole = [], tensor_files.safe_open

    def replaced(*arguments, **settings):
        opened.append(arguments)
        file = whole(*arguments, **settings)
        if len(opened) == 1:
            write_tensors(path, {"codes": np.ones((7, 3))}, {"format": "test/1"})
        return file

    monkeypatch.setattr(tensor_files, "safe_open", replaced)
    assert read_tensors(path, "test/1", "make it again").tensors["codes"].tolist() == np.ones((7, 3)).tolist()
    assert len(opened) == 2
