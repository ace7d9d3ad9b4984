"""Random requests to every endpoint that openapi.json names: none is answered with a fault of the server."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow

schemathesis = pytest.importorskip("schemathesis")

EXAMPLES = 60
"""Requests per endpoint."""


def test_no_request_makes_the_server_fail(own_served):
    from hypothesis import HealthCheck, Phase, given, settings
    from starlette.testclient import TestClient

    from onesearch.serving.http.app import make_app
    from onesearch.serving.http.keys import ApiKeys
    from onesearch.serving.http.server_config import ServerConfig
    from onesearch.serving.http.service import SearchService

    key = "0123456789abcdef-key"
    app = make_app(SearchService(own_served, ServerConfig()), ApiKeys([key]), shoppers=2)
    statuses = {}
    with TestClient(app, raise_server_exceptions=False):
        schema = schemathesis.openapi.from_asgi("/openapi.json", app)
        operations = [result.ok() for result in schema.get_all_operations()]
        assert len(operations) == 10
        for operation in operations:
            strategy = operation.as_strategy() | operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)
            seen = statuses.setdefault(operation.label, {})

            @given(case=strategy)
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def check(case, seen=seen):
                status = case.call(headers={"X-API-Key": key}).status_code
                seen[status] = seen.get(status, 0) + 1

            check()
    print(statuses)
    assert all(status < 500 for seen in statuses.values() for status in seen), statuses
    assert all(200 in statuses[f"POST {path}"] for path in ("/search", "/events")), statuses
