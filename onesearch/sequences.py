"""Accept a sequence of text where one is asked for, and name anything else instead of guessing.

A text is a sequence of letters, a set has no order, and an iterator is empty after its first reading: each would be taken without an
error, and mean something else than its author wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np


def as_list(value: Any, name: str) -> list[Any]:
    """Return the entries of a sequence.

    Args:
        value: list, tuple, one-dimensional NumPy array or any other sequence that is no text.
        name: name of the argument or column, for the error message.

    Raises:
        TypeError: `value` is text, a mapping, a set, an iterator or no sequence at all.
    """
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, np.ndarray) and value.ndim == 1:
        return value.tolist()
    if isinstance(value, str | bytes | bytearray):
        advice = f"write [{value[:40]!r}] for a single entry"
    elif isinstance(value, Set):
        advice = "a set has no order: pass a list"
    elif isinstance(value, Iterator):
        advice = "an iterator can be read only once: pass list(…) of it"
    elif isinstance(value, Sequence) and not isinstance(value, Mapping | memoryview):
        return list(value)
    else:
        advice = "pass a list"
    raise TypeError(f"{name} is {type(value).__name__} {str(value)[:40]!r}, not a list of texts; {advice}")


def as_texts(value: Any, name: str) -> list[str]:
    """Return the entries of a sequence of texts.

    Args:
        value: as for `as_list`.
        name: name of the argument or column, for the error message.

    Raises:
        TypeError: as `as_list`, or an entry is not text.
    """
    entries = as_list(value, name)
    for place, entry in enumerate(entries):
        if not isinstance(entry, str):
            raise TypeError(f"{name}[{place}] is {type(entry).__name__} {str(entry)[:40]!r}; every entry must be text")
    return entries


__all__ = ["as_list", "as_texts"]
