"""The optimal predictor of shown items: its rates are those of the sessions, and it orders them better than any single feature."""

from __future__ import annotations

import numpy as np
import pytest

from onesearch.data.columns import session_entries
from onesearch.evaluation.calibration import auc
from onesearch.simulator import SimulatorConfig, build_world
from onesearch.simulator.click_model import fit_constants
from onesearch.simulator.oracle import shown_chances

CONFIG = SimulatorConfig(items=120, sessions=1500, oracle_requests=0, judged_queries=0, seed=5)


@pytest.fixture(scope="module")
def world():
    return build_world(CONFIG.resolved())


@pytest.fixture(scope="module")
def pairs(market):
    sessions, items = session_entries(market, "impressed")
    kept = sessions < 700
    keys = {name: np.stack(session_entries(market, name)) for name in ("clicked", "purchased")}
    of_pair = sessions * len(market.items) + items
    labels = [np.isin(of_pair, found[0] * len(market.items) + found[1])[kept] for found in keys.values()]
    return sessions[kept], items[kept], labels


def test_the_chances_are_those_of_the_log(world, pairs):
    sessions, items, (clicked, purchased) = pairs
    chances = shown_chances(world, fit_constants(world), sessions, items)
    assert (chances.purchase <= chances.click + 1e-9).all() and 0 < chances.click.min() and chances.click.max() <= 1
    for found, labels in ((chances.click, clicked), (chances.purchase, purchased)):
        deviation = np.sqrt(labels.mean() / len(labels))
        assert found.mean() == pytest.approx(labels.mean(), abs=5 * deviation)
        likely = found > np.quantile(found, 0.8)  # true for likely pairs alone, too: they are calibrated
        assert found[likely].mean() == pytest.approx(
            labels[likely].mean(), abs=5 * np.sqrt(labels[likely].mean() / likely.sum())
        )
        popularity = world.catalogue.log_popularity[items]
        assert auc(found, labels) > auc(popularity, labels) + 0.05


def test_an_item_that_is_never_listed_is_refused(world):
    scope = world.intents.scopes[0]
    other = int(np.flatnonzero(world.catalogue.leaves != scope)[0])
    with pytest.raises(ValueError, match=f"item {other} is never listed in session 0"):
        shown_chances(world, fit_constants(world), np.array([0]), np.array([other]))
