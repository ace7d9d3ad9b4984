"""Checks of the texts and numbers that callers pass for items: one rule for lists of texts, one for item ids, one for each column.

A text is a sequence of letters, a set has no order and a generator can be read only once. Each of them would be taken for a list and give
a wrong result in silence, so all of them are refused by name.
Travels to the Hub with the weights, so it imports nothing from the rest of the package.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def checked_texts(values: object, name: str) -> list[str]:
    """Return a list of texts.

    Args:
        values: a list, a tuple, another sequence, or a one-dimensional numpy array.
        name: name of the argument, for the error message.

    Raises:
        TypeError: a single text, a set, a dictionary, an iterator, or an entry that is not text.
    """
    listed = _listed(values, name)
    for row, value in enumerate(listed):
        if not isinstance(value, str):
            raise TypeError(f"{name} must be text, got {type(value).__name__} at place {row}: {value!r}")
    return [str(value) for value in listed] if isinstance(values, np.ndarray) else listed


def checked_item_ids(item_ids: object, name: str = "item ids") -> list[str]:
    """Return a list of item ids that every table and run file can hold.

    Args:
        item_ids: the ids; see `checked_texts`.
        name: name of the argument, for the error message.

    Raises:
        TypeError: not a list of texts.
        ValueError: an id is empty, holds white space or a NUL, or cannot be written as UTF-8.
    """
    ids = checked_texts(item_ids, name)
    joined = " ".join(ids)
    if len(joined.split()) == len(ids) and joined.split(" ") == joined.split() and "\0" not in joined and _is_unicode(joined):
        return ids
    for row, item_id in enumerate(ids):
        if item_id.split() != [item_id] or "\0" in item_id or not _is_unicode(item_id):
            raise ValueError(
                f"item id {item_id!r} at place {row} is empty, or holds white space, a NUL or half a character; an id is one word of "
                "UTF-8, so that tables and TREC files can hold it"
            )
    return ids


def checked_popularity(popularity: object, count: int) -> np.ndarray:
    """Return the popularity of items: (items,) float32.

    Args:
        popularity: (items,) numbers; None counts as 0 for all items.
        count: number of items.

    Raises:
        TypeError: a text, a set or an iterator.
        ValueError: another number of values, or a value that is not a finite number.
    """
    if popularity is None:
        return np.zeros(count, dtype=np.float32)
    values = popularity if isinstance(popularity, np.ndarray) else np.asarray(_listed(popularity, "popularity"))
    if values.shape != (count,):
        raise ValueError(f"{len(values) if values.ndim else 1} popularities for {count} items: counts must agree")
    if count and values.dtype.kind not in "iuf":
        row = next((row for row, value in enumerate(values.tolist()) if not isinstance(value, (int, float))), 0)
        raise ValueError(f"popularity at place {row} is {values[row]!r}; it must be a number, 0 where it is unknown")
    with np.errstate(over="ignore"):
        numbers = values.astype(np.float32)
    if not np.isfinite(numbers).all():
        row = int(np.argmin(np.isfinite(numbers)))
        raise ValueError(
            f"popularity at place {row} is {values[row]}; it must be a finite number of 32 bits, 0 where it is unknown"
        )
    return numbers


def checked_paths(categories: object, count: int) -> list[tuple[str, ...]] | None:
    """Return the category paths of items.

    Args:
        categories: the path of each item, from coarse to fine, empty for an item without categories; None for no categories at all.
        count: number of items.

    Raises:
        TypeError: a path is not a list of texts.
        ValueError: another number of paths, or an empty category name.
    """
    if categories is None:
        return None
    paths = _listed(categories, "categories")
    if len(paths) != count:
        raise ValueError(f"{len(paths)} category paths for {count} items: counts must agree")
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    checked = []
    for row, path in enumerate(paths):
        if isinstance(path, (list, tuple)) and all(map(_is_text, path)):
            names = tuple(path)
        else:
            names = tuple(checked_texts(path, f"the category path at place {row}"))
        if names not in known and not all(name.strip() and _is_unicode(name) for name in names):
            raise ValueError(f"the category path at place {row}, {list(names)}, holds an empty or broken name; leave it out")
        checked.append(known.setdefault(names, names))
    return checked


def _listed(values: object, name: str) -> list:
    """Return the entries of a sequence; TypeError names anything that only looks like one."""
    if isinstance(values, np.ndarray) and values.ndim == 1:
        return values.tolist()
    if isinstance(values, Sequence) and not isinstance(values, (str, bytes, bytearray, memoryview)):
        return list(values)
    shown = repr(values) if isinstance(values, (str, bytes)) else "an object"
    raise TypeError(f"{name} must be a list, got {type(values).__name__}: {shown[:80]}; write [...] or list(...) around it")


def _is_text(value: object) -> bool:
    """Return whether a value is text."""
    return isinstance(value, str)


def _is_unicode(text: str) -> bool:
    """Return whether a text can be written as UTF-8; half a surrogate pair cannot."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


__all__ = ["checked_item_ids", "checked_paths", "checked_popularity", "checked_texts"]
