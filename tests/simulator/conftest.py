"""The market that a test module's own `CONFIG` describes, simulated once per module."""

from __future__ import annotations

import pytest

from onesearch.data.market import Market
from onesearch.simulator import simulate


@pytest.fixture(scope="module")
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated") / "market"
    simulate(request.module.CONFIG, folder)
    return folder


@pytest.fixture(scope="module")
def market(folder):
    return Market.load(folder)
