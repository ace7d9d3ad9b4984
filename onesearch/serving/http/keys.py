"""API keys: only who knows one may change the catalogue or write events."""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

VARIABLE = "ONESEARCH_API_KEYS"
"""Environment variable with the keys, separated by commas."""

SHORTEST = 16
"""Least number of characters of a key; our choice."""


class ApiKeys:
    """The keys of a server, kept as hashes.

    Args:
        keys: the keys; without any, every write is refused.

    Raises:
        ValueError: a key has fewer than `SHORTEST` characters.
    """

    def __init__(self, keys: Iterable[str] = ()) -> None:
        keys = list(keys)
        if any(len(key) < SHORTEST for key in keys):
            raise ValueError(f"an API key has fewer than {SHORTEST} characters; make one with `openssl rand -hex 24`")
        self._hashes = [_hash(key) for key in keys]

    @classmethod
    def load(cls, path: Path | None, environment: Mapping[str, str] = os.environ) -> ApiKeys:
        """Read the keys of a file, one per line, and those of the environment variable `VARIABLE`."""
        lines = [] if path is None else path.read_text(encoding="utf-8").splitlines()
        lines += environment.get(VARIABLE, "").split(",")
        return cls(line.strip() for line in lines if line.strip() and not line.startswith("#"))

    def __len__(self) -> int:
        """Return the number of keys."""
        return len(self._hashes)

    def accepts(self, key: str) -> bool:
        """Return whether a key is one of the server's. Every key is compared in full, so that the time tells nothing."""
        given = _hash(key)
        return any([hmac.compare_digest(given, known) for known in self._hashes])


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


__all__ = ["ApiKeys"]
