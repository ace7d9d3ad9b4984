"""Items as arrays: leaf category, attribute words, price, popularity and launch time. `item_rows.py` turns them into tables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .config import ResolvedConfig
from .visits import EPOCH, Visits
from .vocabulary import WORD_TYPES, Vocabulary
from .words import MARKETING, PRICE_WORDS

_PRESENCE = {"function": 0.75, "material": 0.75, "pattern": 0.4, "season": 0.35, "modifier": 0.5, "scene": 0.35}
"""Share of items that have an attribute of each type. Every item has a colour, a style and a brand."""


@dataclass(frozen=True)
class Catalogue:
    """All items as arrays; -1 stands for an absent attribute.

    Args:
        leaves: leaf category of each item, ``(items,)``.
        order: item numbers sorted by leaf category, ``(items,)``.
        offsets: where each leaf begins in `order`, ``(leaves + 1,)``; see `items_of`.
        words: number of each item's word of every type in `WORD_TYPES`, ``(types, items)``.
        audiences: audience of each item, numbers in `AUDIENCES`, ``(items,)``.
        price_z: log price in standard deviations within the leaf, ``(items,)``.
        prices: prices in the market's currency, ``(items,)``.
        log_popularity: latent log popularity: Zipf within the leaf, with mean 0, ``(items,)``.
        launches: first second at which each item is available, ``(items,)``.
        brand_weights: unnormalised share of each brand in each leaf, ``(leaves, brands)``.
        extras: numbers of the other attributes by name, each ``(items,)``; ``serial`` is the number in the model's name.
    """

    leaves: np.ndarray
    order: np.ndarray
    offsets: np.ndarray
    words: np.ndarray
    audiences: np.ndarray
    price_z: np.ndarray
    prices: np.ndarray
    log_popularity: np.ndarray
    launches: np.ndarray
    brand_weights: np.ndarray
    extras: dict[str, np.ndarray]

    def items_of(self, leaf: int) -> np.ndarray:
        """Return the item numbers of one leaf category."""
        return self.order[self.offsets[leaf] : self.offsets[leaf + 1]]

    @cached_property
    def facets(self) -> np.ndarray:
        """Value of every item for each of `FACETS`, -1 where it has none, int32 ``(facets, items)``."""
        return np.concatenate([self.words, self.audiences[None].astype(np.int32), self.extras["price"][None]])


def build_catalogue(config: ResolvedConfig, vocabulary: Vocabulary, visits: Visits) -> Catalogue:
    """Draw all items."""
    rng = config.stream("catalogue")
    leaves = _draw_leaves(rng, config)
    order = np.argsort(leaves, kind="stable").astype(np.int32)
    offsets = np.searchsorted(leaves[order], np.arange(config.leaves + 1))
    brand_weights = _brand_weights(rng, config, vocabulary)
    words = _draw_words(rng, vocabulary, leaves, brand_weights)
    brands = words[WORD_TYPES.index("brand")] - vocabulary.spans["brand"][0]
    price_z, prices = _draw_prices(rng, vocabulary, leaves, brands)
    return Catalogue(
        leaves=leaves,
        order=order,
        offsets=offsets,
        words=words,
        audiences=_draw_audiences(rng, vocabulary, leaves),
        price_z=price_z,
        prices=prices,
        log_popularity=_draw_popularity(rng, config, order, offsets),
        launches=_draw_launches(rng, config, visits.test_start),
        brand_weights=brand_weights,
        extras=_draw_extras(rng, vocabulary, brands, price_z),
    )


def sample_rows(rng: np.random.Generator, weights: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Draw one column per entry of `rows`, with the probabilities of that row of `weights`.

    Args:
        rng: random stream.
        weights: unnormalised probabilities, ``(rows of the table, columns)``.
        rows: row of the table for each draw, ``(draws,)``.

    Returns:
        Column numbers, int32 ``(draws,)``.
    """
    cumulative = np.cumsum(weights, axis=1, dtype=np.float64)
    cumulative /= cumulative[:, -1:]
    flat = (cumulative + np.arange(len(weights))[:, None]).ravel()
    drawn = np.searchsorted(flat, rows + rng.random(len(rows)), side="right")
    return np.clip(drawn - rows * weights.shape[1], 0, weights.shape[1] - 1).astype(np.int32)


def _draw_leaves(rng: np.random.Generator, config: ResolvedConfig) -> np.ndarray:
    """Leaf of each item, ``(items,)``. Sizes fall slowly from the largest leaf to the smallest; every leaf has at least four items."""
    weights = rng.permutation((np.arange(config.leaves) + 3.0) ** -0.25)
    leaves = np.repeat(np.arange(config.leaves, dtype=np.int32), 4)
    drawn = rng.choice(config.leaves, config.items - len(leaves), p=weights / weights.sum())
    return rng.permutation(np.concatenate([leaves, drawn.astype(np.int32)]))


