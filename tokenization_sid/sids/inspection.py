"""The code path of a query or an item: its SID, and the items under each of its prefixes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onesearch.data.market import Market
from onesearch.data.session_pairs import category_ids
from onesearch.files import RunFolder

from ..embedding.embeddings import load_embeddings
from ..keywords.matching import normalise
from .appended_files import load_appended
from .code_files import load_codes
from .plots import typical_rows
from .sid_encoder import SidEncoder

KINDS = ("auto", "item", "query")
"""Readings of a text that is inspected."""


@dataclass(frozen=True)
class Branch:
    """Items under one prefix of a code path.

    Args:
        level: level of the prefix's last code.
        code: that code.
        items: number of items under the prefix.
        titles: typical titles, those closest to the mean of the items under the prefix.
        category: most frequent finest category of the items; None if no item has one.
        share: share of that category among the items that have one.
    """

    level: int
    code: int
    items: int
    titles: tuple[str, ...]
    category: str | None
    share: float


@dataclass(frozen=True)
class Inspection:
    """Code path of a query or an item.

    Args:
        kind: ``query`` or ``item``.
        text: the query, or the title of the item.
        item_id: id of the item; None for a query.
        same_title: number of further items with the title that was asked for.
        keywords: core keywords that a query names; empty for an item.
        codes: (levels,) codes of the SID.
        branches: items under the prefix of each length.
    """

    kind: str
    text: str
    item_id: str | None
    same_title: int
    keywords: tuple[str, ...]
    codes: tuple[int, ...]
    branches: tuple[Branch, ...]


class ItemMatch(NamedTuple):
    """Row of an item, and the number of further items with the same title."""

    row: int
    same_title: int


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Published items, as far as an inspection shows them.

    Args:
        item_ids: (items,) Arrow strings.
        titles: (items,) Arrow strings.
        categories: (items,) ids, -1 for an item without a category.
        category_names: names by id.
        codes: (items, levels).
        run: run with the encoder, the keywords and the embeddings; None if only an item index is known.
    """

    item_ids: pa.Array
    titles: pa.Array
    categories: np.ndarray
    category_names: Sequence[str]
    codes: np.ndarray
    run: RunFolder | None = None

    @classmethod
    def of_run(cls, run: RunFolder) -> Catalogue:
        """Items of a run, including those that were appended.

        Raises:
            ValueError: the market has changed since the SIDs were built.
        """
        market = Market.load(run.require("market", "onesearch data"))
        stored, added = load_codes(run, "items"), load_appended(run)
        if len(stored.codes) != len(market.items):
            raise ValueError(
                f"{run.sids} holds codes of {len(stored.codes):,} items, the market {len(market.items):,}: "
                "the market has changed; build the SIDs again"
            )
        joined = {
            name: pa.concat_arrays([market.items.data.column(name).combine_chunks(), added.table.column(name).combine_chunks()])
            for name in ("item_id", "title", "categories")
        }
        ids, names = category_ids(joined["categories"])
        return cls(joined["item_id"], joined["title"], ids, names, np.concatenate([stored.codes, added.codes]), run)

    @classmethod
    def of_index(cls, item_ids: Sequence[str], codes: np.ndarray) -> Catalogue:
        """Items of a checkpoint without its run, of which only ids and codes are known."""
        ids = pa.array(item_ids, pa.string())
        return cls(ids, ids, np.full(len(ids), -1), [], np.asarray(codes))

    @cached_property
    def vectors(self) -> np.ndarray | None:
        """(items, dimension) embeddings of the run's own items, without the appended ones; None without a run."""
        return load_embeddings(self.run, "items") if self.run is not None else None

    def row_of(self, text: str) -> ItemMatch | None:
        """Find the item with this id or, if there is none, the first with this title; None if there is neither."""
        row = pc.index(self.item_ids, text).as_py()
        if row >= 0:
            return ItemMatch(row, 0)
        titles = pc.utf8_lower(pc.utf8_normalize(self.titles, "NFKC"))
        plain = pc.utf8_trim_whitespace(pc.replace_substring_regex(titles, r"\s+", " "))
        rows = np.flatnonzero(np.asarray(pc.fill_null(pc.equal(plain, normalise(text)), False)))
        return ItemMatch(int(rows[0]), len(rows) - 1) if len(rows) else None

    def branch(self, rows: np.ndarray, level: int, code: int, count: int) -> Branch:
        """Describe the items under one prefix.

        Args:
            rows: (n,) rows of the items under the prefix.
            level: level of the prefix's last code.
            code: that code.
            count: number of typical titles.
        """
        category, share = self._frequent_category(rows)
        titles = tuple(self.titles[int(row)].as_py() for row in self._typical(rows, count))
        return Branch(level, code, len(rows), titles, category, share)

    def _frequent_category(self, rows: np.ndarray) -> tuple[str | None, float]:
        """Most frequent category of the items at `rows` that have one, and its share among them."""
        known = self.categories[rows]
        known = known[known >= 0]
        if not len(known):
            return None, 0.0
        counts = np.bincount(known)
        largest = int(counts.argmax())
        return self.category_names[largest], float(counts[largest] / len(known))

    def _typical(self, rows: np.ndarray, count: int) -> np.ndarray:
        """At most `count` typical rows; without embeddings the first ones."""
        if self.vectors is not None:
            own = rows[rows < len(self.vectors)]
            if len(own):
                return typical_rows(self.vectors, own, count)
        return rows[:count]


