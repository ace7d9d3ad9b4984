"""What stands for the history of a user who has none: items that others clicked after the same query.

OneSearch (arXiv 2509.03236, user SIDs) takes the query's most-clicked items, by page views. Unseen queries fall back, which is ours: to the
queries that share the longest prefix of their SID, then to the category that most of the items below their first code belong to, then to
the whole market.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from onesearch.files import atomic_file

FILE_NAME = "default_histories.parquet"

LENGTH = 10
"""Items of a default history; ours. Prompts show the last of them, as of any history."""


@dataclass
class ClickCounts:
    """Clicks and page views of items after queries, counted as time goes on.

    Args:
        query_sids: (queries, levels) SID of each query, -1 throughout where it has none.
        item_categories: (items,) number of each item's category, -1 without one.
        item_sids: (items, levels) SID of each item.
    """

    query_sids: np.ndarray
    item_categories: np.ndarray
    item_sids: np.ndarray
    clicks: dict[Hashable, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    views: dict[Hashable, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))

    def __post_init__(self):
        self._category_of = _categories_of_codes(self.item_sids[:, 0], self.item_categories)
        self._prefixes = [_prefixes(sid) for sid in self.query_sids.tolist()]

    def add(self, query: int, clicked: Sequence[int], shown: Sequence[int]) -> None:
        """Count one session: rows of its query (-1 for behaviour without one) and of its items."""
        keys: list[Hashable] = [("all",)]
        if query >= 0:
            keys += [("query", query), *self._prefixes[query]]
        for key in keys:
            self.clicks[key].update(clicked)
            self.views[key].update(shown)
        for item in clicked:
            self.clicks["category", int(self.item_categories[item])][item] += 1

    def history(self, query: int) -> list[int]:
        """Rows of the default history of a query, the most viewed item last, where the most recent one stands."""
        for key in self.keys(query):
            if key in self.clicks and self.clicks[key]:
                return self.most_clicked(key)
        return []

    def keys(self, query: int) -> Iterator[Hashable]:
        """Where a query looks, most exact first."""
        prefixes = self._prefixes[query]
        yield "query", query
        yield from reversed(prefixes)
        if prefixes:
            yield "category", self._category_of.get(prefixes[0][1], -1)
        yield ("all",)

    def most_clicked(self, key: Hashable) -> list[int]:
        """Rows of the `LENGTH` most clicked items of a key, the most viewed last; ties go to the lower row."""
        clicks, views = self.clicks[key], self.views.get(key, {})
        best = sorted(clicks, key=lambda item: (-clicks[item], item))[:LENGTH]
        return sorted(best, key=lambda item: (views.get(item, 0), clicks[item], -item))


@dataclass(frozen=True)
class DefaultHistories:
    """Default histories of a trained model, frozen: what `ClickCounts` holds when the training split has ended.

    Args:
        of_query: query → item ids; of_prefix: prefix of a SID → item ids; of_category: first code of a SID → item ids of the category
            that most of its items have; of_all: for whatever is left. Item ids: the most viewed last.
    """

    of_query: dict[str, list[str]]
    of_prefix: dict[tuple[int, ...], list[str]]
    of_category: dict[int, list[str]]
    of_all: list[str]

    @classmethod
    def of_counts(cls, counts: ClickCounts, queries: Sequence[str], item_ids: Sequence[str]) -> DefaultHistories:
        """Freeze counts; `queries` and `item_ids` are what the rows of `counts` mean."""

        def ids(key: Hashable) -> list[str]:
            return [item_ids[row] for row in counts.most_clicked(key)]

        keys = [key for key in counts.clicks if counts.clicks[key]]
        categories = {
            code: ids(key) for code, category in counts._category_of.items() if (key := ("category", category)) in keys
        }
        return cls(
            {queries[key[1]]: ids(key) for key in keys if key[0] == "query"},
            {tuple(key[1:]): ids(key) for key in keys if key[0] == "prefix"},
            categories,
            ids(("all",)) if ("all",) in keys else [],
        )

    def of(self, query: str, sid: Sequence[int] | None) -> list[str]:
        """Item ids for a query that may never have been seen; `sid` is None where the query has none."""
        prefixes = [] if sid is None else [tuple(sid[:depth]) for depth in range(len(sid), 0, -1)]
        found = self.of_query.get(query) or next((self.of_prefix[one] for one in prefixes if one in self.of_prefix), None)
        if not found and prefixes:
            found = self.of_category.get(int(sid[0]))
        return found or self.of_all

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
            pq.write_table(pa.table(columns, schema=_SCHEMA), temporary)

    @classmethod
    def load(cls, path: str | Path) -> DefaultHistories:
        """Read a file that `save` wrote; ValueError with the path if it is damaged or another table."""
        try:
            table = pq.read_table(path).select(_SCHEMA.names).cast(_SCHEMA)
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


def _prefixes(sid: Sequence[int]) -> list[tuple]:
    """Keys of all prefixes of a SID, shortest first; none for a query without one."""
    return [] if sid[0] < 0 else [("prefix", *sid[:depth]) for depth in range(1, len(sid) + 1)]


def _categories_of_codes(codes: np.ndarray, categories: np.ndarray) -> dict[int, int]:
    """First code → the category that most of its items belong to."""
    known = categories >= 0
    pairs, counts = np.unique(np.stack([codes[known], categories[known]], axis=1), axis=0, return_counts=True)
    order = np.argsort(counts, kind="stable")  # the largest comes last and stays
    return {int(code): int(category) for code, category in pairs[order]}


__all__ = ["FILE_NAME", "LENGTH", "ClickCounts", "DefaultHistories"]
