"""Which interactions are learned from, and how much each counts."""

from __future__ import annotations

import numpy as np
import pytest

from onesearch.data.columns import session_entries
from onesearch.data.requests import request_rows
from onesearch.trainers.unisearch.interactions import accepted_interactions
from onesearch.trainers.unisearch.unisearch_config import UniSearchTrainingConfig


def pairs(market, column):
    sessions, items = session_entries(market, column)
    wanted = np.isin(sessions, request_rows(market, "train"))
    return set(zip(sessions[wanted].tolist(), items[wanted].tolist()))


def test_purchases_are_kept_and_passed_over_clicks_dropped(market):
    found = accepted_interactions(market, UniSearchTrainingConfig(interactions={"clicked": 0.3, "purchased": 1.0}))
    kept = dict(zip(zip(found.sessions.tolist(), found.items.tolist()), found.weights.tolist()))
    clicked, bought = pairs(market, "clicked"), pairs(market, "purchased")
    sessions_with_purchase = {session for session, _ in bought}
    lonely = {pair for pair in clicked - bought if pair[0] not in sessions_with_purchase}
    assert set(kept) == bought | lonely and bought and lonely
    assert found.dropped == len(clicked - bought - lonely) > 0
    assert found.weights.mean() == pytest.approx(1, abs=1e-5)
    ratio = {round(kept[pair], 5) for pair in lonely}, {round(kept[pair], 5) for pair in bought}
    assert len(ratio[0]) == len(ratio[1]) == 1
    assert ratio[0].pop() / ratio[1].pop() == pytest.approx(0.3, rel=1e-3)


def test_a_threshold_above_all_qualities_is_an_error(market):
    config = UniSearchTrainingConfig(interactions={"clicked": 0.3}, least_quality=0.9)
    with pytest.raises(ValueError, match="least_quality"):
        accepted_interactions(market, config)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"codebook_sizes": [8, 1]}, "codebook_sizes"),
        ({"interactions": {"seen": 1.0}}, "seen"),
        ({"temperature": 0}, "temperature"),
        ({"warm_up": 0.5, "freeze": 0.4}, "warm_up"),
        ({"two_stage": True}, "freeze"),
        ({"momentum": 1.0}, "momentum"),
        ({"codebook_start": "zeros"}, "codebook_start"),
        ({"refresh_steps": 0}, "refresh_steps"),
        ({"least_quality": -0.1}, "least_quality"),
    ],
)
def test_settings_that_are_refused(changes, word):
    with pytest.raises(ValueError, match=word):
        UniSearchTrainingConfig(**changes)


def test_codebook_sizes_follow_the_catalogue():
    config = UniSearchTrainingConfig()
    assert [config.sizes_for(items)[0] for items in (50, 2000, 12000, 10**6)] == [16, 64, 128, 1024]
    assert UniSearchTrainingConfig(codebook_sizes=[8, 4]).sizes_for(10**6) == (8, 4)
