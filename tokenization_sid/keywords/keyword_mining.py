"""Keyword lists of a market: values of its items, and the phrases with which queries name them before a click.

OneSearch (arXiv 2509.03236, KHQE step B) takes a pool per attribute type from a year of clicked query–item pairs, most page views first.
It finds the phrases with a recogniser that is not published. Our choice: a phrase of a query counts if it is a value of the clicked
items, or a part of one. `recognised.py` adds the finds of a recogniser of our own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from onesearch.data.languages import market_language, template_language
from onesearch.data.market import Market
from onesearch.data.schema import ATTRIBUTE_TYPES

from .catalogue_values import AttributeValues, CatalogueValues
from .keyword_sources import ClickLog, incidence
from .keywords import Keyword
from .matching import KeywordMatcher
from .phrases import bilingual_halves

MAX_CHARACTERS = 40
"""Upper bound of the characters of a keyword. Longer values are sentences, such as specifications of Icecat products. Our choice."""

PRIOR_PAIRS = 10
"""Number of clicked pairs with the mean ask rate of its type that every keyword has beside its own. Our choice."""


def mine_keywords(
    market: Market,
    per_type: int = 5000,
    min_pairs: int = 3,
    min_share: float = 0.5,
    values: CatalogueValues | None = None,
) -> list[Keyword]:
    """Mine the keyword list of each attribute type.

    1. Candidates of a type are its values, from all columns that name one (`CatalogueValues`); both halves of its bilingual values
       (苹果/apple); and phrases of training queries that occur in its values as whole words, such as "dyson" in the brand "dyson ltd".
       Texts of one character and of more than `MAX_CHARACTERS` are left out.
    2. The support of a candidate is the number of clicked pairs whose query names it and whose item has a value of the type that is or
       contains it. Clicked pairs are (session, clicked or bought item) of the training split.
    3. Values and halves are kept. A phrase is kept if its support is at least `min_pairs`, and at least `min_share` of the clicked pairs
       whose query names it.
    4. The page views of a candidate are its support, plus for each item that carries it 1 and the number of training sessions that
       showed the item or in which it was clicked or bought.
    5. The `per_type` candidates with the most page views are the list.
    6. The ask rate of a keyword is the share of the clicked pairs with an item that carries it whose query names it, together with
       `PRIOR_PAIRS` pairs at the mean rate of its type. It says which of the many keywords of a title are the core of it.

    The paper gives none of the limits; their values are our choice.

    Args:
        market: items and training sessions.
        per_type: upper bound of the keywords of each type.
        min_pairs: clicked pairs that a phrase needs. Raising it drops rare phrases.
        min_share: share of its clicked pairs that must lead to items of the type. Raising it drops phrases with other meanings.
        values: values of the market's items, if they have been read already.

    Returns:
        Keywords of all types, in the order of `ATTRIBUTE_TYPES`, most page views first.
    """
    values = values or read_values(market)
    log = ClickLog.read(market)
    texts = _candidates(values.by_kind.values(), log, min_pairs)
    matcher = KeywordMatcher(texts)
    named = incidence([matcher.match(query) for query in log.queries], len(texts))
    total = named[log.pair_queries].T @ log.pair_counts
    item_clicks = np.bincount(log.pair_items, log.pair_counts, minlength=values.items)
    found: list[Keyword] = []
    for kind, part in values.by_kind.items():
        if not part.texts:
            continue
        inside = incidence([matcher.occurrences(text) for text in part.texts], len(texts))
        carries = part.carriers(inside, values.items)
        support = log.support(named, carries)
        trusted = (support >= min_pairs) & (support >= min_share * total)
        views = carries.T @ log.item_views + support
        rows = np.flatnonzero((part.own(texts) | trusted) & (views > 0))
        asked = _ask_rates(support, carries.T @ item_clicks, rows)
        found += _most_viewed(kind, texts, rows, views, asked)[:per_type]
    return found


def read_values(market: Market) -> CatalogueValues:
    """Values of a market's items."""
    return CatalogueValues.read(market.items.with_format("arrow")[:], template_language(market_language(market)))


def merge_keywords(mined: Sequence[Keyword], dictionary: Sequence[Keyword]) -> list[Keyword]:
    """Merge mined keywords with others: per type, most page views first.

    A keyword of both keeps the larger count and its own ask rate. One that was not mined has the mean ask rate of its type.
    """
    asked = {(keyword.kind, keyword.text): keyword.asked for keyword in mined}
    of_kind = {kind: [keyword.asked for keyword in mined if keyword.kind == kind] or [0.0] for kind in ATTRIBUTE_TYPES}
    means = {kind: float(np.mean(rates)) for kind, rates in of_kind.items()}
    views: dict[tuple[str, str], int] = {}
    for keyword in (*mined, *dictionary):
        key = (keyword.kind, keyword.text)
        views[key] = max(views.get(key, 0), keyword.page_views)
    place = {kind: order for order, kind in enumerate(ATTRIBUTE_TYPES)}
    ranked = sorted(views, key=lambda key: (place[key[0]], -views[key], key[1]))
    return [Keyword(text, kind, views[kind, text], asked.get((kind, text), means[kind])) for kind, text in ranked]


def _candidates(values: Iterable[AttributeValues], log: ClickLog, min_pairs: int) -> list[str]:
    """Candidates of all types (step 1), sorted."""
    given = {text for part in values for text in part.texts}
    halves = {half for text in given for half in bilingual_halves(text)}
    phrases = sorted(log.phrases(min_pairs) - given - halves)
    matcher = KeywordMatcher(phrases)
    parts = {phrases[row] for text in given for row in matcher.occurrences(text)}
    return sorted(text for text in given | halves | parts if 1 < len(text) <= MAX_CHARACTERS)


def _ask_rates(support: np.ndarray, clicks: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Ask rate of each text, for the keywords `rows` of one type (step 6).

    Args:
        support: (texts,) clicked pairs whose query names the text and whose item carries it.
        clicks: (texts,) clicked pairs whose item carries it.
        rows: rows of the keywords.
    """
    mean = support[rows].sum() / max(clicks[rows].sum(), 1)
    return (support + PRIOR_PAIRS * mean) / (clicks + PRIOR_PAIRS)


def _most_viewed(kind: str, texts: Sequence[str], rows: np.ndarray, views: np.ndarray, asked: np.ndarray) -> list[Keyword]:
    """Keywords of `rows` of `texts`, most `views` (texts,) first, of equal views in the order of their texts."""
    ranked = sorted(rows.tolist(), key=lambda row: (-views[row], texts[row]))
    return [Keyword(texts[row], kind, int(views[row]), float(asked[row])) for row in ranked]


__all__ = ["merge_keywords", "mine_keywords", "read_values"]
