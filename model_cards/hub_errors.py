"""Errors of the Hub in one line that says what happened and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RevisionNotFoundError,
)

AGAIN = "nothing was published, run the same command again: what was uploaded is not sent again"


@contextmanager
def explained(repository: str) -> Iterator[None]:
    """Raise the errors of the Hub's client as built-in ones.

    Args:
        repository: name of the repository, for the messages.

    Raises:
        PermissionError: no token or a wrong one (401), or no right to write or read there (403).
        FileNotFoundError: there is no such repository, revision or file.
        ValueError: the name of the repository is not allowed, or the Hub refuses a file.
        ConnectionError: the Hub cannot be reached, it failed (5xx), or somebody changed the repository meanwhile (412).
    """
    try:
        yield
    except _client_errors() as error:
        raise _plain(error, repository) from error
    except RuntimeError as error:  # the client's own words for an upload that broke off
        if not str(error).startswith("Error while uploading"):
            raise
        cause = error.__cause__
        raise _plain(cause if isinstance(cause, HfHubHTTPError) else error, repository) from error


def _plain(error: Exception, repository: str) -> Exception:
    """The built-in error for one of the client."""
    line = _first_line(error)
    if isinstance(error, HFValidationError):
        return ValueError(f"{repository!r} is no name of a repository (organisation/name): {line}")
    if isinstance(error, OfflineModeIsEnabled):
        return ConnectionError("HF_HUB_OFFLINE is set, so that the Hub is not asked; unset it to push and pull")
    if isinstance(error, RevisionNotFoundError):
        return FileNotFoundError(f"{repository} has no such revision; leave --revision out for the main branch")
    if isinstance(error, LocalEntryNotFoundError):
        cause = error.__cause__
        return _of_response(cause, repository) if isinstance(cause, HfHubHTTPError) else ConnectionError(f"{line}; {AGAIN}")
    if isinstance(error, RemoteEntryNotFoundError):
        return FileNotFoundError(f"{repository} lacks a file: {line}")
    if isinstance(error, HfHubHTTPError):
        return _of_response(error, repository)
    return ConnectionError(f"the transfer to or from {repository} broke off ({line or type(error).__name__}); {AGAIN}")


def _of_response(error: HfHubHTTPError, repository: str) -> OSError | ValueError:
    """The built-in error for an answer of the Hub."""
    status = error.response.status_code
    message = _first_line(error)
    if status == 401:
        return PermissionError(
            f"the Hub refuses {repository} (401): it is private or does not exist, or the token is missing or wrong; log in with "
            "`hf auth login`, or set HF_TOKEN"
        )
    if status == 403:
        return PermissionError(
            f"the token may not do this with {repository} (403): {message}; use a token with the right to write"
        )
    if status == 404:
        return FileNotFoundError(f"{repository} does not exist on the Hub, or this token may not see it (404)")
    if status in (409, 412):
        return ConnectionError(f"somebody changed {repository} meanwhile ({status}); {AGAIN}")
    if status >= 500 or status == 429:
        return ConnectionError(f"the Hub failed on {repository} ({status}); {AGAIN}")
    return ValueError(f"the Hub refuses {repository} ({status}): {message}")


def _client_errors() -> tuple[type[Exception], ...]:
    """Errors of huggingface_hub, and of the HTTP library that it uses."""
    of_library = next(
        base for base in HfHubHTTPError.__bases__ if base is not OSError
    )  # the library's name depends on the version
    return (HfHubHTTPError, HFValidationError, EntryNotFoundError, OfflineModeIsEnabled, of_library)


def _first_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


__all__ = ["explained"]
