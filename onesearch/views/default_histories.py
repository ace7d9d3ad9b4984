"""Default histories: items that others clicked after the same query, for users without a history.

OneSearch (arXiv 2509.03236, user SIDs) takes the query's most-clicked items, ordered by page views. Unseen queries fall back (our choice;
the paper gives no fallback) to the queries that share the longest prefix of their SID, then to the category of most items below their
first code, then to the whole market.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from onesearch.files import atomic_file
from onesearch.parquet_files import read_table, write_table

FILE_NAME = "default_histories.parquet"

LENGTH = 10
"""Items of a default history; our choice, the paper gives none. A prompt shows the last of them, as of any history."""

Key = tuple[str | int, ...]
"""What clicks are counted for: ``("query", row)``, ``("prefix", *codes)``, ``("category", number)`` or ``("all",)``."""


@dataclass
class ClickCounts:
    """Clicks and page views of items after queries, counted session by session.

    Args:
        query_sids: (queries, levels) SID of each query, -1 at all levels where it has none.
        item_categories: (items,) number of each item's category, -1 where it has none.
        item_sids: (items, levels) SID of each item.
        clicks: for each key the clicks of each item row.
        page_views: for each key the page views of each item row.
    """

    query_sids: np.ndarray
    item_categories: np.ndarray
    item_sids: np.ndarray
    clicks: dict[Key, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    page_views: dict[Key, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))

    def __post_init__(self) -> None:
        self.category_of_code = _categories_of_codes(self.item_sids[:, 0], self.item_categories)
        self._prefixes = [_prefixes(sid) for sid in self.query_sids.tolist()]

    def add(self, query: int, clicked: Sequence[int], shown: Sequence[int]) -> None:
        """Count one session.

        Args:
            query: row of its query, -1 where it has none.
            clicked: rows of the items that were clicked or purchased.
            shown: rows of the items that were listed.
        """
        keys: list[Key] = [("all",)]
        if query >= 0:
            keys += [("query", query), *self._prefixes[query]]
        for key in keys:
            self.clicks[key].update(clicked)
            self.page_views[key].update(shown)
        for item in clicked:
            self.clicks["category", int(self.item_categories[item])][item] += 1

    def history(self, query: int) -> list[int]:
        """Item rows of the default history of a query; the most viewed item comes last, in the place of the most recent one."""
        for key in self.keys(query):
            if key in self.clicks and self.clicks[key]:
                return self.most_clicked(key)
        return []

    def keys(self, query: int) -> Iterator[Key]:
        """Keys that may have the default history of a query, the most exact first."""
        prefixes = self._prefixes[query]
        yield "query", query
        yield from reversed(prefixes)
        if prefixes:
            yield "category", self.category_of_code.get(int(prefixes[0][1]), -1)
        yield ("all",)

    def most_clicked(self, key: Key) -> list[int]:
        """Rows of the `LENGTH` most clicked items of a key, the most viewed last; ties go to the lower row."""
        clicks, page_views = self.clicks[key], self.page_views.get(key, Counter())
        best = sorted(clicks, key=lambda item: (-clicks[item], item))[:LENGTH]
        return sorted(best, key=lambda item: (page_views[item], clicks[item], -item))


@dataclass(frozen=True)
class DefaultHistories:
    """Default histories of a trained model: the content of `ClickCounts` at the end of the training split, in item ids.

    Each list of item ids has the most viewed item last.

    Args:
        of_query: query → item ids.
        of_prefix: prefix of a SID → item ids.
        of_category: first code of a SID → item ids of the category that most of its items have.
        of_all: item ids for all other queries.
    """

    of_query: dict[str, list[str]]
    of_prefix: dict[tuple[int, ...], list[str]]
    of_category: dict[int, list[str]]
    of_all: list[str]

    @classmethod
    def of_counts(cls, counts: ClickCounts, queries: Sequence[str], item_ids: Sequence[str]) -> DefaultHistories:
        """Default histories of counts.

        Args:
            counts: clicks and page views of the training split.
            queries: the query of each row that `counts` knows.
            item_ids: the item id of each row that `counts` knows.
        """

        def ids(key: Key) -> list[str]:
            return [item_ids[row] for row in counts.most_clicked(key)]

        found = cls({}, {}, {}, [])
        for key in [key for key, clicks in counts.clicks.items() if clicks]:
            kind, *numbers = key
            if kind == "query":
                found.of_query[queries[int(numbers[0])]] = ids(key)
            elif kind == "prefix":
                found.of_prefix[tuple(map(int, numbers))] = ids(key)
            elif kind == "all":
                found.of_all.extend(ids(key))
        for code, category in counts.category_of_code.items():
            if counts.clicks.get(("category", category)):
                found.of_category[code] = ids(("category", category))
        return found

    def of(self, query: str, sid: Sequence[int] | None) -> list[str]:
        """Item ids for a query.

        Args:
            query: any text; the training split need not have it.
            sid: (levels,) its SID; None where it has none.
        """
        found = self.of_query.get(query)
        if found or sid is None:
            return found or self.of_all
        for depth in range(len(sid), 0, -1):
            if tuple(sid[:depth]) in self.of_prefix:
                return self.of_prefix[tuple(sid[:depth])]
        return self.of_category.get(int(sid[0])) or self.of_all

    def save(self, path: str | Path) -> None:
        """Write one parquet file, atomically: kind, key, items."""
        rows = [
            *(("query", query, items) for query, items in self.of_query.items()),
            *(("prefix", " ".join(map(str, prefix)), items) for prefix, items in self.of_prefix.items()),
            *(("category", str(code), items) for code, items in self.of_category.items()),
            ("all", "", self.of_all),
        ]
        columns = [list(column) for column in zip(*rows)]
        with atomic_file(path) as temporary:
            write_table(pa.table(columns, schema=_SCHEMA), temporary)

    @classmethod
    def load(cls, path: str | Path) -> DefaultHistories:
        """Read a file that `save` wrote; ValueError names a file that is damaged or another table."""
        try:
            table = read_table(path, "copy the checkpoint again").select(_SCHEMA.names).cast(_SCHEMA)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, KeyError) as error:
            raise ValueError(f"{path} is no table of default histories ({error}); copy the checkpoint again") from error
        found = cls({}, {}, {}, [])
        for kind, key, items in zip(*(column.to_pylist() for column in table.columns)):
            if kind == "query":
                found.of_query[key] = items
            elif kind == "prefix":
                found.of_prefix[tuple(map(int, key.split()))] = items
            elif kind == "category":
                found.of_category[int(key)] = items
            else:
                found.of_all.extend(items)
        return found


_SCHEMA = pa.schema([("kind", pa.string()), ("key", pa.string()), ("items", pa.list_(pa.string()))])


def _prefixes(sid: Sequence[int]) -> list[Key]:
    """Keys of all prefixes of a SID, the shortest first; empty for a query without a SID."""
    return [] if sid[0] < 0 else [("prefix", *sid[:depth]) for depth in range(1, len(sid) + 1)]


def _categories_of_codes(codes: np.ndarray, categories: np.ndarray) -> dict[int, int]:
    """First code → number of the category that most of its items have."""
    known = categories >= 0
    pairs, counts = np.unique(np.stack([codes[known], categories[known]], axis=1), axis=0, return_counts=True)
    order = np.argsort(
        counts, kind="stable"
    )  # of the pairs of one code, the most frequent comes last and overwrites the others
    return {int(code): int(category) for code, category in pairs[order]}


__all__ = ["FILE_NAME", "LENGTH", "ClickCounts", "DefaultHistories"]
