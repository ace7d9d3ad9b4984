"""Keywords of a market as a run uses them: the mined lists, those of a dictionary, and the finds of a recogniser trained on the market."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from onesearch.data.market import Market

from .configs import KeywordConfig, RecogniserConfig
from .keyword_mining import MAX_CHARACTERS, merge_keywords, mine_keywords, read_values
from .keyword_sources import ClickLog
from .keywords import Keyword
from .labelling import Labeller
from .matching import normalise
from .price_bands import PriceBands
from .recogniser import FOLDER, TokenRecogniser
from .recogniser_training import train_recogniser

logger = logging.getLogger(__name__)

PER_TYPE = 5000
"""Upper bound of the recognised keywords of each type, as for mined ones. Our choice."""


class MarketKeywords(NamedTuple):
    """Keywords of a market, and the price bands of its catalogue."""

    keywords: list[Keyword]
    bands: PriceBands


def market_keywords(
    market: Market, given: Sequence[Keyword], config: KeywordConfig, folder: Path | None = None
) -> MarketKeywords:
    """Mine the keywords of a market, and recognise further ones if `config` says so.

    Args:
        market: items and training sessions.
        given: keywords of a dictionary.
        config: settings.
        folder: folder that gets the recogniser as ``recogniser/``; None keeps it nowhere.
    """
    values = read_values(market)
    found = merge_keywords(mine_keywords(market, values=values), given)
    if not config.recogniser:
        return MarketKeywords(found, values.bands)
    log = ClickLog.read(market)
    labeller = Labeller(found, values)
    recogniser = train_recogniser(labeller.titles(market), labeller.queries(log), config.training)
    if recogniser is None:
        logger.warning("no title or query holds a value of an item, so that no recogniser is trained")
        return MarketKeywords(found, values.bands)
    if folder is not None:
        recogniser.save_pretrained(folder / FOLDER)
    more = recognised_keywords(recogniser, market, log, {keyword.text for keyword in found}, config.training)
    logger.info("recogniser: %d keywords beside %d of the lists", len(more), len(found))
    return MarketKeywords(merge_keywords(found, more), values.bands)


def recognised_keywords(
    recogniser: TokenRecogniser, market: Market, log: ClickLog, known: set[str], config: RecogniserConfig
) -> list[Keyword]:
    """Keywords that a recogniser finds in titles and clicked queries and that no list holds.

    Args:
        recogniser: recogniser of the market.
        market: its titles are read.
        log: its queries are read.
        known: texts of the lists.
        config: its `min_score` and `min_texts` are used.

    Returns:
        Keywords with the views of their titles and the clicked pairs of their queries as page views. A text that is recognised as
        several types has the most frequent one.
    """
    titles = [normalise(title) for title in market.items.data.column("title").to_pylist()]
    asked = [0.0] * len(log.queries)
    for row, count in zip(log.pair_queries.tolist(), log.pair_counts.tolist()):
        asked[row] += count
    texts = Counter[tuple[str, str]]()
    views = Counter[tuple[str, str]]()
    for part, weights in ((titles, log.item_views.tolist()), (log.queries, asked)):
        for text, weight, spans in zip(part, weights, recogniser.recognise(part)):
            for key in {(span.kind, text[span.start : span.end]) for span in spans if span.score >= config.min_score}:
                texts[key] += 1
                views[key] += weight
    usual: dict[str, tuple[str, str]] = {}
    for key, count in sorted(texts.items()):
        if key[1] not in usual or count > texts[usual[key[1]]]:
            usual[key[1]] = key
    kept = [key for key in usual.values() if texts[key] >= config.min_texts and 1 < len(key[1]) <= MAX_CHARACTERS]
    return _most_viewed((Keyword(text, kind, int(views[kind, text])) for kind, text in kept if text not in known))


def _most_viewed(keywords: Iterable[Keyword]) -> list[Keyword]:
    """The `PER_TYPE` keywords of each type with the most page views."""
    counts: Counter[str] = Counter()
    kept = []
    for keyword in sorted(keywords, key=lambda keyword: (-keyword.page_views, keyword.text)):
        counts[keyword.kind] += 1
        if counts[keyword.kind] <= PER_TYPE:
            kept.append(keyword)
    return kept


__all__ = ["MarketKeywords", "market_keywords", "recognised_keywords"]
