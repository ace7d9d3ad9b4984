"""Objects of JSON, XML and parquet as rows: where the rows of a document are, and an object without nesting."""

from __future__ import annotations

from typing import Any

from .delimited import Known

NAME_KEYS = ("key", "attribute_code", "name")
"""Keys of the name in a list of names with one value each."""


def rows_in(document: Any, known: Known) -> list[Any] | None:
    """The rows of a JSON document; None if it is neither a list nor an object.

    A document is a list of rows, an object whose keys are the ids of its rows, an object that holds a list of rows at some depth, or one
    row. It is one row if it has more columns of known names than the first entry of its longest list: a product with its variants.

    Args:
        document: what the file holds.
        known: tells the names of columns that shops use.
    """
    rows = _by_id(document, known) or _longest_list(document)
    if isinstance(document, dict) and (rows is None or _known_names(document, known) > _known_names(rows[0], known)):
        return [document]
    return rows


def _known_names(row: dict[str, Any], known: Known) -> int:
    """Number of an object's own columns whose names shops use: a product has more of them than one of its variants or attributes."""
    return sum(known(name) for name in flat({key: part for key, part in row.items() if not isinstance(part, list)}))


def _by_id(value: Any, known: Known) -> list[Any] | None:
    """The objects of an object whose keys are their ids; None if the values are no objects, or share no column of a known name."""
    if not isinstance(value, dict) or len(value) < 2 or not all(isinstance(part, dict) for part in value.values()):
        return None
    common = set.intersection(*(set(part) for part in value.values()))
    if not any(known(name) for name in common if not any(isinstance(part[name], list) for part in value.values())):
        return None
    return [{"id": name, **part} for name, part in value.items()]


def _longest_list(value: Any, depth: int = 6) -> list[Any] | None:
    """The value if it is a list, else the longest list of objects within an object, at most `depth` objects deep.

    An object around each entry, as GraphQL's ``node``, stays; `unwrapped` leaves it out of the names of columns.
    """
    if isinstance(value, list):
        return value
    if not isinstance(value, dict) or not depth:
        return None
    inner = [_longest_list(part, depth - 1) for part in value.values()]
    return max((part for part in inner if part and isinstance(part[0], dict)), key=len, default=None)


def flat(row: dict[str, Any]) -> dict[str, Any]:
    """The object without nesting. A list of objects becomes a list per key, and a missing key a missing entry."""
    made: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, list) and value and all(isinstance(entry, tuple) and len(entry) == 2 for entry in value):
            value = dict(value)  # a map of parquet
        pairs = _named(value)
        if isinstance(value, dict):
            made |= {f"{key}.{inner}": part for inner, part in flat(value).items()}
        elif pairs is not None:
            made |= {f"{key}.{inner}": part for inner, part in pairs.items()}
        elif isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            entries = [flat(entry) for entry in value]
            for inner in dict.fromkeys(name for entry in entries for name in entry):
                made[f"{key}.{inner}"] = [entry[inner] for entry in entries if entry.get(inner) is not None]
        else:
            made[key] = value
    return made


def _named(value: Any) -> dict[str, Any] | None:
    """The values of a list of names with one value each, by name; None for anything else.

    Such lists are the ``event_params`` of Google Analytics, whose values are objects like ``{"string_value": "shoe"}``, the
    ``custom_attributes`` of Magento, and the ``additionalProperty`` of schema.org.
    """
    if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
        return None
    found: dict[str, Any] = {}
    for entry in value:
        name = next((entry[word] for word in NAME_KEYS if isinstance(entry.get(word), str)), None)
        if name is None or "value" not in entry or len(entry) > 4 or name in found:
            return None
        inner = entry["value"]
        if isinstance(inner, dict):
            inner = next((part for part in inner.values() if part is not None), None)
        found[name] = inner
    return found


__all__ = ["flat", "rows_in"]
