"""Keyword lists of a market: attribute values of its items, and what queries call those values before a click.

OneSearch (arXiv 2509.03236, KHQE step B) takes a pool per attribute type from a year of clicked query–item pairs, most page views first.
It finds the phrases with a recogniser that is not published; here a phrase of a query counts if it is a value of the clicked items, or
a part of one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import csr_matrix

from onesearch.data.columns import flat_lists
from onesearch.data.market import ATTRIBUTE_TYPES, Market
from onesearch.data.session_pairs import session_items

from .keywords import Keyword, KeywordMatcher, is_unspaced, normalise

MAX_QUERIES = 200_000
"""Distinct training queries that are read at most, those with most clicked pairs; ours."""

MAX_RUNS = 4
"""Words (or stretches of unspaced script) of a phrase at most; ours."""

MAX_CHARACTERS = 40
"""Longer values are sentences rather than core keywords (specifications of Icecat products, for instance); ours."""

_CHUNK = 200_000


def mine_keywords(market: Market, per_type: int = 5000, min_pairs: int = 3, min_share: float = 0.5) -> list[Keyword]:
    """Keyword lists of a market, per type those of most page views first.

    Candidates of a type are the values of that attribute; both halves of a bilingual value (苹果/apple); and phrases of training
    queries that lie in such a value as whole words, "dyson" for the brand "dyson ltd". A phrase stands in its query between spaces or
    changes of script, so no word segmentation is guessed. It is kept if `min_pairs` clicked pairs, and `min_share` of those whose
    query names it, lead to an item with such a value. Clicked pairs are (session, clicked or bought item) of the training split.

    Page views: per item that carries the keyword (one of its values is or contains it) 1 and the training sessions that showed it or
    in which it was clicked or bought; per clicked pair whose query and item both name it 1 more.

    Texts of one character, and those longer than `MAX_CHARACTERS`, are no keywords.

    Args:
        per_type: keywords kept of each type. The paper does not give its pool size, nor the two limits below; all three are ours.
        min_pairs: clicked pairs that a phrase needs.
        min_share: share of its clicked pairs that a phrase needs.
    """
    values = {kind: _values(market, kind) for kind in ATTRIBUTE_TYPES}
    log = _Log.read(market)
    given = {text for part in values.values() for text in part.texts}
    halves = {half for text in given for half in bilingual_halves(text)}
    phrases = log.phrases(min_pairs) - given - halves
    parts = KeywordMatcher([Keyword(text, "", 0) for text in sorted(phrases)])
    used = {parts.keywords[row].text for text in given for row in parts.occurrences(text)}
    texts = sorted(text for text in given | halves | used if 1 < len(text) <= MAX_CHARACTERS)
    matcher = KeywordMatcher([Keyword(text, "", 0) for text in texts])
    named = _incidence([matcher.match(query) for query in log.queries], len(texts))
    total = named[log.pair_queries].T @ log.pair_counts
    found: list[Keyword] = []
    for kind, part in values.items():
        if not part.texts:
            continue
        carries = part.carriers([matcher.occurrences(text) for text in part.texts], len(market.items), len(texts))
        support = log.support(named, carries)
        own = part.own(texts)
        trusted = (support >= min_pairs) & (support >= min_share * total)
        views = carries.T @ log.item_views + support
        rows = np.flatnonzero((own | trusted) & (views > 0))
        ranked = sorted(rows.tolist(), key=lambda row: (-views[row], texts[row]))[:per_type]
        found += [Keyword(texts[row], kind, int(views[row])) for row in ranked]
    return found


def merge_keywords(mined: Sequence[Keyword], dictionary: Sequence[Keyword]) -> list[Keyword]:
    """Mined lists and a dictionary in one, per type most page views first; of a keyword in both the larger count stands."""
    views: dict[tuple[str, str], int] = {}
    for keyword in (*mined, *dictionary):
        key = (keyword.kind, keyword.text)
        views[key] = max(views.get(key, 0), keyword.page_views)
    place = {kind: order for order, kind in enumerate(ATTRIBUTE_TYPES)}
    ranked = sorted(views, key=lambda key: (place[key[0]], -views[key], key[1]))
    return [Keyword(text, kind, views[kind, text]) for kind, text in ranked]


def bilingual_halves(text: str) -> tuple[str, ...]:
    """Both names of a value such as 苹果/apple or apple(苹果), where one half is in an unspaced script and the other is not; else ()."""
    halves = [half.strip() for half in re.split(r"[/()|]", text) if half.strip()]
    if len(halves) != 2 or len({any(map(is_unspaced, half)) for half in halves}) == 1:
        return ()
    return tuple(half for half in halves if len(half) > 1)


def phrases_of(query: str) -> set[str]:
    """Runs of a query one after the other, at most `MAX_RUNS`: words of spaced scripts and stretches of unspaced ones."""
    query = normalise(query)
    runs: list[tuple[int, int]] = []
    for match in re.finditer(r"\S+", query):
        start = match.start()
        for place in range(match.start() + 1, match.end() + 1):
            if place == match.end() or is_unspaced(query[place]) != is_unspaced(query[place - 1]):
                runs.append((start, place))
                start = place
    return {
        query[runs[first][0] : runs[last][1]]
        for first in range(len(runs))
        for last in range(first, min(first + MAX_RUNS, len(runs)))
        if runs[last][1] - runs[first][0] > 1
    }


@dataclass(frozen=True)
class _Values:
    """Values of one attribute type: distinct texts, and per entry its item and its text's row."""

    texts: list[str]
    items: np.ndarray
    rows: np.ndarray

    def own(self, texts: Sequence[str]) -> np.ndarray:
        """(texts,) whether a text is a value of this type, or half of a bilingual one."""
        mine = set(self.texts) | {half for text in self.texts for half in bilingual_halves(text)}
        return np.array([text in mine for text in texts], dtype=bool)

    def carriers(self, occurrences: Sequence[Sequence[int]], items: int, width: int) -> csr_matrix:
        """(items, width) 0/1: which item carries which of `width` texts, given those inside each value."""
        of_items = csr_matrix((np.ones(len(self.rows)), (self.items, self.rows)), shape=(items, len(self.texts)))
        carries = (of_items @ _incidence(occurrences, width)).tocsr()
        carries.data[:] = 1
        return carries


