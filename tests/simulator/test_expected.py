"""Expected purchases of rankings: the sum over the catalogue is what users buy, and no order changes what a list is worth."""

from __future__ import annotations

import numpy as np
import pytest

from onesearch.data.columns import session_entries
from onesearch.simulator import SimulatorConfig, build_world
from onesearch.simulator.click_model import fit_constants
from onesearch.simulator.config import ResolvedConfig
from onesearch.simulator.expected import expected_purchases
from onesearch.simulator.oracle import expected_chances
from onesearch.simulator.world import blocks_of

CONFIG = SimulatorConfig(items=120, sessions=1500, oracle_requests=0, judged_queries=0, seed=5)


@pytest.fixture(scope="module")
def config(market):
    return ResolvedConfig(**market.info["config"])


@pytest.mark.parametrize(("kind", "column"), [("purchase", "purchased"), ("click", "clicked")])
def test_the_whole_catalogue_is_worth_what_users_do(market, config, kind, column):
    sessions = np.arange(400)
    everything = [range(len(market.items))] * len(sessions)
    found = expected_purchases(config, sessions, {"all": everything}, kind)["all"]
    rows, _ = session_entries(market, column)
    happened = np.bincount(rows[rows < len(sessions)], minlength=len(sessions))
    assert found.mean() == pytest.approx(happened.mean(), abs=5 * happened.std() / np.sqrt(len(sessions)))
    assert np.corrcoef(found, happened)[0, 1] > 0.05


def test_a_list_is_worth_the_sum_of_its_items(market, config):
    sessions = np.arange(0, 120, 3)
    world = build_world(config)
    constants, random = fit_constants(world), world.config.stream("oracle", 2)
    chances = np.zeros((len(sessions), len(market.items)))
    for block in blocks_of(world, sessions):
        rows = np.searchsorted(sessions, block.sessions)
        chances[np.ix_(rows, block.items)] = expected_chances(world, constants, block, "purchase", random)
    best = np.argsort(-chances, axis=1)[:, :10]
    rankings = {"best": best.tolist(), "backwards": best[:, ::-1].tolist(), "none": [[]] * len(sessions)}
    found = expected_purchases(config, sessions, rankings)
    assert found["best"] == pytest.approx(np.take_along_axis(chances, best, 1).sum(1))
    assert found["backwards"] == pytest.approx(found["best"]) and not found["none"].any()


def test_every_session_needs_a_ranking(config):
    with pytest.raises(ValueError, match="'short' has 1 rankings for 2 sessions"):
        expected_purchases(config, np.arange(2), {"short": [[1]]})
