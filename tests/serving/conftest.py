"""The searcher of the tiny run with a reward model and a text index, which the tests of re-ranking and of text recall share."""

from __future__ import annotations

import pytest

from onesearch import Searcher


@pytest.fixture(scope="session")
def reward_searcher(rewarded):
    """Read only."""
    return Searcher.from_pretrained(rewarded.checkpoint)
