"""The latent intent of each session, and the query that expresses it or a part of it, with synonyms, fillers and typos."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from .catalogue import Catalogue
from .config import ResolvedConfig
from .users import FAVOURITE_BRANDS, Users, draw_leaves
from .visits import Visits
from .vocabulary import AUDIENCE, PRICE, WORD_TYPES, Vocabulary
from .wishes import Wishes, running_missions
from .words import AUDIENCES, FILLERS, PRICE_WORDS

TYPE_SHARES = np.array([0.22, 0.22, 0.16, 0.12, 0.08, 0.06, 0.04, 0.06, 0.04])
"""Share of each of `WORD_TYPES` among the requested attributes."""

_EXTRA_FILLER = 0.2
"""Probability that a query with an attribute word has a filler too."""

_FOLLOWING = 0.6
"""Probability that a recommendation shows the product group of the user's latest search instead of a group of the user's own taste."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Intents:
    """Intent of every session in time order: a category, at most one requested facet, and a mission. All arrays are ``(sessions,)``.

    Args:
        leaves: wanted leaf category.
        kinds: facet of the request, a row of `FACETS`; -1 without a request.
        words: requested value: number of a word, an audience or a price band; -1 without one.
        scopes: what the list is drawn from: number of a leaf category, or `leaves` plus the number of a product group.
        missions: mission whose wish decides the clicks and purchases; -1 without one.
    """

    leaves: np.ndarray
    kinds: np.ndarray
    words: np.ndarray
    scopes: np.ndarray
    missions: np.ndarray


def draw_intents(
    config: ResolvedConfig, vocabulary: Vocabulary, catalogue: Catalogue, users: Users, visits: Visits, stream: str = "intents"
) -> Intents:
    """Draw the intent of every session as if it were a search of its own. Some item of its leaf category has the requested word."""
    rng = config.stream(stream)
    count = len(visits.users)
    leaves = draw_leaves(rng, config, users, visits.users)
    kinds = rng.choice(len(WORD_TYPES), count, p=TYPE_SHARES)
    kinds[rng.random(count) < config.plain_query] = -1
    sizes = np.diff(catalogue.offsets)[leaves]
    examples = catalogue.order[catalogue.offsets[leaves] + (rng.random(count) * sizes).astype(np.int64)]
    words = catalogue.words[kinds, examples]
    favourites = _favourite_words(rng, vocabulary, users, visits.users, kinds)
    wanted = (favourites >= 0) & (rng.random(count) < config.taste_in_query)
    words = np.where(wanted & _words_of_leaves(vocabulary, catalogue)[leaves, favourites], favourites, words)
    words[kinds < 0] = -1
    kinds[words < 0] = -1
    without = np.full(count, -1, dtype=np.int32)
    return Intents(leaves, kinds.astype(np.int8), words.astype(np.int32), leaves, without)


def follow_wishes(config: ResolvedConfig, vocabulary: Vocabulary, visits: Visits, intents: Intents, wishes: Wishes) -> Intents:
    """Give the searches of missions a part of their wish as request, and recommendations a product group without a request.

    * The first search of a mission is often broad: it names the product group, and the audience if there is one. A later one is less often
      broad, and names nothing but the group.
    * Every other search names the leaf category and, with the probability 1 - `plain_query`, one more wish.
    * A recommendation shows a product group: that of the user's latest search, whose mission it continues unless that has ended, or one
      of the user's favourites.
    """
    rng, agendas = config.stream("requests"), visits.agendas
    leaves, kinds, words, scopes = (array.copy() for array in (intents.leaves, intents.kinds, intents.words, intents.scopes))
    missions = agendas.missions.copy()
    rows = np.flatnonzero(missions >= 0)
    own, steps = missions[rows], agendas.steps[rows]
    broad_first = rng.random(max(agendas.mission_count, 1)) < config.broad_queries
    broad = np.where(steps == 0, broad_first[own], rng.random(len(rows)) < config.broad_again)
    named, values = wishes.asked(own, steps - broad_first[own])
    values = np.where(broad, np.where(steps == 0, wishes.audiences(own), -1), values)
    values = np.where(~broad & (rng.random(len(rows)) < config.plain_query), -1, values)
    leaves[rows] = scopes[rows] = wishes.leaves[own]
    words[rows], kinds[rows] = values, np.where(values < 0, -1, np.where(broad, AUDIENCE, named))
    recommended = np.flatnonzero(~agendas.searched)
    latest, unfinished = (array[recommended] for array in running_missions(visits))
    follows = (latest >= 0) & (rng.random(len(recommended)) < _FOLLOWING)
    leaves[recommended] = np.where(follows, leaves[latest], leaves[recommended])
    missions[recommended] = np.where(follows, unfinished, -1)
    kinds[recommended] = words[recommended] = -1
    wide = np.concatenate([rows[broad], recommended])
    scopes[wide] = config.leaves + vocabulary.groups[leaves[wide]]
    return Intents(leaves, kinds, words, scopes, missions)


