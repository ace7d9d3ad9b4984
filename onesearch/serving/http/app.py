"""The HTTP application: endpoints, limits, the search page, and the page of the API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

import onesearch

from .body_limit import BodyLimit
from .errors import add_error_handlers
from .keys import ApiKeys
from .measured import Measured
from .page_data import PageData
from .routes import router
from .service import SearchService

STATIC = Path(__file__).with_name("static")
"""Folder of the pages, which load nothing from other hosts but the pictures of items."""

DESCRIPTION = """Generative search: a query and a user's history become the Semantic IDs of items.

Changes of the catalogue and events need a key in the header `X-API-Key`. A busy server answers 503 with the header `Retry-After`.
"""


def make_app(service: SearchService, keys: ApiKeys | None = None, shoppers: int = 0) -> FastAPI:
    """Make the application of a service.

    Args:
        service: the service; it starts and ends with the application.
        keys: keys for changes; without any, every change is refused.
        shoppers: largest number of users that the search page shows with their histories.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.close()

    app = FastAPI(
        title="OneSearch",
        version=onesearch.__version__,
        description=DESCRIPTION,
        docs_url=None,  # FastAPI's own pages load scripts from another host
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service, app.state.keys = service, keys or ApiKeys()
    app.state.page_data = PageData(service, shoppers)
    add_error_handlers(app, service.metrics)

    app.include_router(router)
    for path, name in {"/": "search.html", "/docs": "api.html"}.items():
        app.add_api_route(path, _page(name), include_in_schema=False)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.add_middleware(BodyLimit, max_body=service.config.max_body)
    app.add_middleware(Measured, metrics=service.metrics)
    return app


def _page(name: str) -> Callable[[], FileResponse]:
    def page() -> FileResponse:
        return FileResponse(STATIC / name, headers={"Cache-Control": "no-cache"})

    return page


__all__ = ["make_app"]