def _brand_weights(rng: np.random.Generator, config: ResolvedConfig, vocabulary: Vocabulary) -> np.ndarray:
    """Share of each brand in each leaf, ``(leaves, brands)``: 5 to 40 brands per leaf, mostly of its own department, Zipf-like."""
    brands = len(vocabulary.brands.names)
    kept = int(np.clip(config.items / config.leaves / 6, 5, min(40, brands)))
    home = vocabulary.departments[:, None] == vocabulary.brands.departments[None, :]
    affinity = 3.0 * home + rng.normal(0.0, 0.7, brands)[None, :] + rng.gumbel(size=(config.leaves, brands))
    ranks = np.argsort(np.argsort(-affinity, axis=1), axis=1)
    return np.where(ranks < kept, (ranks + 2.0) ** -0.7, 0.0)


def _draw_words(rng: np.random.Generator, vocabulary: Vocabulary, leaves: np.ndarray, brand_weights: np.ndarray) -> np.ndarray:
    """Word number of every type for every item, ``(types, items)``; -1 where the item has no attribute of the type."""
    departments = vocabulary.departments[leaves]
    words = np.full((len(WORD_TYPES), len(leaves)), -1, dtype=np.int32)
    for row, kind in enumerate(WORD_TYPES):
        if kind == "brand":
            drawn = vocabulary.spans["brand"][0] + sample_rows(rng, brand_weights, leaves)
        elif kind in vocabulary.spans:
            first, stop = vocabulary.spans[kind]
            weights = rng.permuted(np.tile((np.arange(stop - first) + 3.0) ** -0.6, (len(brand_weights), 1)), axis=1)
            drawn = first + sample_rows(rng, weights, leaves)
        else:
            first, stop = np.array([vocabulary.spans[kind, number] for number in range(departments.max() + 1)]).T
            drawn = rng.integers(first[departments], stop[departments])
        present = rng.random(len(leaves)) < _PRESENCE.get(kind, 1.0)
        words[row] = np.where(present, drawn, -1)
    return words


def _draw_audiences(rng: np.random.Generator, vocabulary: Vocabulary, leaves: np.ndarray) -> np.ndarray:
    """Audience of each item, -1 without one, ``(items,)``; items of gendered departments always have one."""
    gendered = np.array([leaf.gendered for leaf in vocabulary.leaves])[leaves]
    weights = np.array([[0.0, 0.0, 0.0, 0.0, 0.5, 0.5], [0.4, 0.35, 0.1, 0.15, 0.0, 0.0]])
    drawn = sample_rows(rng, weights, gendered.astype(np.int32))
    return np.where(gendered | (rng.random(len(leaves)) < 0.25), drawn, -1).astype(np.int8)


def _draw_prices(
    rng: np.random.Generator, vocabulary: Vocabulary, leaves: np.ndarray, brands: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Log prices in standard deviations within the leaf, and prices, both ``(items,)``."""
    medians = np.array([leaf.price for leaf in vocabulary.leaves]) * np.exp(rng.normal(0.0, 0.3, len(vocabulary.leaves)))
    spread = vocabulary.brands.tiers[brands] + rng.normal(0.0, 0.7, len(leaves))
    prices = np.round(medians[leaves] * np.exp(0.5 * spread), 2)
    return spread.astype(np.float32), prices.astype(np.float32)


def _draw_popularity(rng: np.random.Generator, config: ResolvedConfig, order: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Log popularity of each item, ``(items,)``: Zipf within the leaf, shifted to mean 0."""
    popularity = np.empty(config.items, dtype=np.float32)
    for start, stop in zip(offsets[:-1], offsets[1:]):
        ranked = -config.popularity_exponent * np.log(np.arange(stop - start) + 1.0)
        popularity[order[start:stop]] = rng.permutation(ranked - ranked.mean())
    return popularity


def _draw_launches(rng: np.random.Generator, config: ResolvedConfig, test_start: int) -> np.ndarray:
    """Launch time of each item, ``(items,)``: most at the start, some before the test period and some in its first half."""
    launches = np.full(config.items, EPOCH, dtype=np.int64)
    shuffled = rng.permutation(config.items)
    cold, late = round(config.cold_items * config.items), round(config.late_items * config.items)
    half = max(2, int((test_start - EPOCH) * config.test / 2))
    launches[shuffled[:cold]] = rng.integers(test_start + 1, test_start + half, cold)
    launches[shuffled[cold : cold + late]] = rng.integers(EPOCH, test_start, late)
    return launches


def _draw_extras(
    rng: np.random.Generator, vocabulary: Vocabulary, brands: np.ndarray, price_z: np.ndarray
) -> dict[str, np.ndarray]:
    """Numbers of the other attributes by name, each ``(items,)``."""
    count = len(brands)
    sellers = rng.integers(0, max(4, count // 40), count)

    def sometimes(values: np.ndarray, share: float) -> np.ndarray:
        return np.where(rng.random(count) < share, values, -1).astype(np.int32)

    return {
        "series": sometimes(vocabulary.brands.series[brands, rng.integers(0, 3, count)], 0.7),
        "specifications": sometimes(rng.integers(0, 5, count), 0.5),
        "marketing": sometimes(rng.integers(0, len(MARKETING), count), 0.2),
        "price": np.digitize(price_z, (-0.6, 0.6)).astype(np.int32) % len(PRICE_WORDS),
        "seller": sellers.astype(np.int32),
        "anchor": sometimes(sellers % 60, 0.25),
        "serial": rng.integers(100, 1000, count).astype(np.int32),
    }
