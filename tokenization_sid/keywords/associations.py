"""Words of queries that no list holds, typed by what was clicked after them: "trainer" leads to items whose entity is "sneaker".

A word belongs to the type of a value that its clicked items have often and other clicked items seldom. Our choice: the paper trains its
recogniser on clicked query–item pairs and gives no method.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from .catalogue_values import CatalogueValues
from .keyword_sources import ClickLog, incidence
from .words import words_of

MIN_PAIRS = 10
"""Number of clicked pairs that a word needs; nothing is known of rarer ones. Our choice."""

TYPED_SHARE, TYPED_LIFT = 0.25, 3.0
"""A word has the type of a value if at least this share of its clicked items have the value, and if this share is at least `TYPED_LIFT`
times the share among all clicked items. Our choice."""

PLAIN_SHARE, PLAIN_LIFT = 0.1, 2.0
"""A word is plain, such as "buy", if no value with at least this share reaches this lift. Nothing is known of a word that is neither typed
nor plain. Our choice."""


def associated_types(log: ClickLog, values: CatalogueValues) -> dict[str, str | None]:
    """Type of each word of the clicked queries, None for a plain word. Words of which nothing is known are left out.

    Steps:
        1. Count the clicked pairs of each word, and those whose item has a value, for each value.
        2. Divide by the pairs of the word (share), and by the share of the value among all clicked pairs (lift).
        3. Of the values that are typed by share and lift, the one with the largest share · log(lift) gives its type.

    Args:
        log: clicked pairs.
        values: values of the items.
    """
    parts = [list(dict.fromkeys(query[word.start : word.end] for word in words_of(query))) for query in log.queries]
    words = list(dict.fromkeys(word for part in parts for word in part if word.isalnum()))
    row_of = {word: row for row, word in enumerate(words)}
    named = incidence([[row_of[word] for word in part if word in row_of] for part in parts], len(words))
    clicks = csr_matrix((log.pair_counts, (log.pair_queries, log.pair_items)), shape=(len(parts), values.items))
    totals = named.T @ np.asarray(clicks.sum(axis=1)).ravel()
    of_items = values.matrix()
    chances = of_items.T @ np.asarray(clicks.sum(axis=0)).ravel() / max(clicks.sum(), 1)
    counts = (named.T @ clicks @ of_items).tocsr()
    found: dict[str, str | None] = {}
    for row in np.flatnonzero(totals >= MIN_PAIRS).tolist():
        part = slice(counts.indptr[row], counts.indptr[row + 1])
        columns, shares = counts.indices[part], counts.data[part] / totals[row]
        lifts = shares / chances[columns]
        typed = np.where((shares >= TYPED_SHARE) & (lifts >= TYPED_LIFT), shares * np.log(lifts), 0)
        if typed.any():
            found[words[row]] = values.pairs[columns[int(typed.argmax())]][0]
        elif not ((shares >= PLAIN_SHARE) & (lifts >= PLAIN_LIFT)).any():
            found[words[row]] = None
    return found


__all__ = ["associated_types"]
