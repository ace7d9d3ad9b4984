"""Metrics against values computed by hand, against ir-measures, and against invariants of any ranking."""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import RR, R, Success, nDCG

from onesearch.evaluation.metrics import (
    METRICS,
    all_metrics,
    bootstrap_interval,
    gain_table,
    hit_rate,
    mrr,
    ndcg,
    paired_bootstrap,
    recall,
)

CATALOGUE = [f"item{i}" for i in range(30)]


def test_hand_computed_values():
    table = gain_table([["a", "b", "c", "d"], ["x", "y"], []], [{"b": 1, "d": 1, "z": 1}, {"q": 1}, {"q": 1}], depth=4)
    assert hit_rate(table, 1).tolist() == [0, 0, 0]
    assert hit_rate(table, 2).tolist() == [1, 0, 0]
    assert recall(table, 4).tolist() == pytest.approx([2 / 3, 0, 0])
    assert mrr(table, 4).tolist() == [0.5, 0, 0]
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert ndcg(table, 4)[0] == pytest.approx((1 / np.log2(3) + 1 / np.log2(5)) / ideal)


def test_recall_is_not_hit_rate_with_several_positives():
    table = gain_table([["a", "b"]], [{"a": 1, "y": 1}], depth=2)
    assert (hit_rate(table, 2)[0], recall(table, 2)[0]) == (1, 0.5)


def test_graded_gains_are_linear():
    table = gain_table([["low", "high"]], [{"low": 1, "high": 3, "zero": 0}], depth=2)
    assert ndcg(table, 2)[0] == pytest.approx((1 + 3 / np.log2(3)) / (3 + 1 / np.log2(3)))
    assert recall(table, 2)[0] == 1


@pytest.mark.parametrize("gains", [{}, {"a": 0}, {"a": 1, "b": -1}])
def test_a_request_without_sound_gains_raises(gains):
    with pytest.raises(ValueError, match="gains of request 0"):
        gain_table([["a"]], [gains], depth=1)


def test_lengths_cutoffs_and_names_are_checked():
    with pytest.raises(ValueError, match="1 rankings for 2 requests"):
        gain_table([["a"]], [{"a": 1}, {"b": 1}], depth=1)
    with pytest.raises(ValueError, match=r"cutoff 5 is outside 1\.\.2"):
        hit_rate(gain_table([["a"]], [{"a": 1}], depth=2), 5)
    with pytest.raises(ValueError, match="'F1'"):
        all_metrics(gain_table([["a"]], [{"a": 1}], depth=2), (1,), ("F1",))


judged_request = st.tuples(
    st.lists(st.sampled_from(CATALOGUE), unique=True, max_size=20),
    st.dictionaries(st.sampled_from(CATALOGUE), st.integers(0, 3), min_size=1, max_size=12).filter(
        lambda g: max(g.values()) > 0
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(judged_request, min_size=1, max_size=5))
def test_every_metric_equals_ir_measures(requests):
    rankings, gains = zip(*requests)
    ours = all_metrics(gain_table(rankings, gains, 10), (1, 5, 10))
    qrels = [ir_measures.Qrel(str(q), item, grade) for q, of_item in enumerate(gains) for item, grade in of_item.items()]
    run = [
        ir_measures.ScoredDoc(str(q), item, -float(rank))
        for q, ranked in enumerate(rankings)
        for rank, item in enumerate(ranked)
    ]
    theirs = {"HR": Success, "Recall": R, "MRR": RR, "NDCG": nDCG}
    measures = {theirs[name] @ k: f"{name}@{k}" for name in METRICS for k in (1, 5, 10)}
    # ir-measures leaves out queries without any retrieved item; the metrics here must be 0 for them.
    expected = {name: np.zeros(len(requests)) for name in ours}
    if run:
        for metric in ir_measures.iter_calc(list(measures), qrels, run):
            expected[measures[metric.measure]][int(metric.query_id)] = metric.value
    for name, values in ours.items():
        assert values == pytest.approx(expected[name], abs=1e-6), name


@settings(max_examples=60, deadline=None)
@given(judged_request, st.randoms())
def test_what_holds_for_any_ranking(request_, random):
    ranking, gains = request_
    values = all_metrics(gain_table([ranking], [gains], 20), (5, 20))
    assert all(0 <= value[0] <= 1 + 1e-9 for value in values.values())
    for name in ("HR", "Recall", "MRR"):
        assert values[f"{name}@5"][0] <= values[f"{name}@20"][0]
    for k in (5, 20):
        assert values[f"Recall@{k}"][0] <= values[f"HR@{k}"][0]
        assert values[f"MRR@{k}"][0] <= values[f"HR@{k}"][0]
    best = sorted(gains, key=gains.get, reverse=True)
    assert all_metrics(gain_table([best], [gains], 20), (20,), ("NDCG",))["NDCG@20"][0] == pytest.approx(1)
    padded = ranking + ["unjudged"]
    assert all_metrics(gain_table([padded], [gains], 21), (20,))["Recall@20"] == values["Recall@20"]


def test_bootstrap_is_deterministic_and_columns_share_the_draws():
    values = np.random.default_rng(0).random((300, 2))
    low, high = bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values[:, 1], seed=3) == pytest.approx((low[1], high[1]))
    assert bootstrap_interval(values[:, 1], seed=4) != bootstrap_interval(values[:, 1], seed=3)
    assert (low < values.mean(axis=0)).all() and (values.mean(axis=0) < high).all()


def test_bootstrap_covers_the_true_mean_about_95_times_in_100():
    rng = np.random.default_rng(0)
    truth, trials = 0.3, 300
    intervals = [
        bootstrap_interval((rng.random(200) < truth).astype(float), samples=300, seed=trial) for trial in range(trials)
    ]
    covered = sum(low <= truth <= high for low, high in intervals)
    assert 0.90 < covered / trials < 0.99
    width = np.mean([high - low for low, high in intervals])
    assert width == pytest.approx(2 * 1.96 * np.sqrt(truth * (1 - truth) / 200), rel=0.1)


def test_bootstrap_of_many_requests_is_chunked():
    values = (np.arange(2_100_000) % 2).astype(float)
    low, high = bootstrap_interval(values, samples=3)
    assert 0.49 < low <= high < 0.51


def test_paired_bootstrap_sees_a_small_constant_difference():
    rng = np.random.default_rng(0)
    b = rng.random(400)
    a = b + 0.01 + rng.normal(0, 0.02, 400)
    difference, low, high = paired_bootstrap(a, b)
    assert difference == pytest.approx((a - b).mean()) and 0 < low < difference < high
    unpaired = bootstrap_interval(a)
    assert high - low < (unpaired[1] - unpaired[0]) / 5
    assert paired_bootstrap(b, b) == (0, 0, 0)


@pytest.mark.parametrize("values", [np.zeros(0), np.array([0.1, np.nan]), np.zeros((2, 2, 2))])
def test_bootstrap_rejects_what_it_cannot_resample(values):
    with pytest.raises(ValueError, match="bootstrap needs"):
        bootstrap_interval(values)


def test_bootstrap_rejects_bad_arguments():
    with pytest.raises(ValueError, match="level=95"):
        bootstrap_interval(np.ones(3), level=95)
    with pytest.raises(ValueError, match="same requests"):
        paired_bootstrap(np.ones(3), np.ones(4))
