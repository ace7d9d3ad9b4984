"""Texts, categories and Semantic IDs of items and queries, as prompts and as targets."""

from __future__ import annotations

import numpy as np

from onesearch.data.session_pairs import category_ids, session_items
from onesearch.data.text import item_texts
from onesearch.tokenization_sid.prompts import PromptFields
from onesearch.tokenization_sid.ragged import Ragged, offsets_of
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer
from onesearch.views.session_views import SessionViews


class RowFields:
    """Fields of the rows of two tables, here called things: ``item`` and ``query``. A field is ``text``, ``category`` or ``sid``.

    Rows of items are those of the market's table, rows of queries those of `UserLogs.queries`.

    Args:
        views: views of the market's sessions.
        tokenizer: tokenizer for the codes of `views`.
    """

    def __init__(self, views: SessionViews, tokenizer: SidTokenizer) -> None:
        self.views = views
        self.tokenizer = tokenizer
        self._columns: dict[tuple[str, str], np.ndarray] = {}

    def column(self, thing: str, field: str) -> np.ndarray:
        """A field of all rows of a thing, computed once.

        Returns:
            (rows, levels) codes for ``sid``, with -1 where a query has none; else (rows,) texts, "" where a category is unknown.
        """
        key = (thing, field)
        if key not in self._columns:
            self._columns[key] = self._compute(thing, field)
        return self._columns[key]

    def known(self, rows: np.ndarray, thing: str, field: str) -> np.ndarray:
        """Whether each row has the field, (rows,) bool: a query may have no Semantic ID, and an item or a query no category."""
        if field == "text":
            return np.ones(len(rows), dtype=bool)
        values = self.column(thing, field)[rows]
        return values[:, 0] >= 0 if field == "sid" else values != ""

    def prompts(self, rows: np.ndarray, thing: str, field: str) -> PromptFields:
        """Prompt fields that hold this field of the rows alone."""
        values = self.column(thing, field)[rows]
        return PromptFields(sids=values) if field == "sid" else PromptFields(values.tolist())

    def labels(self, rows: np.ndarray, thing: str, field: str) -> Ragged:
        """Target tokens of each row: the tokens of a Semantic ID, or a text's tokens and an end token."""
        values = self.column(thing, field)[rows]
        if field == "sid":
            return self.sid_labels(values)
        # A prompt of one text is a begin token, the text and an end token; a target has no begin token.
        encoded = self.tokenizer.encode_fields(PromptFields(values.tolist()), "item-text-to-sid/1")
        return Ragged.of_spans(encoded.values, encoded.offsets[:-1] + 1, encoded.offsets[1:])

    def sid_labels(self, codes: np.ndarray) -> Ragged:
        """Token ids of Semantic IDs: (rows, levels) codes as rows of `levels` tokens."""
        ids = self.tokenizer.sids_to_ids(codes).astype(np.int32)
        return Ragged(ids.reshape(-1), offsets_of(np.full(len(ids), ids.shape[1])))

    def _compute(self, thing: str, field: str) -> np.ndarray:
        if field == "sid":
            return self.views.item_sids if thing == "item" else self.views.query_sids
        if field == "category":
            return item_categories(self.views) if thing == "item" else query_categories(self.views)
        texts = item_texts(self.views.market) if thing == "item" else self.views.logs.queries
        return np.array(texts, dtype=object)


def query_item_pairs(views: SessionViews, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Distinct pairs of a query and an item that was clicked or bought after it.

    Args:
        views: views of the market's sessions.
        split: split of the sessions that are read.

    Returns:
        Rows of queries and rows of items, (pairs,) each, sorted by query.
    """
    sessions, items = session_items(views.market, split, ("clicked", "purchased"))
    queries = views.logs.query_rows[sessions]
    has_text = ~views.logs.blank[queries]
    pairs = np.unique(np.stack([queries[has_text], items[has_text]], axis=1), axis=0)
    return pairs[:, 0], pairs[:, 1]


def item_categories(views: SessionViews) -> np.ndarray:
    """Category path of each item, (items,) texts; "" without a category."""
    of_item, names = category_ids(views.market.items.data.column("categories"))
    return np.array([*names, ""], dtype=object)[of_item]


def query_categories(views: SessionViews) -> np.ndarray:
    """Category path of each query, (queries,) texts: the most frequent one among the distinct items that were clicked or bought after the
    query in the training split; "" without one."""
    of_item, names = category_ids(views.market.items.data.column("categories"))
    queries, items = query_item_pairs(views, "train")
    known = of_item[items] >= 0
    pairs, counts = np.unique(np.stack([queries[known], of_item[items[known]]], axis=1), axis=0, return_counts=True)
    found = np.full(len(views.logs.queries), -1, dtype=np.int64)
    order = np.argsort(counts, kind="stable")
    found[pairs[order, 0]] = pairs[order, 1]  # of several writes to one query the last stays: the most frequent category
    return np.array([*names, ""], dtype=object)[found]


__all__ = ["RowFields", "item_categories", "query_categories", "query_item_pairs"]
