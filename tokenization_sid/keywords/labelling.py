"""Labels for the recogniser without a person who labels: the lists and the values of the items say which words of a text are values.

A value of the item itself (for a query: of the items that were clicked after it) decides the type of a word. A keyword that is none of
these counts only if the item has no value of its type, as an item rarely has two. Other words of titles are no values. Other words of
queries have the type that `associations.py` finds, and no label if nothing is known of them. Our choice: the paper's recogniser is not
published.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import csr_matrix

from onesearch.data.market import Market

from .associations import associated_types
from .catalogue_values import CatalogueValues
from .keyword_sources import ClickLog
from .keywords import Keyword
from .matching import KeywordMatcher, Span, normalise
from .recogniser_training import IGNORED, LabelledText
from .words import LABELS, TypedSpan, labels_of, words_of


class Labeller:
    """Labels texts by the lists and by what is known of their items.

    Args:
        keywords: the lists.
        values: values of the items of the market.
    """

    def __init__(self, keywords: Sequence[Keyword], values: CatalogueValues) -> None:
        self.values = values
        self.types: dict[str, dict[str, int]] = {}
        for keyword in keywords:
            self.types.setdefault(keyword.text, {})[keyword.kind] = keyword.page_views
        self.matcher = KeywordMatcher(list(self.types))

    def titles(self, market: Market) -> list[LabelledText]:
        """Labelled titles of all items."""
        own = self.values.of_items()
        titles = market.items.data.column("title").to_pylist()
        return [self.labelled(title, {value: 1.0 for value in values}) for title, values in zip(titles, own)]

    def queries(self, log: ClickLog) -> list[LabelledText]:
        """Labelled queries that were followed by a click, each once."""
        shape = (len(log.queries), self.values.items)
        clicks = csr_matrix((log.pair_counts, (log.pair_queries, log.pair_items)), shape=shape)
        counts = (clicks @ self.values.matrix()).tocsr()
        types = associated_types(log, self.values)
        found = []
        for row in np.unique(log.pair_queries).tolist():
            part = slice(counts.indptr[row], counts.indptr[row + 1])
            carried = {self.values.pairs[column]: count for column, count in zip(counts.indices[part], counts.data[part])}
            found.append(_completed(self.labelled(log.queries[row], carried), types))
        return found

    def labelled(self, text: str, own: Mapping[tuple[str, str], float]) -> LabelledText:
        """Label a text.

        Args:
            text: any text.
            own: how often its items have the value, for each (type, value).
        """
        plain = normalise(text)
        kinds = {kind for kind, _ in own}
        candidates = []
        for span in self.matcher.all_spans(plain):
            name = self.matcher.texts[span.row]
            types = self.types[name]
            mine = {kind: own[kind, name] for kind in types if (kind, name) in own}
            others = {kind: views for kind, views in types.items() if kind not in kinds}
            if mine or others:
                ranked = mine or others
                candidates.append((not mine, span, max(ranked, key=lambda kind: ranked[kind])))
        words = words_of(plain)
        return LabelledText([plain[word.start : word.end] for word in words], labels_of(words, _apart(candidates)))


def _completed(query: LabelledText, types: Mapping[str, str | None]) -> LabelledText:
    """A labelled query whose other words have the labels of their associated types, and `IGNORED` without one."""
    labels = list(query.labels)
    for row, word in enumerate(query.words):
        if labels[row] or not word.isalnum():
            continue
        kind = types.get(word)
        if kind is not None:
            labels[row] = LABELS.index(f"B-{kind}")
        elif word not in types:
            labels[row] = IGNORED
    return LabelledText(query.words, labels)


def _apart(candidates: Sequence[tuple[bool, Span, str]]) -> list[TypedSpan]:
    """Spans that share no character: those of own values first, then the longest."""
    kept: list[TypedSpan] = []
    ranked = sorted(candidates, key=lambda entry: (entry[0], entry[1].start - entry[1].end, entry[1].start))
    for _, span, kind in ranked:
        if all(span.end <= other.start or other.end <= span.start for other in kept):
            kept.append(TypedSpan(span.start, span.end, kind))
    return kept


__all__ = ["Labeller"]
