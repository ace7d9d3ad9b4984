"""Errors as answers: one JSON shape for all, a status for each cause, and no text of the request in them."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from onesearch.extras import MissingExtraError

from .batcher import BusyError
from .metrics import ServerMetrics

logger = logging.getLogger(__name__)

LOCKED_RETRY = 5
"""Seconds after which a change may be tried again while another command writes into the run."""


def answer(
    status: int, message: str, fields: list[dict[str, str]] | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """An error as JSON in plain ASCII, so that every text can be sent."""
    body = json.dumps({"error": {"message": message, "fields": fields or []}})
    return Response(body, status, dict(headers or {}), media_type="application/json")


def add_error_handlers(app: FastAPI, metrics: ServerMetrics) -> None:
    """Let an application answer every error in this shape."""

    async def busy(request: Request, error: Exception) -> Response:
        assert isinstance(error, BusyError)
        metrics.refused.labels(error.reason).inc()
        return answer(503, str(error), headers={"Retry-After": str(error.retry_after)})

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        fields = [_field(problem) for problem in error.errors()]
        return answer(422, f"{len(fields)} fields do not fit; see fields", fields)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return answer(error.status_code, str(error.detail), headers=error.headers)

    async def locked(request: Request, error: Exception) -> Response:
        return answer(503, _text(error), headers={"Retry-After": str(LOCKED_RETRY)})

    async def missing(request: Request, error: Exception) -> Response:
        return answer(501, _text(error))

    async def unwritable(request: Request, error: Exception) -> Response:
        return answer(507, f"the files cannot be read or written: {_text(error)}")

    async def unknown(request: Request, error: Exception) -> Response:
        logger.error("a request failed: %s %s", request.method, request.url.path, exc_info=error)
        return answer(500, "the server failed; its log holds the cause")

    handlers: list[tuple[type[Exception], Callable[[Request, Exception], Awaitable[Response]]]] = [
        (BusyError, busy),
        (RequestValidationError, invalid),
        (HTTPException, http),
        (MissingExtraError, missing),
        (BlockingIOError, locked),
        (TimeoutError, locked),
        (OSError, unwritable),
        (Exception, unknown),
    ]
    for kind, handler in handlers:
        app.add_exception_handler(kind, handler)


def refused(error: Exception) -> HTTPException:
    """The answer to a request that the search refuses: its message says what is allowed."""
    return HTTPException(422, _text(error))


def _text(error: BaseException) -> str:
    """The message of an error in one line."""
    message: Any = error.args[0] if isinstance(error, KeyError) and error.args else error
    return " ".join(str(message).split())


def _field(problem: Any) -> dict[str, str]:
    where = ".".join(str(part) for part in problem["loc"] if part != "body")
    return {"where": where or "body", "message": problem["msg"]}


__all__ = ["add_error_handlers", "answer", "refused"]
