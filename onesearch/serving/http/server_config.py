"""Limits of the HTTP server."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServerConfig:
    """Limits of the HTTP server. All values are our choice; the papers give none.

    Args:
        batch_size: largest number of requests that the model searches at once. A larger batch raises the throughput under load, and the
            time that a request waits for the others of its batch.
        batch_wait: seconds that the server waits for further requests before it searches a batch that is not full. 0 searches what has
            arrived while the model was at work, which costs a lone request nothing.
        queue_size: largest number of waiting requests. A request that finds the queue full gets the status 503 at once, with the header
            ``Retry-After``. A longer queue refuses fewer requests and lets them wait longer.
        timeout: seconds after which a request that has no hits yet gets the status 503.
        max_body: largest size of a request's body in bytes; a larger one gets the status 413.
        max_beams: largest number of beams that a request may ask for.
        refresh_seconds: seconds between two looks for a catalogue that another process has changed.
        grace: seconds that a server that is stopped gives to the requests at work.

    Raises:
        ValueError: a value is out of range.
    """

    batch_size: int = 32
    batch_wait: float = 0.0
    queue_size: int = 256
    timeout: float = 10.0
    max_body: int = 4 << 20
    max_beams: int = 512
    refresh_seconds: float = 0.5
    grace: float = 30.0

    def __post_init__(self) -> None:
        for name in ("batch_size", "queue_size", "max_body", "max_beams"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("timeout", "refresh_seconds", "grace"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")
        if not self.batch_wait >= 0:
            raise ValueError(f"batch_wait={self.batch_wait} must be at least 0")


__all__ = ["ServerConfig"]
