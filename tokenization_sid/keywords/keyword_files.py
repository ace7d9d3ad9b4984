"""Keywords as files: the frozen ones of a run (``sids/keywords.parquet``), and dictionaries from other tools or people.

``keywords.parquet`` has the columns ``type`` (one of the 18), ``text`` (normalised), ``page_views`` and ``embedding`` (float32 list), as
the authors' dictionary, and ``asked`` (ask rate). Its schema metadata hold ``format``, the ``fingerprint`` of the codebooks that it belongs
to, and ``settings`` (JSON): ``core``, ``fused`` and ``bands`` of `CoreKeywords`. Without keywords the file has no rows.

A dictionary (from GLiNER, a language model, an expert) is a parquet table or a JSON list of objects with ``type``, ``text`` and optionally
``page_views``; other columns are refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from onesearch.data.schema import ATTRIBUTE_TYPES
from onesearch.files import atomic_file, read_json
from onesearch.parquet_files import read_given_table, read_own_table, write_table

from .keywords import CoreKeywords, Keyword
from .matching import normalise
from .price_bands import PriceBands

KEYWORDS_NAME = "keywords.parquet"
FORMAT = "onesearch-keywords/2"
DICTIONARY_COLUMNS = ("type", "text", "page_views")


def save_keywords(path: str | Path, core: CoreKeywords, fingerprint: str) -> None:
    """Write the keywords of a run and their vectors, whole or not at all.

    Args:
        path: parquet file.
        core: keywords with their vectors.
        fingerprint: fingerprint of the codebooks that they belong to.
    """
    dimension = core.embeddings.shape[1]
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.asarray(core.embeddings, dtype=np.float32).ravel()), dimension)
    columns = {
        "type": pa.array([keyword.kind for keyword in core.keywords], pa.string()),
        "text": pa.array([keyword.text for keyword in core.keywords], pa.string()),
        "page_views": pa.array([keyword.page_views for keyword in core.keywords], pa.int64()),
        "asked": pa.array([keyword.asked for keyword in core.keywords], pa.float64()),
        "embedding": vectors,
    }
    settings = json.dumps({"core": core.core, "fused": core.fused, "bands": core.bands.to_dict()}, ensure_ascii=False)
    metadata = {"format": FORMAT, "fingerprint": fingerprint, "settings": settings}
    table = pa.table(columns).replace_schema_metadata(metadata)
    with atomic_file(path) as temporary:
        write_table(table, temporary)


def load_keywords(path: str | Path, fingerprint: str) -> CoreKeywords:
    """Read the keywords of a run.

    Args:
        path: parquet file.
        fingerprint: fingerprint of the codebooks that they must belong to.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the file is damaged, has another format or belongs to other codebooks.
    """
    table = read_own_table(path, FORMAT, fingerprint, "copy it again, or make it with `onesearch sids build`")
    rows = zip(*(table.column(name).to_pylist() for name in ("text", "type", "page_views", "asked")))
    vectors = table.column("embedding").combine_chunks()
    dimension = vectors.type.list_size
    flat = np.asarray(vectors.flatten(), dtype=np.float32)
    settings = json.loads(pq.read_schema(path).metadata[b"settings"])
    bands = PriceBands.from_dict(settings["bands"])
    keywords = [Keyword(*row) for row in rows]
    return CoreKeywords(keywords, flat.reshape(-1, dimension), settings["core"], bands, settings["fused"])


def read_dictionary(path: str | Path) -> list[Keyword]:
    """Read a dictionary of keywords, normalised and in the order of the file.

    Args:
        path: ``.parquet``, or ``.json`` with a list of objects. ``page_views`` may be left out, and is 0 then.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: an unknown ending or column, or a bad row; the message names the row, counted from 0.

    Example:

    ```python
    >>> import json, pathlib
    >>> path = pathlib.Path("colours.json")
    >>> _ = path.write_text(json.dumps([{"type": "color", "text": "Off White"}]))
    >>> read_dictionary(path)
    [Keyword(text='off white', kind='color', page_views=0, asked=0.0)]

    ```"""
    path = Path(path)
    if path.suffix not in (".json", ".parquet"):
        raise ValueError(f"{path}: a keyword dictionary ends in .json or .parquet")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; give a dictionary with the columns {', '.join(DICTIONARY_COLUMNS)}")
    rows = read_json(path) if path.suffix == ".json" else read_given_table(path).to_pylist()
    if not isinstance(rows, list):
        raise ValueError(
            f"{path} holds a {type(rows).__name__}, expected a list of objects with {', '.join(DICTIONARY_COLUMNS)}"
        )
    seen: dict[tuple[str, str], int] = {}
    found = []
    for place, row in enumerate(rows):
        try:
            keyword = _dictionary_keyword(row)
        except ValueError as error:
            raise ValueError(f"{path}, row {place}: {error}") from None
        first = seen.setdefault((keyword.kind, keyword.text), place)
        if first != place:
            raise ValueError(
                f"{path}, row {place}: {keyword.kind} {keyword.text!r} is in row {first} already; keep one of them"
            )
        found.append(keyword)
    return found


def _dictionary_keyword(row: Any) -> Keyword:
    """Keyword of one row of a dictionary, after a check of every value."""
    if not isinstance(row, Mapping):
        raise ValueError(f"{row!r} is not an object with {', '.join(DICTIONARY_COLUMNS)}")
    unknown = sorted(set(row) - set(DICTIONARY_COLUMNS))
    if unknown:
        raise ValueError(f"unknown column {unknown[0]!r}; allowed are {', '.join(DICTIONARY_COLUMNS)}")
    kind, text, views = row.get("type"), row.get("text"), row.get("page_views")
    if kind not in ATTRIBUTE_TYPES:
        raise ValueError(f"type {kind!r} is unknown; allowed are {', '.join(ATTRIBUTE_TYPES)}")
    if not isinstance(text, str) or not normalise(text):
        raise ValueError(f"text {text!r} is invalid; give a string that is not blank")
    if views is not None and (isinstance(views, bool) or not isinstance(views, int) or views < 0):
        raise ValueError(f"page_views {views!r} is invalid; give a whole number of at least 0, or leave it out")
    return Keyword(normalise(text), kind, views or 0)


__all__ = ["KEYWORDS_NAME", "load_keywords", "read_dictionary", "save_keywords"]
