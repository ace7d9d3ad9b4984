"""The latent intent of each session, and the query that expresses it: two or three words, with synonyms, fillers and typos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from .catalogue import Catalogue
from .config import ResolvedConfig
from .users import FAVOURITE_BRANDS, Users, draw_leaves
from .visits import Visits
from .vocabulary import WORD_TYPES, Vocabulary
from .words import FILLERS

_TYPE_SHARES = np.array([0.22, 0.22, 0.16, 0.12, 0.08, 0.06, 0.04, 0.06, 0.04])
"""Share of each of `WORD_TYPES` among the requested attributes."""

_EXTRA_FILLER = 0.2
"""Probability that a query with an attribute word has a filler too."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Intents:
    """Intent of every session in time order: a leaf category and at most one attribute word. All arrays are ``(sessions,)``.

    Args:
        leaves: wanted leaf category.
        kinds: type of the requested word, a row of `WORD_TYPES`; -1 without one.
        words: number of the requested word; -1 without one.
    """

    leaves: np.ndarray
    kinds: np.ndarray
    words: np.ndarray


def draw_intents(config: ResolvedConfig, vocabulary: Vocabulary, catalogue: Catalogue, users: Users, visits: Visits) -> Intents:
    """Draw the intent of every session. Some item of the leaf category always has the requested word."""
    rng = config.stream("intents")
    count = len(visits.users)
    leaves = draw_leaves(rng, config, users, visits.users)
    kinds = rng.choice(len(WORD_TYPES), count, p=_TYPE_SHARES)
    kinds[rng.random(count) < config.plain_query] = -1
    sizes = np.diff(catalogue.offsets)[leaves]
    examples = catalogue.order[catalogue.offsets[leaves] + (rng.random(count) * sizes).astype(np.int64)]
    words = catalogue.words[kinds, examples]
    favourites = _favourite_words(rng, vocabulary, users, visits.users, kinds)
    wanted = (favourites >= 0) & (rng.random(count) < config.taste_in_query)
    words = np.where(wanted & _words_of_leaves(vocabulary, catalogue)[leaves, favourites], favourites, words)
    words[kinds < 0] = -1
    kinds[words < 0] = -1
    return Intents(leaves, kinds.astype(np.int8), words.astype(np.int32))


def write_queries(config: ResolvedConfig, vocabulary: Vocabulary, intents: Intents) -> pa.DictionaryArray:
    """Write the query of every session, ``(sessions,)`` with one dictionary entry per distinct text; equal intents often share one."""
    rng = config.stream("queries")
    count = len(intents.leaves)
    two_words = np.array([" " in leaf.noun for leaf in vocabulary.leaves])[intents.leaves]
    shares = 1.0 / np.arange(1, len(FILLERS) + 1)
    fillers = rng.choice(len(FILLERS), count, p=shares / shares.sum())
    asked = intents.words >= 0
    keep = np.where(asked, ~two_words & (rng.random(count) < _EXTRA_FILLER), ~two_words | (rng.random(count) < 0.5))
    fillers[~keep] = -1
    parts = np.stack(
        [intents.leaves, intents.words, fillers, rng.random(count) < config.synonyms, rng.random(count) < config.synonyms]
    )
    bases = (config.leaves, len(vocabulary.words) + 1, len(FILLERS) + 1, 2, 2)
    parts[1:3] += 1
    codes, rows = np.unique(np.ravel_multi_index(parts, bases), return_inverse=True)
    texts = [_spell(vocabulary, *code) for code in zip(*(column.tolist() for column in np.unravel_index(codes, bases)))]
    mistyped = np.flatnonzero(rng.random(count) < config.typo_rate)
    typos = [_mistype(rng, texts[row]) for row in rows[mistyped]]
    rows[mistyped] = len(texts) + np.arange(len(typos))
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts + typos))}
    indices = np.array([numbers[text] for text in texts + typos], dtype=np.int32)[rows]
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(numbers), type=pa.string()))


def _favourite_words(
    rng: np.random.Generator, vocabulary: Vocabulary, users: Users, visitors: np.ndarray, kinds: np.ndarray
) -> np.ndarray:
    """Word number of a favourite colour, style or brand of the visitor, ``(sessions,)``; -1 where another type is requested."""
    favourites = np.full(len(visitors), -1, dtype=np.int32)
    for name, likings in (("color", users.colors), ("style", users.styles)):
        rows = np.flatnonzero(kinds == WORD_TYPES.index(name))
        ranks = np.argsort(-likings, axis=1, kind="stable")[:, :2]
        chosen = ranks[visitors[rows], (rng.random(len(rows)) < 0.35).astype(int)]
        favourites[rows] = vocabulary.spans[name][0] + chosen
    rows = np.flatnonzero(kinds == WORD_TYPES.index("brand"))
    column = rng.integers(0, FAVOURITE_BRANDS, len(rows))
    favourites[rows] = vocabulary.spans["brand"][0] + users.brands[visitors[rows], column]
    return favourites


def _words_of_leaves(vocabulary: Vocabulary, catalogue: Catalogue) -> np.ndarray:
    """Whether some item of a leaf has a word, ``(leaves, words + 1)``; the last column stands for -1 and is False."""
    found = np.zeros((len(vocabulary.leaves), len(vocabulary.words) + 1), dtype=bool)
    for words in catalogue.words:
        found[catalogue.leaves, words] = True
    found[:, -1] = False
    return found


def _spell(vocabulary: Vocabulary, leaf: int, word: int, filler: int, noun_synonym: int, word_synonym: int) -> str:
    """Text of a query from its numbers.

    Args:
        vocabulary: all words.
        leaf: leaf category, whose noun ends the query.
        word: number of the attribute word plus 1; 0 without one.
        filler: number of the filler plus 1; 0 without one.
        noun_synonym: 1 if the noun is replaced by its synonym.
        word_synonym: 1 if the attribute word is replaced by its synonym.
    """
    parts = [FILLERS[filler - 1]] if filler else []
    if word:
        parts.append((vocabulary.synonyms if word_synonym else vocabulary.words)[word - 1])
    parts.append(vocabulary.leaves[leaf].synonym if noun_synonym else vocabulary.leaves[leaf].noun)
    return " ".join(parts)


def _mistype(rng: np.random.Generator, text: str) -> str:
    """Swap, drop, double or replace one letter of the longest word; its first letter stays."""
    longest = max(text.split(), key=len)
    place = int(rng.integers(1, len(longest)))
    before, letter, after = longest[:place], longest[place], longest[place + 1 :]
    kind = int(rng.integers(4))
    if kind == 0 and after and after[0] != letter:
        wrong = before + after[0] + letter + after[1:]
    elif kind == 1 and len(longest) > 3:
        wrong = before + after
    elif kind == 2:
        wrong = before + letter + letter + after
    else:
        others = [other for other in _LETTERS if other != letter]
        wrong = before + others[int(rng.integers(len(others)))] + after
    return text.replace(longest, wrong, 1)
