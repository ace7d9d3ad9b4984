"""Baselines of a run: their names, and features that know nothing of validation and test."""

from __future__ import annotations

import numpy as np
import pytest
from markets import market_of

from onesearch.data.market import Market
from onesearch.data.requests import Request
from onesearch.pipeline.baselines import behaviour_features, run_baselines
from onesearch.pipeline.recipe import EvaluationConfig

SESSIONS = [
    ("u", 1, "dress", [], ["a"]),
    ("v", 2, "dress", [], ["b"]),
    ("u", 3, "dress", [], ["b"]),
    ("v", 4, "dress", [], ["a"]),
    ("u", 5, "dress", ["a"], ["b"]),
    ("v", 6, "shoe", ["c"], ["d"]),
    ("w", 7, "shoe", [], ["c"]),  # a training session that is later than the test sessions
]


def embed(queries) -> np.ndarray:
    return np.ones((len(queries), 2), dtype=np.float32)


def test_features_know_training_sessions_only():
    def found(sessions) -> np.ndarray:
        features = behaviour_features(market_of(sessions, {"method": "leave_last_out"}), np.ones((6, 2)), embed)
        return features([Request("s", "u", "dress", ("a",)), Request("s", "v", "shoe")], np.array([[0, 1, 2], [3, -1, -1]]))

    changed = [(*part[:3], ["e"], ["f"]) if part[1] in (3, 4, 5, 6) else part for part in SESSIONS]
    assert np.array_equal(found(SESSIONS), found(changed))
    other = [(*part[:3], ["e"], ["f"]) if part[1] == 7 else part for part in SESSIONS]
    assert not np.array_equal(found(SESSIONS), found(other))


@pytest.mark.parametrize("split, boosted", [("test", ["cascade"]), ("validation", [])])
def test_the_boosted_cascade_is_not_measured_where_it_was_trained(run, split, boosted):
    market = Market.load(run.market)
    names = [retriever.name for retriever in run_baselines(run, market, EvaluationConfig(split=split, sasrec=False))]
    linear = ["bm25", "dense", "popularity", "popularity_in_category", "transitions", "cascade_linear"]
    assert names == [*linear, *boosted]
