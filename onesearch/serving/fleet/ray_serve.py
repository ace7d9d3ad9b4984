"""A Ray Serve deployment of the same service as `onesearch serve`: replicas of one checkpoint behind one address."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from onesearch.extras import require

from ..http.server_config import ServerConfig

ONGOING = 4
"""Batches of requests that a replica holds at most, one at work and the others waiting; our choice."""


class SearchReplica:
    """One replica: a model, its batcher and its catalogue. Ray Serve makes it.

    Args:
        checkpoint: folder of the checkpoint, on a disk that every machine reads.
        limits: fields of `ServerConfig`.
        settings: fields of `SearchConfig` that replace those of the checkpoint.
    """

    def __init__(self, checkpoint: str, limits: dict[str, Any], settings: dict[str, Any]) -> None:
        from ..http.served import load_served
        from ..http.service import SearchService

        config = ServerConfig(**limits)
        self.service = SearchService(load_served(Path(checkpoint), settings, config.batch_size), config)
        self.service.warm_up()
        self._started = False

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Take over a changed catalogue. Ray Serve calls this in every replica when ``user_config`` changes, without a restart.

        Args:
            user_config: any values; a new ``catalogue`` number, for example, makes all replicas read the catalogue again at once.
        """
        self._start()
        await self.service.refresh()

    async def search(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer a request of the endpoint ``/search``, for calls through a handle.

        Raises:
            ValueError: the body does not fit.
            BusyError: the queue of the replica is full.
        """
        from ..http.answers import found_answer, job_of
        from ..http.schemas import Search

        self._start()
        began = time.perf_counter()
        search = Search.model_validate(body)
        job, skipped = job_of(search, self.service)
        hits = await (self.service.text_search(job) if search.ranking == "text" else self.service.search(job))
        return found_answer(self.service, hits, skipped, began).model_dump()

    async def __call__(self, request: Any) -> Any:
        """Answer a request over HTTP: a POST with the body of the endpoint ``/search``."""
        from fastapi import HTTPException
        from pydantic import ValidationError
        from starlette.responses import JSONResponse

        from ..http.batcher import BusyError
        from ..http.errors import answer

        try:
            return JSONResponse(await self.search(await request.json()))
        except BusyError as error:
            return answer(503, str(error), headers={"Retry-After": str(error.retry_after)})
        except HTTPException as error:
            return answer(error.status_code, str(error.detail))
        except ValidationError as error:
            return answer(422, "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()))
        except (KeyError, ValueError, TypeError) as error:
            return answer(422, " ".join(str(error).split()))

    def _start(self) -> None:
        """Start the batcher in the event loop of the replica, once."""
        if not self._started:
            self._started = True
            self.service.start()


def search_application(
    checkpoint: str | Path,
    replicas: int | tuple[int, int] = 1,
    catalogue: int = 0,
    config: ServerConfig | None = None,
    **settings: Any,
) -> Any:
    """Make the application that `ray.serve.run` starts.

    Ray Serve sends a replica no more than ``max_ongoing_requests`` requests at a time. By default that is 5, so that a batch of 32 would
    never fill; here it is `ONGOING` batches. The autoscaler aims at half of that.

    Args:
        checkpoint: folder of the checkpoint, on a disk that every machine reads.
        replicas: number of replicas, or the least and the largest number, between which Ray Serve scales by the waiting requests.
        catalogue: number of the catalogue. Run the application again with another number, and all replicas read the catalogue again
            without a restart. They also look for changes every `ServerConfig.refresh_seconds`.
        config: limits of each replica.
        settings: fields of `SearchConfig` that replace those of the checkpoint.

    Raises:
        MissingExtraError: the extra ``ray`` or ``serve`` is not installed.
    """
    require("ray", needed_by="search_application")
    require("serve", needed_by="search_application")
    from ray import serve

    config = config or ServerConfig()
    ongoing = ONGOING * config.batch_size
    scaling: dict[str, Any] = {"num_replicas": replicas}
    if not isinstance(replicas, int):
        least, most = replicas
        scaling = {"autoscaling_config": {"min_replicas": least, "max_replicas": most, "target_ongoing_requests": ongoing // 2}}
    deployment = serve.deployment(name="search", max_ongoing_requests=ongoing, user_config={"catalogue": catalogue}, **scaling)
    return deployment(SearchReplica).bind(str(Path(checkpoint).resolve()), asdict(config), settings)


__all__ = ["SearchReplica", "search_application"]
