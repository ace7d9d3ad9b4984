"""The number format that a search runs in."""

from __future__ import annotations

import pytest
import torch

from onesearch import Searcher
from onesearch.serving import precision


@pytest.mark.parametrize(("seconds", "expected"), [(0.5, torch.bfloat16), (0.6, torch.float32), (3.0, torch.float32)])
def test_bfloat16_is_taken_where_it_multiplies_much_faster(monkeypatch, seconds, expected):
    times = {torch.float32: 1.0, torch.bfloat16: seconds}
    monkeypatch.setattr(precision, "product_seconds", lambda dtype, width: times[dtype])
    assert precision.fastest_dtype(64) is expected


def test_the_measurement_is_a_time_of_one_product():
    small, large = (precision.product_seconds(torch.float32, width) for width in (8, 512))
    assert 0 < small < large < 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_searcher_runs_in_the_fastest_format(shared_run, shared_searcher, monkeypatch, dtype):
    monkeypatch.setattr(precision, "fastest_dtype", lambda width: dtype)
    searcher = Searcher.from_pretrained(shared_run.checkpoint, dtype="fastest")
    assert searcher.model.dtype is dtype
    found = [hit.item_id for hit in searcher.search("red shoe")]
    expected = [hit.item_id for hit in shared_searcher.search("red shoe")]
    assert len(found) == len(expected) == 10 and searcher.index.contains(found).all()
    assert found == expected if dtype is torch.float32 else len(set(found) & set(expected)) >= 5
