"""A limit on the size of request bodies, which holds before a body is in memory."""

from __future__ import annotations

import json

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class TooLargeError(HTTPException):
    """The body of a request is larger than the limit. As an HTTPException it passes through FastAPI's reading of bodies.

    Args:
        max_body: the limit in bytes.
    """

    def __init__(self, max_body: int) -> None:
        super().__init__(413, f"the body is larger than {max_body:,} bytes; send less at once")


class BodyLimit:
    """Answers requests whose body is too large with the status 413.

    Args:
        app: the application.
        max_body: largest size in bytes.
    """

    def __init__(self, app: ASGIApp, max_body: int) -> None:
        self.app, self.max_body = app, max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, as ASGI has it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not declared.isdigit() or int(declared[:18]) > self.max_body:
            await self._refuse(send)
            return
        size = 0

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.max_body:
                raise TooLargeError(self.max_body)
            return message

        await self.app(scope, counted, send)

    async def _refuse(self, send: Send) -> None:
        body = json.dumps({"error": {"message": TooLargeError(self.max_body).detail, "fields": []}}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": body})


__all__ = ["BodyLimit"]
