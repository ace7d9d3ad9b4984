"""Index terms of a text in any language, for BM25: words where blanks separate them, pieces of words where none do.

The same analysis makes the terms of items and of queries, in the baselines and in the text index of a checkpoint.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache

from onesearch.data.languages import MIXED, first_subtag
from onesearch.extras import import_bm25s, require

Terms = Callable[[str], list[str]]
"""Turns a text into its index terms."""

HAN = r"\u3400-\u9fff\uf900-\ufaff"
BIGRAMS = HAN + r"\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f\uac00-\ud7af\u1100-\u11ff\u3130-\u318f"
"""Han, kana and Hangul, whose runs become bigrams as in Lucene's CJK analysis."""

TRIGRAMS = r"\u0e00-\u0e7f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff"
"""Thai, Lao, Burmese and Khmer, which write no blanks between words. Their runs become trigrams of letters with their marks. Our choice."""

STEMMERS = {
    "ar": "arabic", "ca": "catalan", "da": "danish", "de": "german", "el": "greek", "en": "english", "es": "spanish", "et": "estonian",
    "eu": "basque", "fi": "finnish", "fr": "french", "ga": "irish", "hi": "hindi", "hu": "hungarian", "hy": "armenian", "id": "indonesian",
    "it": "italian", "lt": "lithuanian", "nb": "norwegian", "ne": "nepali", "nl": "dutch", "nn": "norwegian", "no": "norwegian",
    "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "sv": "swedish", "ta": "tamil", "tr": "turkish",
    "yi": "yiddish",
}  # fmt: skip
"""Snowball stemmer of each language."""

STOP_WORDS = {
    "da": "DANISH", "de": "GERMAN", "en": "EN", "es": "SPANISH", "fr": "FRENCH", "it": "ITALIAN", "nb": "NORWEGIAN", "nl": "DUTCH",
    "no": "NORWEGIAN", "pt": "PORTUGUESE", "ru": "RUSSIAN", "sv": "SWEDISH", "tr": "TURKISH",
}  # fmt: skip
"""List of stop words in bm25s of each language."""

COMPOUNDING = frozenset({"da", "de", "et", "fi", "hu", "is", "nb", "nl", "nn", "no", "sv"})
"""Languages that write compounds as one word."""

GRAM = 4
"""Letters of a piece of a word. McNamee and Mayfield (Information Retrieval 7, 2004) found 4 the best for European languages."""

EDGE = "_"
"""Marks the begin and the end of a word in its pieces, so that "hut_" is a piece of "sonnenhut" and of "hut"."""


def make_tokenizer(language: str | None, stem: bool = True) -> Terms:
    """Return a function that turns a text into index terms.

    * Words are runs of letters, digits and combining marks in lower case, single characters included ("4 GB"). Stop words are left out
      where bm25s has a list of the language, and words are stemmed with Snowball where it has a stemmer.
    * Languages that write compounds as one word (`COMPOUNDING`), and those without a stemmer, get the pieces of each word beside the word:
      its overlapping runs of `GRAM` letters. So "Schuh" finds "Wanderschuh", and other forms of a word are found without a stemmer.
    * In every language, runs of Han, kana and Hangul become overlapping bigrams, and runs of Thai, Lao, Burmese and Khmer trigrams. In
      Chinese, kana stays whole: there it is decoration. A mixed catalogue (``mul``) is read in this way and by pieces of words.
    * Forms of a letter, such as full-width Latin and half-width kana, are the same letter (NFKC), except in English and Chinese, whose
      published figures are reproduced without it.

    Args:
        language: language tag, of which the first subtag counts; None is ``en``.
        stem: stem words. Without it, words stay as they are, and only compounds and languages without a stemmer have pieces.

    Raises:
        MissingExtraError: bm25s or, for stemming, PyStemmer is not installed.
        ValueError: `language` is no language tag.
    """
    code = first_subtag(language) or "en"
    stop_words = _stop_words(code)
    stem_words = _stemmer(code) if stem else None
    is_folded = code not in ("en", "zh")
    has_pieces = code in COMPOUNDING or (code not in STEMMERS and code != "zh") or code == MIXED
    letters = HAN if code == "zh" else BIGRAMS + TRIGRAMS
    unspaced, runs = re.compile(f"[{letters}]"), re.compile(f"[{letters}]+|[^{letters}]+")

    def terms(text: str) -> list[str]:
        found: list[str] = []
        words: list[int] = []  # places in `found`
        for word in _word_pattern().findall((unicodedata.normalize("NFKC", text) if is_folded else text).lower()):
            for run in (word,) if word.isascii() else runs.findall(word):
                if unspaced.match(run):
                    found += _ngrams(run)
                elif run not in stop_words:
                    words.append(len(found))
                    found.append(run)
        if stem_words:
            for place, stemmed in zip(words, stem_words([found[place] for place in words])):
                found[place] = stemmed
        return [*found, *(piece for place in words for piece in _pieces(found[place]))] if has_pieces else found

    return terms


@lru_cache(maxsize=1)
def _word_pattern() -> re.Pattern[str]:
    """Runs of letters, digits and combining marks; ``\\w`` alone would cut Thai and Hindi words at their vowel signs."""
    marks = "".join(letter for letter in map(chr, range(0x300, 0x20000)) if unicodedata.category(letter)[0] == "M")
    return re.compile(f"[\\w{re.escape(marks)}]+")


def _ngrams(run: str) -> Iterator[str]:
    """Overlapping bigrams of characters, or trigrams of Thai letters with their marks; a shorter run stays whole."""
    if re.match(f"[{TRIGRAMS}]", run):
        letters = re.findall(
            r".[\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ece\u102b-\u103e\u17b4-\u17d3]*", run
        )
        size = 3
    else:
        letters, size = list(run), 2
    return ("".join(letters[start : start + size]) for start in range(max(1, len(letters) - size + 1)))


def _pieces(word: str) -> Iterator[str]:
    """Overlapping runs of `GRAM` letters of a word with its edges; none of a number or of a word of one letter."""
    if len(word) < 2 or not word[0].isalpha():
        return iter(())
    marked = f"{EDGE}{word}{EDGE}"
    return (marked[start : start + GRAM] for start in range(max(1, len(marked) - GRAM + 1)))


def _stop_words(code: str) -> frozenset[str]:
    """Stop words of a language; none where bm25s has no list."""
    if code not in STOP_WORDS:
        return frozenset()
    return frozenset(vars(import_bm25s("BM25").stopwords)[f"STOPWORDS_{STOP_WORDS[code]}"])


def _stemmer(code: str) -> Callable[[list[str]], list[str]] | None:
    """Stemmer of a language; None where Snowball has none."""
    if code not in STEMMERS:
        return None
    require("evaluation", "Stemmer", needed_by="BM25Retriever with stem=True")
    import Stemmer

    return Stemmer.Stemmer(STEMMERS[code]).stemWords


__all__ = ["COMPOUNDING", "STEMMERS", "make_tokenizer"]
