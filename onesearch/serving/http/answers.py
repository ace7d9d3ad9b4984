"""Requests as jobs, and hits as answers."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fastapi import HTTPException

from onesearch.data.requests import UserContext
from onesearch.modeling_onesearch.hits_onesearch import Hit

from .schemas import Found, Search, User
from .search_jobs import SearchJob
from .service import SearchService


def job_of(body: Search, service: SearchService) -> tuple[SearchJob, list[str]]:
    """The job of a request, and the unknown items that it leaves out of the history.

    Raises:
        HTTPException: more beams than the server allows, or unknown items.
    """
    most = service.config.max_beams
    if body.num_beams is not None and body.num_beams > most:
        raise HTTPException(422, f"num_beams={body.num_beams} is more than this server allows; at most {most}")
    user, skipped = _user(body, service)
    changes = {"num_beams": body.num_beams, "exclude_history": body.exclude_history}
    categories = None if body.categories is None else tuple(body.categories)
    job = SearchJob(
        query=body.query,
        history=tuple(user.history),
        context=_context(user),
        config=service.settings(body.ranking, changes),
        top_k=body.top_k,
        explain=body.explain,
        exclude=tuple(body.exclude),
        categories=categories,
    )
    return job, skipped


def _user(body: User, service: SearchService) -> tuple[User, list[str]]:
    """The user without unknown items, and these items; HTTPException where they are refused."""
    unknown = service.unknown_items(list(dict.fromkeys([*body.history, *body.purchased])))
    if not unknown:
        return body, []
    if body.unknown_items == "refuse":
        raise HTTPException(
            422,
            f"{len(unknown)} items of history or purchases are not in the catalogue, the first is {unknown[0]!r}; leave them out, "
            "or set unknown_items to skip",
        )
    left = {name: [item for item in getattr(body, name) if item not in unknown] for name in ("history", "purchased")}
    return body.model_copy(update=left), unknown


def _context(user: User) -> UserContext:
    return UserContext(
        queries=tuple(user.queries),
        clicked=tuple(user.history),
        purchased=tuple(user.purchased),
        profile=tuple(user.profile),
    )


def found_answer(service: SearchService, hits: Sequence[Hit], skipped: list[str], began: float) -> Found:
    """The answer to a search.

    Args:
        service: knows the details of the items.
        hits: the hits.
        skipped: unknown items that were left out of the history.
        began: time at which the search began, of `time.perf_counter`.
    """
    details = service.details.of([hit.item_id for hit in hits])
    found = [
        {
            "rank": rank,
            "item_id": hit.item_id,
            "sid": list(hit.sid),
            "score": hit.score,
            "level_scores": hit.level_scores,
            "towers": hit.towers,
            **detail,
        }
        for rank, (hit, detail) in enumerate(zip(hits, details), start=1)
    ]
    return Found.model_validate(
        {"hits": found, "skipped": skipped, "seconds": time.perf_counter() - began, "revision": service.index.revision}
    )


__all__ = ["found_answer", "job_of"]
