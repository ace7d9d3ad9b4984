"""A server of the tiny run with a reward model, in this process and without a network."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import asynccontextmanager

import pytest

from onesearch.commands.serve import served_model
from onesearch.files import RunFolder

KEY = "0123456789abcdef-key"


@pytest.fixture(scope="session")
def served(rewarded):
    """Read only."""
    return served_model(rewarded.root, batch_size=8)


@pytest.fixture
def own_served(rewarded, tmp_path):
    """A server's model of a run of its own, which a test may change."""
    run = RunFolder(shutil.copytree(rewarded.root, tmp_path / "tiny"))
    return served_model(run.root, batch_size=8)


@pytest.fixture
def ask():
    """Runs a coroutine function with a client of an application that serves a model."""
    httpx = pytest.importorskip("httpx")
    from onesearch.serving.http.app import make_app
    from onesearch.serving.http.keys import ApiKeys
    from onesearch.serving.http.server_config import ServerConfig
    from onesearch.serving.http.service import SearchService

    @asynccontextmanager
    async def client(model, config, shoppers):
        service = SearchService(model, config)
        app = make_app(service, ApiKeys([KEY]), shoppers)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with app.router.lifespan_context(app):
            async with httpx.AsyncClient(transport=transport, base_url="http://server") as one:
                one.service, one.app = service, app
                yield one

    def run(model, talk, shoppers=0, **limits):
        async def main():
            async with client(model, ServerConfig(**limits), shoppers) as one:
                return await talk(one)

        return asyncio.run(main())

    return run
