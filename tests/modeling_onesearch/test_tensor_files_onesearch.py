"""Safetensors files: whole or not there, mapped, and refused when damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from onesearch.modeling_onesearch.tensor_files_onesearch import (
    content_fingerprint,
    read_metadata,
    read_tensors,
    write_tensors,
)


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
def test_the_fingerprint_is_of_names_types_and_values_in_any_order(order):
    tensors = {"a": torch.arange(4), "b": torch.zeros(4, dtype=torch.uint8), "c": torch.zeros(0, 2)}
    fingerprint = content_fingerprint(tensors)
    assert content_fingerprint({name: tensors[name] for name in order}) == fingerprint
    changes = [{"a": torch.arange(4).int()}, {"a": torch.tensor([0, 1, 2, 4])}, {"b": torch.zeros(2, 2, dtype=torch.uint8)}]
    changes += [{"d": torch.arange(1)}, {"c": torch.zeros(2, 0)}]
    assert fingerprint not in {content_fingerprint({**tensors, **change}) for change in changes}
