"""Core keywords: which attribute values a text names, and their fusion into its embedding (OneSearch, arXiv 2509.03236, KHQE step B)."""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import ahocorasick
import numpy as np

from onesearch.data.market import ATTRIBUTE_TYPES, Market

from .text_encoder import unit_rows


@dataclass(frozen=True)
class Keyword:
    """A value of one of the 18 attribute types, with the page views of the items that carry it."""

    text: str
    kind: str
    page_views: int


def mine_keywords(market: Market, per_type: int = 5000) -> list[Keyword]:
    """Keyword lists of a market, per type the values of most page views first.

    Page views are clicks and purchases in the whole market's training sessions plus one per item, so that a value nobody clicked counts.

    Args:
        per_type: values kept of each type; the paper does not give its pool size, this is ours.
    """
    from onesearch.data.requests import split_sessions

    views: Counter[str] = Counter(market.items["item_id"])
    in_training = split_sessions(market) == 0
    for column in ("clicked", "purchased"):
        for trains, items in zip(in_training, market.sessions.data.column(column).to_pylist()):
            if trains:
                views.update(items)
    totals: dict[str, Counter[str]] = defaultdict(Counter)
    for item_id, attributes in zip(market.items["item_id"], market.items.data.column("attributes").to_pylist()):
        for kind, values in attributes.items():
            for value in values:
                totals[kind][normalise(value)] += views[item_id]
    return [
        Keyword(text, kind, count)
        for kind in ATTRIBUTE_TYPES
        for text, count in sorted(totals[kind].items(), key=lambda entry: (-entry[1], entry[0]))[:per_type]
        if len(text) > 1
    ]


def normalise(text: str) -> str:
    """Lower-cased NFKC text with single spaces, as keywords are compared."""
    return " ".join(unicodedata.normalize("NFKC", text).lower().split())


class KeywordMatcher:
    """Finds keywords in texts with one Aho–Corasick automaton.

    A match must end at word boundaries where the neighbouring characters belong to a spaced script; Chinese, Japanese and Korean
    characters are boundaries themselves. A keyword inside a longer matched one is dropped, as in the authors' code.
    """

    def __init__(self, keywords: Sequence[Keyword]):
        self.keywords = list(keywords)
        self._automaton = ahocorasick.Automaton()
        for row, keyword in enumerate(self.keywords):
            if keyword.text not in self._automaton:  # the same text under two types is one keyword, the first type's
                self._automaton.add_word(keyword.text, row)
        self._automaton.make_automaton()

    def match(self, text: str) -> list[int]:
        """Positions in `keywords` of the keywords that `text` names, in order of appearance, each once."""
        if not self.keywords:
            return []
        text = normalise(text)
        spans = [(end + 1 - len(self.keywords[row].text), end + 1, row) for end, row in self._automaton.iter(text)]
        spans = [span for span in spans if _bounded(text, span[0], span[1])]
        spans.sort(key=lambda span: (span[0], -span[1]))
        kept: list[int] = []
        covered = -1
        for _, end, row in spans:
            if end > covered:
                kept.append(row)
                covered = end
        return list(dict.fromkeys(kept))


def fuse(embeddings: np.ndarray, matches: Sequence[Sequence[int]], keyword_embeddings: np.ndarray) -> np.ndarray:
    """Half the text's vector, half the mean of its keywords' vectors; every row has unit length afterwards (trap: fused and plain rows
    of different length would be split by norm).

    Args:
        embeddings: (texts, dimension), unit rows; matches: rows of `keyword_embeddings` per text.

    Returns:
        (texts, dimension) float32; a text without keywords keeps its vector.
    """
    fused = np.array(embeddings, dtype=np.float32)
    counts = np.array([len(rows) for rows in matches])
    if counts.sum():
        text = np.repeat(np.arange(len(matches)), counts)
        sums = np.zeros_like(fused)
        np.add.at(
            sums, text, keyword_embeddings[np.concatenate([np.asarray(rows, dtype=np.int64) for rows in matches if len(rows)])]
        )
        named = counts > 0
        fused[named] = 0.5 * (fused[named] + sums[named] / counts[named, None])
    return unit_rows(fused)


def _bounded(text: str, start: int, end: int) -> bool:
    """Whether text[start:end] is not cut out of a longer word."""
    return not (_joins(text, start - 1, start) or _joins(text, end - 1, end))


def _joins(text: str, left: int, right: int) -> bool:
    if left < 0 or right >= len(text):
        return False
    return all(text[place].isalnum() and not _is_ideograph(text[place]) for place in (left, right))


def _is_ideograph(character: str) -> bool:
    return unicodedata.name(character, "").startswith(("CJK", "HIRAGANA", "KATAKANA", "HANGUL"))
