"""The one rule for ids of items, users and sessions: a word, which every file that names them can hold.

TREC files separate their columns by white space and their rows by line breaks, and compiled readers end a text at NUL.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

ID_RULE = "an id is text without white space, line breaks and NUL, and is not empty"

_FORBIDDEN = r"[\x00\x09-\x0d\x1c-\x20\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]"
"""NUL and the characters for which `str.isspace` is true."""


def is_id(text: str) -> bool:
    """Return whether a text can be an id."""
    return text.split() == [text] and "\0" not in text


def bad_ids(texts: pa.ChunkedArray | pa.Array) -> pa.ChunkedArray | pa.Array:
    """Return a mask that is true where a text cannot be an id: where it is null, empty, or holds a character that ids may not have."""
    bad = pc.or_(pc.equal(texts, ""), pc.match_substring_regex(texts, _FORBIDDEN))
    return pc.fill_null(bad, True)


__all__ = ["ID_RULE", "bad_ids", "is_id"]