def write_queries(config: ResolvedConfig, vocabulary: Vocabulary, intents: Intents, searched: np.ndarray) -> pa.DictionaryArray:
    """Write the query of every session, ``(sessions,)`` with one dictionary entry per distinct text; equal intents often share one.

    Args:
        config: settings.
        vocabulary: all words.
        intents: intents of the sessions.
        searched: whether a session has a query, ``(sessions,)``; the others get the empty text.
    """
    rng = config.stream("queries")
    count = len(intents.leaves)
    broad = intents.scopes >= config.leaves
    two_words = np.array([" " in leaf.noun for leaf in vocabulary.leaves])[intents.leaves] | broad
    shares = 1.0 / np.arange(1, len(FILLERS) + 1)
    fillers = rng.choice(len(FILLERS), count, p=shares / shares.sum())
    asked = intents.words >= 0
    keep = np.where(asked, ~two_words & (rng.random(count) < _EXTRA_FILLER), ~two_words | (rng.random(count) < 0.5))
    fillers[~keep | broad] = -1
    parts = np.stack(
        [
            intents.scopes,
            _phrases(vocabulary, intents),
            fillers,
            rng.random(count) < config.synonyms,
            rng.random(count) < config.synonyms,
        ]
    )
    bases = (
        config.leaves + len(vocabulary.leaves),
        _first_phrase(vocabulary, PRICE) + len(PRICE_WORDS) + 1,
        len(FILLERS) + 1,
        2,
        2,
    )
    parts[1:3] += 1
    codes, rows = np.unique(np.ravel_multi_index(parts, bases), return_inverse=True)
    texts = [_spell(vocabulary, *code) for code in zip(*(column.tolist() for column in np.unravel_index(codes, bases)))]
    mistyped = np.flatnonzero(rng.random(count) < config.typo_rate)
    typos = [_mistype(rng, texts[row]) for row in rows[mistyped]]
    rows[mistyped] = len(texts) + np.arange(len(typos))
    texts += typos
    if not searched.all():
        rows[~searched] = len(texts)
        texts.append("")
    numbers = {text: number for number, text in enumerate(dict.fromkeys(texts))}
    indices = np.array([numbers[text] for text in texts], dtype=np.int32)[rows]
    return pa.DictionaryArray.from_arrays(indices, pa.array(list(numbers), type=pa.string()))


def _first_phrase(vocabulary: Vocabulary, facet: int) -> int:
    """Number of the first phrase of a facet: words come first, then audiences, then price bands."""
    return len(vocabulary.words) + (len(AUDIENCES) if facet == PRICE else 0)


def _phrases(vocabulary: Vocabulary, intents: Intents) -> np.ndarray:
    """Number of the phrase that names each request, -1 without one, ``(sessions,)``."""
    phrases = intents.words.copy()
    for facet in (AUDIENCE, PRICE):
        phrases[intents.kinds == facet] += _first_phrase(vocabulary, facet)
    return phrases


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


def _spell(vocabulary: Vocabulary, scope: int, phrase: int, filler: int, noun_synonym: int, word_synonym: int) -> str:
    """Text of a query from its numbers.

    Args:
        vocabulary: all words.
        scope: leaf category, whose noun ends the query, or the number of leaf categories plus a product group.
        phrase: number of the phrase of the request plus 1; 0 without one.
        filler: number of the filler plus 1; 0 without one.
        noun_synonym: 1 if the noun is replaced by its synonym.
        word_synonym: 1 if the attribute word is replaced by its synonym.
    """
    parts = [FILLERS[filler - 1]] if filler else []
    number, after = phrase - 1, []
    if number >= _first_phrase(vocabulary, PRICE):
        parts.append(PRICE_WORDS[number - _first_phrase(vocabulary, PRICE)])
    elif number >= _first_phrase(vocabulary, AUDIENCE):
        after = ["for", list(AUDIENCES)[number - _first_phrase(vocabulary, AUDIENCE)]]
    elif number >= 0:
        parts.append((vocabulary.synonyms if word_synonym else vocabulary.words)[number])
    return " ".join([*parts, _product(vocabulary, scope, noun_synonym), *after])


def _product(vocabulary: Vocabulary, scope: int, synonym: int) -> str:
    """Words for a leaf category, or for a gift from a product group."""
    if scope >= len(vocabulary.leaves):
        member = int(np.flatnonzero(vocabulary.groups == scope - len(vocabulary.leaves))[0])
        return f"{vocabulary.leaves[member].group.lower()} gift"
    leaf = vocabulary.leaves[scope]
    return leaf.synonym if synonym else leaf.noun


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
