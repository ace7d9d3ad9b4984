"""Checks of ``market.json``: the split, the language and the text fields, which later stages read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from onesearch.files import read_json

from .choices import SPLIT_METHODS
from .column_checks import Problem
from .languages import first_subtag
from .schema import INFO_NAME
from .splits import split_values_problem
from .text import ALL_TEXT_FIELDS


def check_info(path: Path, has_sessions: bool) -> Iterator[Problem]:
    """Find all problems of ``market.json``.

    Args:
        path: path of the file.
        has_sessions: whether the market has sessions, which need a split.
    """
    if not path.is_file():
        yield Problem(INFO_NAME, None, "missing_file", f"{INFO_NAME} does not exist; it holds name, source and split")
        return
    try:
        info = read_json(path)
    except ValueError as error:
        yield Problem(INFO_NAME, None, "unreadable_file", str(error))
        return
    if not isinstance(info, dict):
        yield Problem(INFO_NAME, None, "split", f"{INFO_NAME} is {info!r}; expected an object with name, source and split")
        return
    messages = {
        "split": split_problem(info, has_sessions),
        "language": _language_problem(info.get("language")),
        "text_fields": _text_fields_problem(info.get("text_fields")),
        "text_limits": _text_limits_problem(info.get("text_limits")),
    }
    for kind, message in messages.items():
        if message:
            yield Problem(INFO_NAME, None, kind, message)


def split_problem(info: Mapping[str, Any], has_sessions: bool) -> str | None:
    """Message about the split that ``market.json`` declares; None if it can be used.

    Args:
        info: contents of the file.
        has_sessions: whether the market has sessions.
    """
    if "split" not in info:
        example = '{"method": "time", "validation": 0.05, "test": 0.1}'
        return f"split is missing, so that no session would be measured; write for example {example}" if has_sessions else None
    split = info["split"]
    if not isinstance(split, dict):
        return f'split is {split!r}; expected an object such as {{"method": "time"}}'
    method = split.get("method")
    if method not in SPLIT_METHODS:
        return f"split method {method!r} is unknown; allowed are {', '.join(SPLIT_METHODS)}"
    return split_values_problem(split)


def _language_problem(language: Any) -> str | None:
    """Message about a language that is no language tag; null and no language mean that the texts tell it."""
    try:
        first_subtag(language)
    except ValueError as error:
        return str(error)
    return None


def _text_fields_problem(names: Any) -> str | None:
    """Message about text fields that no item has; null and no fields mean the default ones."""
    if names is None:
        return None
    if not isinstance(names, list):
        return f'text_fields is {names!r}; expected a list of names such as ["title", "brand"]'
    unknown = [name for name in names if name not in ALL_TEXT_FIELDS]
    return f"text_fields names {unknown}; allowed are {', '.join(ALL_TEXT_FIELDS)}" if unknown else None


def _text_limits_problem(limits: Any) -> str | None:
    """Message about limits of fields that no item has, or that are no numbers of letters; null and no limits mean whole texts."""
    if limits is None:
        return None
    if not isinstance(limits, dict):
        return f'text_limits is {limits!r}; expected an object such as {{"description": 300}}'
    wrong = {
        name: limit for name, limit in limits.items() if name not in ALL_TEXT_FIELDS or type(limit) is not int or limit < 1
    }
    return f"text_limits holds {wrong}; expected text fields and numbers of letters from 1" if wrong else None


__all__ = ["check_info", "split_problem"]
