"""AUC, log loss and calibration on cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from onesearch.evaluation.calibration import auc, log_loss, quality, reliability


def test_auc_counts_pairs_in_the_right_order_and_ties_by_half():
    # Of the 2 × 3 pairs: 0.9 beats all three; 0.4 beats 0.1, ties with 0.4 and loses to 0.8.
    labels = np.array([1, 1, 0, 0, 0])
    assert auc(np.array([0.9, 0.4, 0.1, 0.4, 0.8]), labels) == pytest.approx((3 + 1.5) / 6)
    assert auc(np.array([5.0, 4.0, 3.0, 2.0, 1.0]), labels) == 1.0 and auc(np.zeros(5), labels) == 0.5
    assert auc(np.array([0.3, 0.2]), np.array([1, 1])) is None


def test_log_loss_is_the_mean_surprise():
    expected = -(np.log(0.8) + np.log(1 - 0.25) + np.log(0.5)) / 3
    assert log_loss(np.array([0.8, 0.25, 0.5]), np.array([1, 0, 1])) == pytest.approx(expected)
    assert np.isfinite(log_loss(np.array([0.0, 1.0]), np.array([1, 0])))


def test_reliability_compares_the_rates_of_equally_large_bins():
    chances, labels = np.array([0.9, 0.1, 0.7, 0.3]), np.array([1, 0, 0, 1])
    curve = reliability(chances, labels, bins=2)
    assert curve.predicted == pytest.approx([0.2, 0.8]) and curve.observed == pytest.approx([0.5, 0.5])
    assert curve.counts.tolist() == [2, 2] and curve.error == pytest.approx(0.3)
    assert reliability(chances[:1], labels[:1], bins=5).counts.tolist() == [1]


def test_quality_holds_all_of_them():
    found = quality(np.array([0.9, 0.1, 0.7, 0.3]), np.array([1, 0, 0, 1]), bins=2)
    assert found["auc"] == 0.75 and found["ece"] == pytest.approx(0.3) and found["rate"] == 0.5
    assert found["reliability"]["counts"] == [2, 2]
