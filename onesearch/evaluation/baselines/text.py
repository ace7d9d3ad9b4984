"""BM25 over the item texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import Request
from onesearch.data.text import item_texts
from onesearch.extras import require

from ..retrievers import Ranking
from .training import best_rows, make_ranking

LANGUAGES = ("en", "zh")

_WORD = re.compile(r"\w+")
_CHINESE = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]+")


class BM25Retriever:
    """BM25 (Lucene's variant) over `onesearch.data.text.item_texts`. Reads the catalogue only, no sessions.

    * English: lower-cased runs of letters and digits, single characters included ("4 GB"), bm25s' English stop words left
      out, the rest stemmed with Snowball.
    * Chinese: every run of Chinese characters becomes its overlapping bigrams (Lucene's CJK analysis); other words stay whole.

    Only items that share a term with the query are returned, so a ranking may be short or empty.

    Args:
        market: catalogue.
        language: ``en`` or ``zh``; default ``market.info["language"]``, else ``en``.
        k1, b: BM25's saturation and length normalisation.
        fields: fields of the item text; default as in `item_texts`.
        stem: stem English words; without it the published figures of Chorus electronics are met.
        cache: answers kept for repeated queries.

    Raises:
        ValueError: the language is unknown or no item has any text.
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
    ):
        require("evaluation", "bm25s", needed_by="BM25Retriever")
        import bm25s

        self.item_ids = np.array(market.items.data.column("item_id").to_pylist(), dtype=object)
        self._tokens = make_tokenizer(language or market.info.get("language", "en"), stem)
        texts = [self._tokens(text) for text in item_texts(market, fields)]
        if not any(texts):
            raise ValueError(
                f"none of the {len(texts)} items has any text; check the columns named in market.json's text_fields"
            )
        self._index = bm25s.BM25(k1=k1, b=b)
        self._index.index(texts, show_progress=False)
        self.search_rows = lru_cache(maxsize=cache)(self._search_rows)

    def retrieve(self, requests: Sequence[Request], top_k: int) -> list[Ranking]:
        """Rank by BM25; equal scores in catalogue order."""
        return [make_ranking(self.item_ids, *self.search_rows(request.query, top_k)) for request in requests]

    def _search_rows(self, query: str, top_k: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows and scores of the best `top_k` items that share a term with `query`, both ``(hits,)``."""
        terms = self._index.get_tokens_ids(self._tokens(query))
        if not terms:
            return np.zeros(0, dtype=np.int64), np.zeros(0)
        scores = self._index.get_scores(terms)
        rows = best_rows(scores, top_k)
        rows = rows[scores[rows] > 0]
        return rows, scores[rows]


def make_tokenizer(language: str, stem: bool = True) -> Callable[[str], list[str]]:
    """Function from a text to its index terms; see `BM25Retriever` for the two languages."""
    if language == "zh":
        return _chinese_terms
    if language != "en":
        raise ValueError(f"language {language!r} is unknown; allowed are {', '.join(LANGUAGES)} (market.json, key language)")
    from bm25s.stopwords import STOPWORDS_EN

    stopwords = frozenset(STOPWORDS_EN)
    if not stem:
        return lambda text: [word for word in _WORD.findall(text.lower()) if word not in stopwords]
    require("evaluation", "Stemmer", needed_by="BM25Retriever with stem=True")
    import Stemmer

    stem_words = Stemmer.Stemmer("english").stemWords
    return lambda text: stem_words([word for word in _WORD.findall(text.lower()) if word not in stopwords])


def _chinese_terms(text: str) -> list[str]:
    terms: list[str] = []
    for word in _WORD.findall(text.lower()):
        end = 0
        for run in _CHINESE.finditer(word):
            terms.extend([word[end : run.start()]] if run.start() > end else [])
            characters = run.group()
            terms.extend(characters[i : i + 2] for i in range(max(1, len(characters) - 1)))
            end = run.end()
        terms.extend([word[end:]] if end < len(word) else [])
    return terms
