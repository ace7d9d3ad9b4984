"""The report of a reward model: groups, the beam's recall and the logistic regression, on values worked by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from onesearch.data.requests import Request
from onesearch.modeling_onesearch.hits_onesearch import Hit
from onesearch.pipeline.reward_pairs import Pairs, _fit
from onesearch.pipeline.reward_report import COUNTS, RECALL_CUTOFFS, _band, beam_recall, report_table


def test_bands_hold_both_of_their_ends():
    assert [_band(count, COUNTS)[1] for count in (0, 1, 2, 3, 9, 10, 99)] == [
        "0",
        "1 to 2",
        "1 to 2",
        "3 to 9",
        "3 to 9",
        "10 or more",
        "10 or more",
    ]


def test_recall_counts_the_first_target():
    """Targets at places 10 and 60, from 1, and one that is not found."""
    lists = [[f"{place}" for place in range(1, 100)]] * 3
    deep = SimpleNamespace(hits=lambda requests, top_k: [[Hit(item, (0,), 0.0) for item in found] for found in lists])
    searcher = SimpleNamespace(arm=lambda name, **settings: deep)
    requests = [
        Request("a", "", "q", purchased=("10", "70")),
        Request("b", "", "q", clicked=("60",)),
        Request("c", "", "q", clicked=("x",)),
    ]
    found = beam_recall(searcher, requests)
    assert {name: own["value"] for name, own in found.items()} == pytest.approx(
        dict(zip([f"recall@{depth}" for depth in RECALL_CUTOFFS], (1 / 3, 1 / 3, 2 / 3, 2 / 3)))
    )


def test_the_logistic_regression_finds_the_rates():
    values = np.repeat([[0.0], [1.0]], 1000, axis=0)
    labels = np.concatenate([np.arange(1000) < 200, np.arange(1000) < 700])
    assert _fit(values, labels)(np.array([[0.0], [1.0]])) == pytest.approx([0.2, 0.7], abs=2e-3)


def test_the_cvr_tower_speaks_of_clicked_items_alone():
    clicked, purchased = np.array([True, True, False]), np.array([True, False, False])
    pairs = Pairs(np.zeros(3, int), np.arange(3), clicked, purchased, np.zeros((3, 1)), np.zeros((3, 3)))
    assert [pairs.of_tower(tower)[0].tolist() for tower in ("ctr", "cvr")] == [[True] * 3, [True, True, False]]
    assert pairs.of_tower("ctcvr")[1].tolist() == [True, False, False]


def test_the_table_shows_all_parts():
    estimate = {"value": 0.5, "low": 0.4, "high": 0.6}
    arms = {arm: {f"{metric}@10": estimate for metric in ("HR", "MRR", "NDCG")} for arm in ("generator", "reranked")}
    quality = {"auc": None, "log_loss": 0.25, "ece": 0.125, "rate": 0.5, "reliability": {}}
    table = report_table(
        {
            "requests": 3,
            "split": "test",
            "towers": {"notes": ["a note"], "quality": {"ctr": {"reward model": quality}}},
            "cohorts": {"length of the history": {"0": {"requests": 3, **arms}}},
            "beam_recall": {"recall@10": estimate},
        }
    )
    assert "| ctr | reward model | – | 0.2500 | 0.1250 | 0.5000 |" in table and "* a note" in table
    assert "| 0 | 3 | " + " | ".join(["0.500 [0.400, 0.600]"] * 6) + " |" in table
    assert table.count("0.500 [0.400, 0.600]") == 7
