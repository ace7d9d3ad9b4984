"""Facts of an item that the encoder reads beside its text: price, statistics, features, keywords, OCR text, description.

OneSearch (arXiv 2509.03236, KHQE step A) embeds items by title, price, keywords, OCR text and business statistics. It publishes no form;
our choice: numbers enter as bands, each a reserved token such as ``<|price_3|>`` with a vector of its own, and words enter as words.
Everything is fitted on the catalogue and the training sessions once and then frozen in ``embeddings/item_facts.json``, so that a later
item gets the bands and keywords that an equal item has.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from onesearch.data.market import Market
from onesearch.data.text import item_texts
from onesearch.files import read_json, write_json

from .embedding.configs import BANDED_FACTS, ITEM_FACTS, TextEncoderConfig
from .embedding.fact_kinds import OPENING, CountFact, Fact, FeatureFact, PriceFact, TextFact
from .keywords.keywords import CoreKeywords, Keyword

logger = logging.getLogger(__name__)

ITEM_FACTS_NAME = "item_facts.json"
"""File of the frozen facts, in the folder of the embeddings."""

FORMAT = "onesearch-item-facts/1"


class KeywordFact:
    """Core keywords that an item's text names, once more: the words that matter weigh more than the rest of a cluttered title.

    Args:
        keywords: keywords of all types.
        core: upper bound of the keywords of one item, those that queries ask for most; None keeps all.
    """

    markers: Sequence[str] = ()

    def __init__(self, keywords: Sequence[Keyword], core: int | None) -> None:
        self._core = CoreKeywords(list(keywords), np.zeros((len(keywords), 0), dtype=np.float32), core)

    @classmethod
    def fit(cls, market: Market, core: int | None) -> KeywordFact:
        """Mine the keywords of a market's items and training sessions."""
        from .keywords.keyword_mining import mine_keywords

        return cls(mine_keywords(market), core)

    def words(self, market: Market) -> list[str]:
        """Keywords of each item."""
        texts = [keyword.text for keyword in self._core.keywords]
        return [" ".join(texts[row] for row in rows) for rows in self._core.match(item_texts(market))]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        rows = [[keyword.text, keyword.kind, keyword.page_views, keyword.asked] for keyword in self._core.keywords]
        return {"keywords": rows, "core": self._core.core}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> KeywordFact:
        """Read what `to_dict` gave."""
        return cls([Keyword(*row) for row in stored["keywords"]], stored["core"])


@dataclass(frozen=True)
class ItemFacts:
    """The facts of a run's encoder; without facts the text of an item is `item_texts` alone.

    Args:
        facts: name → fact, in the order of `ITEM_FACTS`.

    Example:
        >>> facts = ItemFacts.fit(market, TextEncoderConfig(facts=("price", "clicks")))  # doctest: +SKIP
        >>> facts.texts(market)[0]  # doctest: +SKIP
        '<|price_1|> <|clicks_4|> red dress'
    """

    facts: Mapping[str, Fact]

    @classmethod
    def fit(cls, market: Market, config: TextEncoderConfig) -> ItemFacts:
        """Fit the facts that a config names on a market's items and training sessions.

        Raises:
            ValueError: the features of two items differ in number.
        """
        found = {name: _FIT[name](market, config) for name in ITEM_FACTS if name in config.facts}
        for name, fact in found.items():
            if not any(fact.words(market)):
                logger.warning("encoder.facts names %s, which no item of the market has: it adds nothing", name)
        return cls(found)

    @property
    def markers(self) -> list[str]:
        """All reserved tokens, which the encoder's vocabulary must have."""
        return [marker for fact in self.facts.values() for marker in fact.markers]

    def texts(self, market: Market) -> list[str]:
        """What the encoder reads of each item: tokens of bands, its text fields, and facts in words.

        A transformer cuts long texts at their end, where the least is lost.

        Args:
            market: items. Statistics that are counted in sessions come from its training sessions; new items have none.

        Raises:
            ValueError: an item has another number of features than the catalogue had.
        """
        texts = item_texts(market)
        if not self.facts:
            return texts
        found = {name: fact.words(market) for name, fact in self.facts.items()}
        banded = [words for name, words in found.items() if name in BANDED_FACTS]
        in_words = [texts, *(words for name, words in found.items() if name not in BANDED_FACTS)]
        parts = [*banded, *([_plain(text) for text in words] for words in in_words)]
        return [" ".join(filter(None, of_item)) for of_item in zip(*parts)]

    def save(self, folder: Path) -> None:
        """Write ``item_facts.json`` into `folder`, unless there are no facts."""
        if self.facts:
            stored = {name: fact.to_dict() for name, fact in self.facts.items()}
            write_json(folder / ITEM_FACTS_NAME, {"format": FORMAT, "facts": stored})

    @classmethod
    def load(cls, folder: Path) -> ItemFacts:
        """Read what `save` wrote; a folder without the file has no facts.

        Raises:
            ValueError: the file has another format.
        """
        path = folder / ITEM_FACTS_NAME
        if not path.is_file():
            return cls({})
        stored = read_json(path)
        if not isinstance(stored, dict) or stored.get("format") != FORMAT:
            raise ValueError(f"{path} does not have the format {FORMAT!r}; embed again with `onesearch sids build --rebuild`")
        return cls({name: _READ[name](values) for name, values in stored["facts"].items()})


def _plain(text: str) -> str:
    """The text without the beginning of a reserved token, so that no title can claim a band."""
    return text.replace(OPENING, "< |")


def _count_fact(name: str) -> Callable[[Market, TextEncoderConfig], Fact]:
    return lambda market, config: CountFact.fit(name, market, config.bands)


_FIT: Mapping[str, Callable[[Market, TextEncoderConfig], Fact]] = {
    "price": lambda market, config: PriceFact.fit(market, config.bands),
    **{name: _count_fact(name) for name in CountFact.COLUMNS},
    "features": lambda market, config: FeatureFact.fit(market, config.bands),
    "keywords": lambda market, config: KeywordFact.fit(market, config.core_keywords),
    "ocr": lambda market, config: TextFact("ocr_text"),
    "description": lambda market, config: TextFact("description"),
}
"""Fact → function that fits it on a market."""

_READ: Mapping[str, Callable[[Mapping[str, Any]], Fact]] = {
    "price": PriceFact.from_dict,
    **dict.fromkeys(CountFact.COLUMNS, CountFact.from_dict),
    "features": FeatureFact.from_dict,
    "keywords": KeywordFact.from_dict,
    "ocr": TextFact.from_dict,
    "description": TextFact.from_dict,
}
"""Fact → function that reads it from its plain values."""

__all__ = ["FORMAT", "ITEM_FACTS_NAME", "ItemFacts", "KeywordFact"]
