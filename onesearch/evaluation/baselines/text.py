"""BM25 over item texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from onesearch.data.languages import market_language
from onesearch.data.market import Market
from onesearch.data.requests import Request
from onesearch.data.text import item_texts
from onesearch.extras import import_bm25s

from ..analysis import make_tokenizer
from ..retrievers import Ranking
from .training import best_rows, make_ranking


class BM25Retriever:
    """BM25 (Lucene's variant) over `onesearch.data.text.item_texts`. It reads the catalogue and no sessions.

    `onesearch.evaluation.analysis.make_tokenizer` describes the analysis of each language. Only items that share a term with the query are
    returned, so a ranking may be short or empty.

    Args:
        market: catalogue.
        language: language tag, for example ``de``. Default: ``market.info["language"]``, else the language of the titles.
        k1: saturation of the term frequency; raising it lets repeated terms count more.
        b: length normalisation, 0 to 1; raising it penalises long texts more.
        fields: fields of the item text. Default: as in `item_texts`.
        stem: stem words. Without stemming, the published figures of Chorus electronics are reproduced.
        cache: number of queries whose answers are kept.

    Raises:
        MissingExtraError: bm25s or, for stemming, PyStemmer is not installed.
        ValueError: the language is no language tag, or no item has any text.
    """

    name = "bm25"

    def __init__(
        self,
        market: Market,
        *,
        language: str | None = None,
        k1: float = 1.2,
        b: float = 0.75,
        fields: Sequence[str] | None = None,
        stem: bool = True,
        cache: int = 4096,
    ) -> None:
        bm25s = import_bm25s("BM25Retriever")
        self.item_ids = np.array(market.items.data.column("item_id").to_pylist(), dtype=object)
        self._tokens = make_tokenizer(language or market_language(market), stem)
        texts = [self._tokens(text) for text in item_texts(market, fields)]
        if not any(texts):
            raise ValueError(
                f"all {len(texts)} items are without text; check the columns that text_fields in market.json names"
            )
        self._index = bm25s.BM25(k1=k1, b=b)
        self._index.index(texts, show_progress=False)
        self.search_rows = lru_cache(maxsize=cache)(self._search_rows)

    def retrieve(self, requests: Sequence[Request], top_k: int) -> list[Ranking]:
        """Rank items by BM25. Items with equal scores stay in catalogue order."""
        return [make_ranking(self.item_ids, *self.search_rows(request.query, top_k)) for request in requests]

    def _search_rows(self, query: str, top_k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and scores of the best items that share a term with `query`, at most `top_k`, both ``(hits,)``."""
        terms = self._index.get_tokens_ids(self._tokens(query))
        if not terms:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        scores = self._index.get_scores(terms)
        rows = best_rows(scores, top_k)
        rows = rows[scores[rows] > 0]
        return rows, scores[rows]
