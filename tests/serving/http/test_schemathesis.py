"""Random requests to every endpoint that openapi.json names: none is answered with a fault of the server."""

from __future__ import annotations

import shutil

import pytest
from server_process import KEY, server

pytestmark = pytest.mark.slow

schemathesis = pytest.importorskip("schemathesis")

EXAMPLES = 60
"""Requests per endpoint."""


def statuses_of(strategy):
    """Number of answers of each status to random requests."""
    from hypothesis import HealthCheck, Phase, given, settings

    seen = {}

    @given(case=strategy)
    @settings(max_examples=EXAMPLES, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    def ask(case):
        status = case.call(headers={"X-API-Key": KEY}, timeout=120).status_code
        seen[status] = seen.get(status, 0) + 1

    ask()
    return seen


def test_no_request_makes_the_server_fail(rewarded, tmp_path):
    run = shutil.copytree(rewarded.root, tmp_path / "tiny")
    statuses = {}
    with server(run, "--shoppers", "2") as (process, address):
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
        operations = [result.ok() for result in schema.get_all_operations()]
        assert len(operations) == 10
        for operation in operations:
            wrong = operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
            statuses[operation.label] = statuses_of(operation.as_strategy() | wrong)
        assert process.poll() is None
    print(statuses)
    assert all(status not in range(500, 503) for seen in statuses.values() for status in seen), statuses
    assert all(200 in statuses[f"POST {path}"] for path in ("/search", "/events")), statuses
