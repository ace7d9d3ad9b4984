"""Item ids by row and back, and tables on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from onesearch.modeling_onesearch import tables_onesearch as tables
from onesearch.modeling_onesearch.tables_onesearch import (
    ItemIds,
    content_fingerprint,
    packed_strings,
    read_metadata,
    read_tensors,
    unpacked_strings,
    write_tensors,
)

texts = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=1, max_size=30, unique=True)


# Item ids


@given(texts, st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=5))
def test_every_id_is_found_at_its_row_and_no_other_is(item_ids, others):
    ids = ItemIds.of(item_ids)
    assert len(ids) == len(item_ids) and [ids[row] for row in range(len(ids))] == item_ids
    asked = [*item_ids, *others, *item_ids[::-1]]
    expected = [item_ids.index(item_id) if item_id in item_ids else -1 for item_id in asked]
    for _ in range(2):  # the second time from memory
        assert ids.find(asked).tolist() == expected
    assert ids.find([]).shape == (0,) and ids.find(asked).dtype == np.int64


@given(item_ids=texts)
def test_ids_whose_hashes_collide_are_told_apart(item_ids):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_hashes", lambda data, ends: np.zeros(len(ends), np.int64))
        ids = ItemIds.of(item_ids)
        assert [ids[row] for row in range(len(ids))] == item_ids
        assert ids.find([*item_ids, "not there at all"]).tolist() == [*range(len(item_ids)), -1]
        assert ids.find(item_ids[::-1]).tolist() == list(range(len(item_ids)))[::-1]


def test_an_id_that_comes_twice_is_named(monkeypatch):
    for _ in range(2):
        with pytest.raises(ValueError, match="'schuh-ü' comes twice"):
            ItemIds.of(["a", "schuh-ü", "b", "", "schuh-ü"])
        with pytest.raises(ValueError, match="'' comes twice"):
            ItemIds.of(["a", "", "b", ""])
        monkeypatch.setattr(tables, "_hashes", lambda data, ends: np.zeros(len(ends), np.int64))  # the second time


@pytest.mark.parametrize("wrong", [7, b"a", None, ("a",), np.int64(3)])
def test_ids_that_are_no_text_are_refused(wrong):
    with pytest.raises(TypeError, match="must be text, got"):
        ItemIds.of(["a", wrong])
    with pytest.raises(TypeError, match="must be text, got"):
        ItemIds.of(["a", "b"]).find(["a", wrong])


def test_a_hundred_thousand_ids_are_found(monkeypatch):
    random = np.random.default_rng(0)
    numbers = np.unique(random.integers(0, 1 << 62, 100_000))
    item_ids = [f"{number:x}" + "é" * (number % 3) for number in random.permutation(numbers).tolist()]
    monkeypatch.setattr(tables, "CHUNK", 30_000)  # several chunks, the last one shorter
    ids = ItemIds.of(item_ids)
    assert len(np.unique(ids.hashes)) == len(item_ids)  # 64 bits: none alike
    order = random.permutation(len(item_ids))
    assert np.array_equal(ids.find([item_ids[row] for row in order]), order)
    assert (ids.find([item_id + "x" for item_id in item_ids[:1000]]) == -1).all()
    again = ItemIds(ids.data, ids.ends, ids.hashes, ids.rows)
    assert np.array_equal(again.find(item_ids[:1000]), np.arange(1000))


def test_the_hash_of_an_id_does_not_depend_on_its_company(monkeypatch):
    item_ids = ["", "a", "", "ab", "ba", "a" * 300, "ü", ""]
    together = tables._hashes(*tables._packed(item_ids))
    for chunk in (1, 2, 3, 100):
        monkeypatch.setattr(tables, "CHUNK", chunk)
        assert np.array_equal(tables._hashes(*tables._packed(item_ids)), together)
    assert [int(tables._hashes(*tables._packed([item_id]))[0]) for item_id in item_ids] == together.tolist()
    assert len(set(together.tolist())) == len(set(item_ids))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), max_size=9))
def test_strings_survive_packing(strings):
    assert unpacked_strings("names", packed_strings("names", strings)) == strings


# Files


def test_tensors_survive_their_file_and_stay_mapped(tmp_path):
    path = tmp_path / "some.safetensors"
    tensors = {"large": torch.arange(1 << 20), "empty": torch.zeros(0, dtype=torch.uint8), "marks": torch.tensor([True, False])}
    write_tensors(path, tensors, {"format": "some/1", "more": "ü"})
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    found, metadata = read_tensors(path, "some/1")
    assert metadata == read_metadata(path) == {"format": "some/1", "more": "ü"}
    assert all(torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in tensors.items())
    assert set(found) == set(tensors)
    assert lies_in(found["large"], path)
    path.unlink()
    assert torch.equal(found["large"], tensors["large"])


def lies_in(tensor, path):
    """Whether the tensor's memory is a mapping of the file."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, *_, name = line.split(maxsplit=5)
        start, stop = (int(number, 16) for number in span.split("-"))
        if name.strip() == str(path) and start <= tensor.data_ptr() < stop:
            return True
    return False


def test_a_damaged_or_foreign_file_is_named(tmp_path):
    path = tmp_path / "some.safetensors"
    write_tensors(path, {"a": torch.arange(9)}, {"format": "some/1"})
    whole = path.read_bytes()
    for size in (0, 5, 20, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="some.safetensors.*damaged"):
            read_tensors(path, "some/1")
        assert read_metadata(path) == {}
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="some.safetensors has format 'some/1', expected 'some/2'"):
        read_tensors(path, "some/2")
    save_file({"a": np.zeros(3)}, path)
    with pytest.raises(ValueError, match="format None"):
        read_tensors(path, "some/1")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "some.safetensors"
    write_tensors(path, {"a": torch.arange(9)}, {"format": "some/1"})
    shared = torch.arange(9)
    with pytest.raises((RuntimeError, ValueError)):
        write_tensors(path, {"a": shared, "b": shared}, {"format": "some/1"})  # safetensors refuses shared memory
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert read_tensors(path, "some/1")[0]["a"].tolist() == list(range(9))


@settings(max_examples=30)
@given(st.permutations(["a", "b", "c"]))
def test_the_digest_is_of_names_types_and_values_in_any_order(order):
    tensors = {"a": torch.arange(4), "b": torch.zeros(4, dtype=torch.uint8), "c": torch.zeros(0, 2)}
    fingerprint = content_fingerprint(tensors)
    assert content_fingerprint({name: tensors[name] for name in order}) == fingerprint
    changes = [{"a": torch.arange(4).int()}, {"a": torch.tensor([0, 1, 2, 4])}, {"b": torch.zeros(2, 2, dtype=torch.uint8)}]
    changes += [{"d": torch.arange(1)}, {"c": torch.zeros(2, 0)}]
    assert fingerprint not in {content_fingerprint({**tensors, **change}) for change in changes}