def inspect(catalogue: Catalogue, text: str, kind: str = "auto", titles: int = 3) -> Inspection:
    """Show the SID of a query or an item, and the items under each of its prefixes.

    A query is embedded with the run's encoder and keywords and encoded with its frozen codebooks, as the items were.

    Args:
        catalogue: published items.
        text: an item's id or title, or any query.
        kind: ``item`` or ``query``; ``auto`` reads the text as an item if one has this id or title, else as a query.
        titles: number of typical titles per level.

    Raises:
        ValueError: no item has this id or title, the encoder knows no word of the query, or there is no encoder for queries.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is unknown; allowed are {', '.join(KINDS)}")
    if not text.strip():
        raise ValueError("nothing to inspect: the text is empty; give a query, or an item's id or title")
    found = catalogue.row_of(text) if kind != "query" else None
    if found is None and kind == "item":
        raise ValueError(f"no item has the id or title {text!r}; the catalogue has {len(catalogue.item_ids):,} items")
    if found is not None:
        codes = tuple(catalogue.codes[found.row].tolist())
        item_id, title = catalogue.item_ids[found.row].as_py(), catalogue.titles[found.row].as_py()
        return Inspection("item", title, item_id, found.same_title, (), codes, _branches(catalogue, codes, titles))
    query = _encoded_query(catalogue, text)
    return Inspection("query", text, None, 0, query.keywords, query.codes, _branches(catalogue, query.codes, titles))


class _EncodedQuery(NamedTuple):
    """Codes of a query, and the core keywords that it names."""

    codes: tuple[int, ...]
    keywords: tuple[str, ...]


def _encoded_query(catalogue: Catalogue, text: str) -> _EncodedQuery:
    if catalogue.run is None:
        raise ValueError(
            f"{text!r} is no item id of this checkpoint, and a checkpoint alone has no encoder for queries; pass --run with its run"
        )
    encoder = SidEncoder.load(catalogue.run)
    codes, known, _ = encoder.encode([text])
    if not known[0]:
        raise ValueError(f"{text!r} is no item's id or title, and the run's encoder knows none of its words; try other words")
    keywords = tuple(encoder.core.keywords[row].text for row in encoder.core.match([text])[0])
    return _EncodedQuery(tuple(codes[0].tolist()), keywords)


def _branches(catalogue: Catalogue, codes: Sequence[int], titles: int) -> tuple[Branch, ...]:
    """Items under the prefix of each length; every level keeps those rows of the last that have its code."""
    rows = np.arange(len(catalogue.codes))
    branches = []
    for level, code in enumerate(codes):
        rows = rows[catalogue.codes[rows, level] == code]
        branches.append(catalogue.branch(rows, level, code, titles))
    return tuple(branches)


__all__ = ["Branch", "Catalogue", "Inspection", "ItemMatch", "inspect"]
