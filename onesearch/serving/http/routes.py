"""The endpoints of the server."""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from starlette.responses import FileResponse, Response

import onesearch

from .answers import found_answer, job_of
from .catalogue_writer import CatalogueWriter
from .errors import refused
from .keys import ApiKeys
from .page_data import PageData
from .schemas import MOST_ITEMS, Changed, Error, Events, Explain, Found, Health, ItemId, NewItems, Recorded, Search
from .service import SearchService, now

router = APIRouter(
    responses={
        422: {"model": Error, "description": "The request does not fit; the message says what is allowed."},
        503: {"model": Error, "description": "The server is busy; ask again after the seconds of the header Retry-After."},
    }
)

EXPLAINED = 50
"""Least number of hits within which an explanation looks for the rank of an item."""


def service_of(request: Request) -> SearchService:
    """The service that an application serves."""
    return request.app.state.service


def require_key(request: Request) -> None:
    """Refuse a request without a valid key in the header ``X-API-Key``."""
    keys: ApiKeys = request.app.state.keys
    if not len(keys):
        raise HTTPException(403, "this server takes no changes: it was started without API keys (--keys, ONESEARCH_API_KEYS)")
    if not keys.accepts(request.headers.get("x-api-key", "")):
        raise HTTPException(401, "the header X-API-Key is missing or holds no key of this server")


Service = Annotated[SearchService, Depends(service_of)]
CHANGES: dict[int | str, dict[str, Any]] = {
    401: {"model": Error},
    403: {"model": Error},
    501: {"model": Error},
    507: {"model": Error},
}


@router.post("/search", tags=["search"])
async def search(body: Search, service: Service) -> Found:
    """Find items for a query."""
    began = time.perf_counter()
    job, skipped = job_of(body, service)
    try:
        hits = await (service.text_search(job) if body.ranking == "text" else service.search(job))
    except (KeyError, ValueError, TypeError) as error:
        raise refused(error) from error
    return found_answer(service, hits, skipped, began)


@router.post("/explain", tags=["search"], responses={404: {"model": Error}})
async def explain(body: Explain, service: Service) -> dict[str, Any]:
    """Tell why an item has its rank: the probability and the meaning of each code, the reward model's towers, and other rankings."""
    if service.unknown_items([body.item_id]):
        raise HTTPException(404, "the item is not in the catalogue")
    job, skipped = job_of(body.model_copy(update={"top_k": max(body.top_k, EXPLAINED), "explain": True}), service)
    try:
        found = await service.explain(job, body.item_id)
    except (KeyError, ValueError, TypeError) as error:
        raise refused(error) from error
    return {**found, **service.details.of([body.item_id])[0], "skipped": skipped}


@router.post("/items", tags=["catalogue"], dependencies=[Depends(require_key)], responses=CHANGES)
async def add_items(body: NewItems, service: Service) -> Changed:
    """Add items. The next search finds them, and published Semantic IDs stay as they are."""
    rows = [item.model_dump(exclude_none=True) for item in body.items]
    return await _changed(service, _writer(service).add, rows, body.known)


@router.delete("/items", tags=["catalogue"], dependencies=[Depends(require_key)], responses=CHANGES)
async def remove_items(
    service: Service,
    item_id: Annotated[list[ItemId], Query(min_length=1, max_length=MOST_ITEMS, description="Items to remove.")],
    unknown: Annotated[str, Query(pattern="^(raise|skip)$", description="Unknown items: refuse, or leave out.")] = "raise",
) -> Changed:
    """Remove items. The next search does not find them."""
    return await _changed(service, _writer(service).remove, item_id, unknown)


@router.post("/events", tags=["events"], dependencies=[Depends(require_key)], responses=CHANGES)
async def events(body: Events, service: Service) -> Recorded:
    """Record clicks and purchases. They are on the disk when the answer comes."""
    rows = []
    for session in body.sessions:
        row = session.model_dump()
        row["time"] = now() if row["time"] is None else row["time"]
        row["session_id"] = row["session_id"] or f"live-{uuid.uuid4().hex}"
        rows.append(row)
    await service.record(rows)
    return Recorded(recorded=len(rows))


@router.get("/health", tags=["server"])
async def health(service: Service) -> Health:
    """Tell that the server searches."""
    return Health(
        status="ok",
        version=onesearch.__version__,
        items=len(service.index),
        revision=service.index.revision,
        waiting=len(service.batcher.queue),
        running=service.batcher.running,
    )


@router.get("/metrics", tags=["server"])
async def metrics(service: Service) -> Response:
    """Measurements for Prometheus."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/catalogue", tags=["page"])
def catalogue(request: Request) -> dict[str, Any]:
    """What the search page shows of the catalogue: name, categories, rankings, and queries to try."""
    data: PageData = request.app.state.page_data
    return data.catalogue()


@router.get("/shoppers", tags=["page"])
def shoppers(request: Request) -> dict[str, Any]:
    """Users of the market that the search page offers, with their histories; none unless the server was started to show them."""
    data: PageData = request.app.state.page_data
    return {"shoppers": data.shoppers}


@router.get("/pictures/{item_id}", tags=["page"], responses={404: {"model": Error}})
def picture(item_id: str, service: Service) -> FileResponse:
    """The picture of an item, if it is a file of the market."""
    path = service.details.picture(item_id)
    if path is None:
        raise HTTPException(404, "this item has no picture file")
    return FileResponse(path)


def _writer(service: SearchService) -> CatalogueWriter:
    if service.model.writer is None:
        raise HTTPException(403, "this server takes no changes of the catalogue")
    return service.model.writer


async def _changed(service: SearchService, *change: Any) -> Changed:
    try:
        await service.change(*change)
    except (KeyError, ValueError, TypeError) as error:
        raise refused(error) from error
    return Changed(items=len(service.index), revision=service.index.revision)


__all__ = ["router"]
