"""Words of one market: leaf categories, attribute words and brands, from the curated tables and seeded generation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .config import SimulatorConfig
from .words import COLORS, DEPARTMENTS, MODIFIERS, PATTERNS, REGIONS, SCENES, SEASONS, SERIES, STYLES, VARIANTS, split_pairs

WORD_TYPES = ("color", "style", "brand", "function", "material", "pattern", "season", "modifier", "scene")
"""Attribute types that a query can ask for; row numbers of `Catalogue.words`."""

_SHARED = {"color": COLORS, "style": STYLES, "pattern": PATTERNS, "season": SEASONS, "modifier": MODIFIERS, "scene": SCENES}
_STARTS = "br d f g gr h k kr l m n p qu r s st t tr v w z".split()
_VOWELS = "a e i o u ae ei io".split()
_ENDS = "k l m n nd r rn s sk t th v x".split()


@dataclass(frozen=True)
class Leaf:
    """A leaf category: where it lies, what its product is called, its median price and whether it is gendered."""

    department: str
    group: str
    noun: str
    synonym: str
    price: float
    gendered: bool

    @property
    def path(self) -> list[str]:
        """Category names, coarse to fine."""
        return [self.department, self.group, self.noun.capitalize()]


@dataclass(frozen=True)
class Brands:
    """Brands as arrays of shape (brands,), and (brands, 3) for `series`.

    Args:
        names: generated, one written word each.
        departments: their home department's number.
        tiers: price tier, in standard deviations of the log price.
        regions: numbers in `REGIONS`.
        series: numbers in `SERIES`.
    """

    names: list[str]
    departments: np.ndarray
    tiers: np.ndarray
    regions: np.ndarray
    series: np.ndarray


@dataclass(frozen=True)
class Vocabulary:
    """All words of a market. A word's number is its row in `words`; `spans` says which numbers belong to which type.

    Args:
        leaves: leaf categories.
        groups: number of each leaf's middle category, (leaves,).
        departments: number of each leaf's department, (leaves,).
        words, synonyms: attribute words and what queries may say instead.
        spans: type, or (type, department number) for functions and materials → first and past-the-last word number.
        brands: the brands; their names are the last words.
    """

    leaves: list[Leaf]
    groups: np.ndarray
    departments: np.ndarray
    words: list[str]
    synonyms: list[str]
    spans: dict[str | tuple[str, int], tuple[int, int]]
    brands: Brands


def build_vocabulary(config: SimulatorConfig) -> Vocabulary:
    """Choose leaf categories and generate brands for a catalogue of `config.items`."""
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
    """Open about √count departments, then group after group in each, then the variants."""
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


def _attribute_words() -> tuple[list[str], list[str], dict]:
    pairs: list[tuple[str, str]] = []
    spans: dict[str | tuple[str, int], tuple[int, int]] = {}
    tables: dict[str | tuple[str, int], str] = dict(_SHARED)
    for number, department in enumerate(DEPARTMENTS.values()):
        tables["function", number] = department.functions
        tables["material", number] = department.materials
    for key, text in tables.items():
        added = split_pairs(text)
        spans[key] = (len(pairs), len(pairs) + len(added))
        pairs += added
    return [word for word, _ in pairs], [synonym for _, synonym in pairs], spans


def _generate_brands(config: SimulatorConfig, departments: int, taken: set[str]) -> Brands:
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
    """Distinct invented names of two or three syllables, none of them in `taken` (lower case)."""
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