def _values(market: Market, kind: str) -> _Values:
    column = market.items.data.column("attributes").combine_chunks()
    items, entries = flat_lists(pc.struct_field(column, kind))
    encoded = entries.dictionary_encode()
    plain = [normalise(text) for text in encoded.dictionary.to_pylist()]
    texts = list(dict.fromkeys(text for text in plain if text))
    row_of = {text: row for row, text in enumerate(texts)}
    rows = np.array([row_of.get(text, -1) for text in plain], dtype=np.int64)
    rows = rows[np.asarray(encoded.indices, dtype=np.int64)] if len(plain) else np.empty(0, dtype=np.int64)
    return _Values(texts, items[rows >= 0], rows[rows >= 0])


@dataclass(frozen=True)
class _Log:
    """Training behaviour: views per item, and the distinct (query, clicked item) pairs with how often they occurred."""

    item_views: np.ndarray
    queries: list[str]
    pair_queries: np.ndarray
    pair_items: np.ndarray
    pair_counts: np.ndarray

    @classmethod
    def read(cls, market: Market) -> _Log:
        _, seen = session_items(market, "train", ("impressed", "clicked", "purchased"))
        views = 1.0 + np.bincount(seen, minlength=len(market.items))
        sessions, items = session_items(market, "train", ("clicked", "purchased"))
        asked = market.sessions.data.column("query").combine_chunks().take(pa.array(sessions)).dictionary_encode()
        plain = [normalise(query) for query in asked.dictionary.to_pylist()]
        row_of = {query: row for row, query in enumerate(dict.fromkeys(query for query in plain if query))}
        rows = np.array([row_of.get(query, -1) for query in plain], dtype=np.int64)
        rows = rows[np.asarray(asked.indices, dtype=np.int64)] if len(plain) else np.empty(0, dtype=np.int64)
        kept = _most_clicked(rows)
        pairs, counts = np.unique(rows[kept] * len(market.items) + items[kept], return_counts=True)
        pair_queries, pair_items = np.divmod(pairs, max(len(market.items), 1))
        return cls(views, list(row_of), pair_queries, pair_items, counts.astype(float))

    def phrases(self, min_pairs: int) -> set[str]:
        """Phrases of queries with at least `min_pairs` clicked pairs."""
        clicks = np.bincount(self.pair_queries, self.pair_counts, minlength=len(self.queries))
        counts: Counter[str] = Counter()
        for row in np.flatnonzero(clicks).tolist():
            counts.update(dict.fromkeys(phrases_of(self.queries[row]), clicks[row]))
        return {phrase for phrase, count in counts.items() if count >= min_pairs}

    def support(self, named: csr_matrix, carries: csr_matrix) -> np.ndarray:
        """(texts,) clicked pairs whose query names a text that the item carries."""
        support = np.zeros(named.shape[1])
        for start in range(0, len(self.pair_counts), _CHUNK):
            part = slice(start, start + _CHUNK)
            both = named[self.pair_queries[part]].multiply(carries[self.pair_items[part]])
            support += both.T @ self.pair_counts[part]
        return support


def _most_clicked(rows: np.ndarray) -> np.ndarray:
    """Which entries belong to one of the `MAX_QUERIES` most frequent queries, (entries,)."""
    counts = np.bincount(rows[rows >= 0])
    if len(counts) <= MAX_QUERIES:
        return rows >= 0
    chosen = np.zeros(len(counts), dtype=bool)
    chosen[np.argsort(-counts, kind="stable")[:MAX_QUERIES]] = True
    return (rows >= 0) & chosen[rows]


def _incidence(rows: Sequence[Iterable[int]], width: int) -> csr_matrix:
    """(rows, width) 0/1 matrix from the columns of each row."""
    lists = [list(columns) for columns in rows]
    ends = np.cumsum([0, *(len(columns) for columns in lists)])
    columns = np.fromiter((column for part in lists for column in part), dtype=np.int64, count=int(ends[-1]))
    return csr_matrix((np.ones(len(columns)), columns, ends), shape=(len(lists), width))


__all__ = ["bilingual_halves", "merge_keywords", "mine_keywords", "phrases_of"]
