"""Words of one market: leaf categories and attribute words from the curated tables, and brands from seeded generation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .config import ResolvedConfig
from .words import COLORS, DEPARTMENTS, MODIFIERS, PATTERNS, REGIONS, SCENES, SEASONS, SERIES, STYLES, VARIANTS, split_pairs

WORD_TYPES = ("color", "style", "brand", "function", "material", "pattern", "season", "modifier", "scene")
"""Attribute types that a query can ask for; row numbers of `Catalogue.words`."""

FACETS = (*WORD_TYPES, "audience", "price")
"""What a query of a mission can name; row numbers of `Catalogue.facets`."""

AUDIENCE, PRICE = len(WORD_TYPES), len(WORD_TYPES) + 1
"""Rows of the audience and of the price band among `FACETS`."""

SpanKey = str | tuple[str, int]
"""Type of a word, or (type, department number) for the types whose words differ between departments."""

_SHARED: dict[SpanKey, str] = {
    "color": COLORS,
    "style": STYLES,
    "pattern": PATTERNS,
    "season": SEASONS,
    "modifier": MODIFIERS,
    "scene": SCENES,
}
_STARTS = "br d f g gr h k kr l m n p qu r s st t tr v w z".split()
_VOWELS = "a e i o u ae ei io".split()
_ENDS = "k l m n nd r rn s sk t th v x".split()


@dataclass(frozen=True)
class Leaf:
    """A leaf category, the finest level of the category tree.

    Args:
        department: name of its coarsest category.
        group: name of its middle category.
        noun: word for its product in titles.
        synonym: word for its product that only queries use.
        price: median price, in the market's currency.
        gendered: whether its products are made for women, men or kids.
    """

    department: str
    group: str
    noun: str
    synonym: str
    price: float
    gendered: bool

    @property
    def path(self) -> list[str]:
        """Category names from coarse to fine."""
        return [self.department, self.group, self.noun.capitalize()]


@dataclass(frozen=True)
class Brands:
    """All brands as arrays.

    Args:
        names: generated names of one word, ``(brands,)``.
        departments: number of each brand's home department, ``(brands,)``.
        tiers: price tier in standard deviations of the log price, ``(brands,)``.
        regions: numbers in `REGIONS`, ``(brands,)``.
        series: three numbers in `SERIES` per brand, ``(brands, 3)``.
    """

    names: list[str]
    departments: np.ndarray
    tiers: np.ndarray
    regions: np.ndarray
    series: np.ndarray


@dataclass(frozen=True)
class Vocabulary:
    """All words of a market. The number of a word is its position in `words`.

    Args:
        leaves: leaf categories.
        groups: number of each leaf's middle category, ``(leaves,)``.
        departments: number of each leaf's department, ``(leaves,)``.
        words: attribute words in lower case; the brand names are the last of them.
        synonyms: synonym of each word, which queries may use instead.
        spans: first word number and the number after the last, by type; functions and materials have one span per
            department, under (type, department number).
        brands: the brands.
    """

    leaves: list[Leaf]
    groups: np.ndarray
    departments: np.ndarray
    words: list[str]
    synonyms: list[str]
    spans: dict[SpanKey, tuple[int, int]]
    brands: Brands


class AttributeWords(NamedTuple):
    """Words, their synonyms, and the span of word numbers of each type, as in `Vocabulary`."""

    words: list[str]
    synonyms: list[str]
    spans: dict[SpanKey, tuple[int, int]]


def build_vocabulary(config: ResolvedConfig) -> Vocabulary:
    """Choose `config.leaves` leaf categories and generate brands for `config.items` items."""
    leaves = _choose_leaves(config.leaves)
    names = list(DEPARTMENTS)
    group_numbers = {key: number for number, key in enumerate(dict.fromkeys((leaf.department, leaf.group) for leaf in leaves))}
    words, synonyms, spans = _attribute_words()
    brands = _generate_brands(config, len({leaf.department for leaf in leaves}), taken=set(words) | set(synonyms))
    spans["brand"] = (len(words), len(words) + len(brands.names))
    lower = [name.lower() for name in brands.names]
    return Vocabulary(
        leaves=leaves,
        groups=np.array([group_numbers[leaf.department, leaf.group] for leaf in leaves], dtype=np.int32),
        departments=np.array([names.index(leaf.department) for leaf in leaves], dtype=np.int32),
        words=words + lower,
        synonyms=synonyms + lower,
        spans=spans,
        brands=brands,
    )


def _choose_leaves(count: int) -> list[Leaf]:
    """The first `count` leaf categories: from about √count departments, first all plain nouns, group by group, then the variants."""
    opened = list(DEPARTMENTS.items())[: min(max(round(count**0.5), 2), len(DEPARTMENTS))]
    opened = list(DEPARTMENTS.items()) if count > 12 * len(opened) else opened
    leaves = []
    for variant in ("", *VARIANTS):
        for row in range(4):
            for name, department in opened:
                group, nouns = list(department.groups.items())[row]
                leaves += [_leaf(name, group, pair, variant) for pair in split_pairs(nouns)]
    return leaves[:count]


def _leaf(department: str, group: str, pair: tuple[str, str], variant: str) -> Leaf:
    noun, synonym = (f"{variant} {word}".strip() for word in pair)
    return Leaf(department, group, noun, synonym, DEPARTMENTS[department].price, DEPARTMENTS[department].gendered)


def _attribute_words() -> AttributeWords:
    """Words, synonyms and spans of the curated tables, without brands."""
    pairs: list[tuple[str, str]] = []
    spans: dict[SpanKey, tuple[int, int]] = {}
    tables: dict[SpanKey, str] = dict(_SHARED)
    for number, department in enumerate(DEPARTMENTS.values()):
        tables["function", number] = department.functions
        tables["material", number] = department.materials
    for key, text in tables.items():
        added = split_pairs(text)
        spans[key] = (len(pairs), len(pairs) + len(added))
        pairs += added
    return AttributeWords([word for word, _ in pairs], [synonym for _, synonym in pairs], spans)


def _generate_brands(config: ResolvedConfig, departments: int, taken: set[str]) -> Brands:
    """Generate brands whose names differ from all other words."""
    rng = config.stream("brands")
    count = max(12, round(0.9 * config.items**0.5))
    return Brands(
        names=generate_names(rng, count, taken),
        departments=np.arange(count) % departments,
        tiers=rng.normal(0.0, 0.7, count).astype(np.float32),
        regions=rng.integers(0, len(REGIONS), count),
        series=rng.permuted(np.tile(np.arange(len(SERIES)), (count, 1)), axis=1)[:, :3],
    )


def generate_names(rng: np.random.Generator, count: int, taken: set[str]) -> list[str]:
    """Invent distinct names of two or three syllables.

    Args:
        rng: random stream.
        count: number of names.
        taken: words in lower case that no name may equal.
    """
    seen = set(taken)
    names: list[str] = []
    while len(names) < count:
        parts = [rng.choice(_STARTS), rng.choice(_VOWELS), rng.choice(_STARTS), rng.choice(_VOWELS), rng.choice(_ENDS)]
        if rng.random() < 0.3:
            parts[2:2] = [rng.choice(_STARTS), rng.choice(_VOWELS)]
        name = "".join(parts)
        if name not in seen:
            seen.add(name)
            names.append(name.capitalize())
    return names
