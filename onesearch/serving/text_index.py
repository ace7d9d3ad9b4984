"""The text index of a checkpoint: BM25 over the texts of its catalogue, whose best items join the beam before the reward model ranks both.

The file ``text_index.safetensors`` holds the terms of each item and how often they occur. Everything that follows from these numbers is
computed when it is first needed, so an index to which items were added scores like one that was built with them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from onesearch.data.languages import market_language
from onesearch.data.market import Market
from onesearch.data.session_pairs import sessions_per_item
from onesearch.data.text import item_texts
from onesearch.evaluation.analysis import make_tokenizer
from onesearch.extras import require
from onesearch.modeling_onesearch.columns_onesearch import strings_from_arrays, strings_to_arrays
from onesearch.tokenization_sid.tensor_files import read_tensors, write_tensors

from .best_items import Keep, best_items

TEXT_INDEX_NAME = "text_index.safetensors"
"""File of the text index, beside the weights of a checkpoint."""

FORMAT = "onesearch-text-index/2"

REMEDY = "copy the checkpoint again, or train the reward model again with `onesearch reward`, which builds the text index"

K1, B = 1.2, 0.75
"""Saturation of the term frequency and length normalisation; those of `BM25Retriever`."""


CLICK_SHARE = 0.3
"""A click counts as this share of a purchase in the popularity; our choice."""


def require_text_search(needed_by: str = "candidates='beam+text'") -> None:
    """Raise MissingExtraError if the stop words and the stemmer of the analysis are not installed; `needed_by` is its subject."""
    require("evaluation", "bm25s", "Stemmer", needed_by=needed_by)


def popularity_of(market: Market) -> dict[str, float]:
    """log(1 + purchases + 0.3 clicks) of each item in the training split, as a share of the largest; items with neither are left out."""
    if not len(market.sessions):
        return {}
    kinds = {"purchased": 1.0, "clicked": CLICK_SHARE}
    counts = sum(weight * sessions_per_item(market, "train", (kind,)) for kind, weight in kinds.items())
    seen = np.log1p(counts)
    item_ids = market.items.data.column("item_id").to_pylist()
    return {item_ids[row]: float(seen[row] / seen.max()) for row in np.flatnonzero(seen).tolist()}


class Postings(NamedTuple):
    """The items of each term.

    Attributes:
        starts: first posting of each term, and the end of the last, ``(terms + 1,)``.
        items: number of the item of each posting, ``(postings,)``.
        weights: BM25 weight of the term in that item, float32 ``(postings,)``.
    """

    starts: np.ndarray
    items: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, eq=False)
class TextIndex:
    """BM25 (Lucene's variant) over the texts of items, with the analysis and the scores of `BM25Retriever`.

    An item of the catalogue without a text here is found by the beam alone; an item here that left the catalogue is never found.

    Args:
        language: language tag of the texts, by which `onesearch.evaluation.analysis.make_tokenizer` reads them.
        item_ids: ids of the items.
        vocabulary: number of each term.
        terms: numbers of the distinct terms of all items, item after item, int64 ``(entries,)``.
        counts: how often each occurs in its item, int64 ``(entries,)``.
        lengths: number of distinct terms of each item, int64 ``(items,)``.
        popularity: popularity of items by their ids, from 0 to 1; an item that is not named has 0.
    """

    language: str
    item_ids: tuple[str, ...]
    vocabulary: dict[str, int]
    terms: np.ndarray
    counts: np.ndarray
    lengths: np.ndarray
    popularity: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, market: Market) -> TextIndex:
        """Build the index of a market's catalogue.

        Raises:
            MissingExtraError: the extra ``evaluation`` is not installed.
            ValueError: no item has any text.
        """
        nothing = np.zeros(0, dtype=np.int64)
        empty = cls(market_language(market), (), {}, nothing, nothing, nothing, popularity_of(market))
        index = empty.with_items(market.items.data.column("item_id").to_pylist(), item_texts(market))
        if not len(index.terms):
            raise ValueError(
                f"all {len(index.item_ids)} items are without text; check the columns that text_fields in market.json names, or leave the "
                "text index out (reward.text_index: false)"
            )
        return index

    def with_items(self, item_ids: Sequence[str], texts: Sequence[str]) -> TextIndex:
        """Return an index with further items; it scores as if it had been built with them. `save` writes it.

        Args:
            item_ids: the items. One that is here already gets its new text in place of the old one.
            texts: their texts, as `onesearch.data.text.item_texts` makes them.

        Raises:
            MissingExtraError: the extra ``evaluation`` is not installed.
            ValueError: an item is given twice, or there are not as many texts as items.
        """
        if len(item_ids) != len(texts):
            raise ValueError(f"{len(texts)} texts for {len(item_ids)} items; give one per item")
        new_ids = set(item_ids)
        if len(new_ids) < len(item_ids):
            twice = Counter(item_ids).most_common(1)[0][0]
            raise ValueError(f"item {twice!r} is given twice; give each item once, with one text")
        stays = np.array([item_id not in new_ids for item_id in self.item_ids], dtype=bool)
        is_kept = np.repeat(stays, self.lengths)
        every = (*(item_id for item_id in self.item_ids if item_id not in new_ids), *item_ids)
        vocabulary = dict(self.vocabulary)
        terms: list[int] = []
        counts: list[int] = []
        lengths: list[int] = []
        for text in texts:
            found = Counter(self._tokens(text))
            lengths.append(len(found))
            counts.extend(found.values())
            terms.extend(vocabulary.setdefault(term, len(vocabulary)) for term in found)
        parts = [(self.terms[is_kept], terms), (self.counts[is_kept], counts), (self.lengths[stays], lengths)]
        joined = [np.concatenate([own, np.array(new, dtype=np.int64)]) for own, new in parts]
        return TextIndex(self.language, every, vocabulary, joined[0], joined[1], joined[2], self.popularity)

    def search(self, query: str, count: int, keep: Keep | None = None) -> list[str]:
        """Find the items whose texts fit a query best. Items without a term of the query are not found.

        Args:
            query: words to search for.
            count: largest number of items.
            keep: returns of a list of items which of them may be found; None allows all.

        Returns:
            Ids of at most `count` items, best first; equal scores keep the order in which the items were added.
        """
        return [item_id for item_id, _ in self.ranked(query, count, keep)]

    def ranked(self, query: str, count: int, keep: Keep | None = None) -> list[tuple[str, float]]:
        """Return the items of `search`, which documents the arguments, with their BM25 scores."""
        scores = self.scores(query)
        return best_items(scores, int((scores > 0).sum()), self.item_ids, count, keep)

    def scores(self, query: str) -> np.ndarray:
        """BM25 score of every item under a query, float32 ``(items,)``; a term that occurs twice in the query counts twice."""
        scores = np.zeros(len(self.item_ids), dtype=np.float32)
        starts, items, weights = self._postings
        for term in self._tokens(query):
            number = self.vocabulary.get(term)
            if number is not None:
                own = slice(starts[number], starts[number + 1])
                scores[items[own]] += weights[own]
        return scores

    def match(self, query: str, item_ids: Sequence[str]) -> np.ndarray:
        """BM25 scores of items as shares of the best score of the catalogue, float64 ``(items,)``; 0 for an item without a text here."""
        scores = self.scores(query)
        best = float(scores.max(initial=0.0))
        rows = [self._row_of.get(item_id, -1) for item_id in item_ids]
        return np.array([float(scores[row]) / best if best and row >= 0 else 0.0 for row in rows], dtype=np.float64)

    def popular(self, item_ids: Sequence[str]) -> np.ndarray:
        """Popularity of items, float64 ``(items,)``."""
        return np.array([self.popularity.get(item_id, 0.0) for item_id in item_ids], dtype=np.float64)

    def save(self, path: str | Path) -> None:
        """Write the index to a safetensors file, whole or not at all."""
        arrays = {"terms": self.terms, "counts": self.counts, "lengths": self.lengths}
        arrays["popularity"] = self.popular(self.item_ids)
        arrays |= strings_to_arrays("items", self.item_ids) | strings_to_arrays("vocabulary", list(self.vocabulary))
        write_tensors(path, arrays, {"format": FORMAT, "language": self.language})

    @classmethod
    def load(cls, path: str | Path) -> TextIndex:
        """Read the file that `save` wrote. The extra ``evaluation`` is needed when the index is used, not here.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: the file is damaged.
        """
        metadata, tensors = read_tensors(path, FORMAT, REMEDY)
        item_ids, terms = (strings_from_arrays(name, tensors) for name in ("items", "vocabulary"))
        vocabulary = {term: number for number, term in enumerate(terms)}
        terms_of, counts, lengths = (tensors[name] for name in ("terms", "counts", "lengths"))
        popularity = dict(zip(item_ids, tensors["popularity"].tolist()))
        return cls(metadata["language"], tuple(item_ids), vocabulary, terms_of, counts, lengths, popularity)

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {item_id: row for row, item_id in enumerate(self.item_ids)}

    @cached_property
    def _tokens(self) -> Callable[[str], list[str]]:
        require_text_search()
        return make_tokenizer(self.language)

    @cached_property
    def _postings(self) -> Postings:
        """w(t, d) = ln(1 + (N - df + ½) / (df + ½)) · tf / (tf + k₁ (1 - b + b · |d| / mean |d|)), sorted by term, then by item."""
        items = np.repeat(np.arange(len(self.item_ids)), self.lengths)
        of_item = np.bincount(items, weights=self.counts, minlength=len(self.item_ids))
        frequency = np.bincount(self.terms, minlength=len(self.vocabulary))
        rarity = np.log1p((len(self.item_ids) - frequency + 0.5) / (frequency + 0.5))
        norm = K1 * (1 - B + B * of_item / of_item.mean())
        weights = rarity[self.terms] * self.counts / (self.counts + norm[items])
        order = np.argsort(self.terms, kind="stable")
        return Postings(np.append(0, np.cumsum(frequency)), items[order], weights[order].astype(np.float32))


__all__ = ["TEXT_INDEX_NAME", "Postings", "TextIndex", "require_text_search"]
