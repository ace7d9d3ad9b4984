"""What the teacher of self-distillation knows and the student does not: keywords of queries (OneSearch-V2, arXiv 2603.24422).

V2 has an LLM extract at most 8 keywords of goods intent per query, with the items of the session at hand while training; such keywords
enter as a file. Without one, and that is ours: the core keywords that the query names, then those that the items clicked or bought after
it in the training split name most.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from onesearch.data.text import item_texts
from onesearch.parquet_files import read_given_table
from onesearch.tokenization_sid.keywords.keywords import CoreKeywords
from onesearch.views.session_views import SessionViews

MOST = 8
"""Keywords of a query, as in the paper."""


def query_keywords(views: SessionViews, core: CoreKeywords, pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Keywords of every query of the logs.

    Args:
        pairs: rows of queries and of items clicked or bought after them in the training split, (pairs,) each.

    Returns:
        (queries,) object array of tuples of at most `MOST` words.
    """
    names = [keyword.text for keyword in core.keywords]
    of_item = core.match(item_texts(views.market))
    counted: dict[int, Counter[int]] = {}
    for query, item in zip(*(rows.tolist() for rows in pairs)):
        counted.setdefault(query, Counter()).update(of_item[item])
    found = np.empty(len(views.logs.queries), dtype=object)
    for query, named in enumerate(core.match(views.logs.queries.tolist())):
        ranked = sorted(counted.get(query, {}).items(), key=lambda entry: (-entry[1], entry[0]))
        rows = dict.fromkeys([*named, *(row for row, _ in ranked)])
        found[query] = tuple(names[row] for row in list(rows)[:MOST])
    return found


def given_keywords(views: SessionViews, path: str | Path) -> np.ndarray:
    """Keywords of every query of the logs from a parquet file with the columns ``query`` and ``keywords`` (lists of texts); none where it
    lacks a query.

    Raises:
        ValueError: the file is damaged or lacks a column.
    """
    given = read_given_table(path)
    missing = [name for name in ("query", "keywords") if name not in given.column_names]
    if missing:
        raise ValueError(f"{path} lacks {' and '.join(missing)}; it needs the columns query and keywords")
    table = dict(zip(given.column("query").to_pylist(), given.column("keywords").to_pylist()))
    found = np.empty(len(views.logs.queries), dtype=object)
    for row, query in enumerate(views.logs.queries):
        found[row] = tuple(table.get(query) or ())[:MOST]
    return found
