"""Keywords of queries: what the teacher of a self-distillation sees and the student does not (OneSearch-V2, arXiv 2603.24422).

In the paper an LLM extracts at most 8 keywords of purchase intent per query, from the query and the items of its session. Such keywords are
read from a file (`given_keywords`). Without a file, and that is our choice, they are derived from the market (`query_keywords`).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from onesearch.data.text import item_texts
from onesearch.parquet_files import read_given_table
from onesearch.tokenization_sid.keywords.keywords import CoreKeywords
from onesearch.views.session_views import SessionViews

from ..sft.data.fields import query_item_pairs

MOST = 8
"""Largest number of keywords of a query, as in the paper."""


def query_keywords(views: SessionViews, core: CoreKeywords) -> np.ndarray:
    """Keywords of every query of the logs, derived from the market.

    First the core keywords in the query, then those in the texts of the items that were clicked or bought after it in the training split,
    the most frequent first.

    Args:
        views: views of the market's sessions.
        core: core keywords of the catalogue.

    Returns:
        (queries,) object array of tuples of at most `MOST` keywords.
    """
    names = [keyword.text for keyword in core.keywords]
    of_item = core.match(item_texts(views.market))
    queries, items = query_item_pairs(views, "train")
    counts: dict[int, Counter[int]] = {}
    for query, item in zip(queries.tolist(), items.tolist()):
        counts.setdefault(query, Counter()).update(of_item[item])
    found = np.empty(len(views.logs.queries), dtype=object)
    for query, in_query in enumerate(core.match(views.logs.queries.tolist())):
        count_of = counts.get(query, Counter())
        ranked = sorted(count_of, key=lambda row: (-count_of[row], row))
        rows = list(dict.fromkeys([*in_query, *ranked]))
        found[query] = tuple(names[row] for row in rows[:MOST])
    return found


def given_keywords(views: SessionViews, path: str | Path) -> np.ndarray:
    """Keywords of every query of the logs, read from a file.

    Args:
        views: views of the market's sessions.
        path: parquet file with the columns ``query`` and ``keywords`` (lists of texts). A query that it lacks has no keywords.

    Returns:
        (queries,) object array of tuples; the first `MOST` keywords of each query.

    Raises:
        ValueError: the file is damaged or lacks a column.
    """
    given = read_given_table(path)
    missing = [name for name in ("query", "keywords") if name not in given.column_names]
    if missing:
        raise ValueError(f"{path} lacks {' and '.join(missing)}; it needs the columns query and keywords")
    keywords_of = dict(zip(given.column("query").to_pylist(), given.column("keywords").to_pylist()))
    found = np.empty(len(views.logs.queries), dtype=object)
    for row, query in enumerate(views.logs.queries):
        found[row] = tuple(keywords_of.get(query) or ())[:MOST]
    return found


__all__ = ["MOST", "given_keywords", "query_keywords"]
