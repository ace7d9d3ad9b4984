"""Diagnostics, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from onesearch.tokenization_sid.diagnostics import diagnose


def test_every_number_by_hand():
    codes = np.array([[0, 0], [0, 0], [0, 1], [2, 1], [2, 1], [2, 1], [1, 0]])
    report = diagnose(codes, (4, 2))
    assert report == {
        "items": 7,
        "widths": [4, 2],
        "cur_per_prefix": [3 / 4, 4 / 8],
        "used_codes_per_level": [3, 2],
        "distinct_sids": 4,
        "icr_items": 2 / 7,  # the items at (0, 1) and (1, 0)
        "icr_sids": 2 / 4,
        "largest_bucket": 3,
    }


def test_the_error_is_the_mean_squared_distance():
    vectors, decoded = np.array([[1.0, 0.0], [0.0, 2.0]]), np.array([[0.0, 0.0], [1.0, 0.0]])
    assert diagnose(np.zeros((2, 1), dtype=int), (3,), vectors, decoded)["mse"] == pytest.approx((1 + 5) / 2)


def test_unique_sids():
    report = diagnose(np.array([[0], [1], [2]]), (3,))
    assert report["icr_items"] == report["icr_sids"] == report["cur_per_prefix"][0] == 1


def test_wide_sids_do_not_overflow():
    report = diagnose(np.zeros((2, 8), dtype=np.int32), (4096,) * 8)
    assert 0 < report["cur_per_prefix"][-1] < 1e-20
