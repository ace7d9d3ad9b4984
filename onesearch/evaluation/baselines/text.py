"""BM25 over item texts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from onesearch.data.choices import LANGUAGES
from onesearch.data.market import Market
from onesearch.data.requests import Request
from onesearch.data.text import item_texts
from onesearch.extras import require

from ..retrievers import Ranking
from .training import best_rows, make_ranking

_WORD = re.compile(r"\w+")
_CHINESE = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]+")


class BM25Retriever:
    """BM25 (Lucene's variant) over `onesearch.data.text.item_texts`. It reads the catalogue and no sessions.

    * English: words are runs of letters and digits in lower case, single characters included ("4 GB"). The English stop words of
      bm25s are left out, and the other words are stemmed with Snowball.
    * Chinese: a run of Chinese characters becomes its overlapping bigrams (Lucene's CJK analysis). Other words stay whole.

    Only items that share a term with the query are returned, so a ranking may be short or empty.

    Args:
        market: catalogue.
        language: ``en`` or ``zh``. Default: ``market.info["language"]``, else ``en``.
        k1: saturation of the term frequency; raising it lets repeated terms count more.
        b: length normalisation, 0 to 1; raising it penalises long texts more.
        fields: fields of the item text. Default: as in `item_texts`.
        stem: stem English words. Without stemming, the published figures of Chorus electronics are reproduced.
        cache: number of queries whose answers are kept.

    Raises:
        MissingExtraError: bm25s or, for stemming, PyStemmer is not installed.
        ValueError: the language is unknown, or no item has any text.
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
        require("evaluation", "bm25s", needed_by="BM25Retriever")
        import bm25s

        self.item_ids = np.array(market.items.data.column("item_id").to_pylist(), dtype=object)
        self._tokens = make_tokenizer(language or market.info.get("language") or "en", stem)
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


def make_tokenizer(language: str, stem: bool = True) -> Callable[[str], list[str]]:
    """Return a function that turns a text into index terms; `BM25Retriever` describes the two languages.

    Args:
        language: ``en`` or ``zh``.
        stem: stem English words.

    Raises:
        ValueError: the language is unknown.
    """
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
    """Bigrams of the Chinese runs in a text, and its other words."""
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
