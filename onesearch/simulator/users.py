"""Users: the profile that their table shows, and the latent tastes that decide their clicks and purchases. Tastes are never written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .catalogue import Catalogue, sample_rows
from .config import ResolvedConfig
from .vocabulary import Vocabulary
from .words import AGE_BUCKETS, COLORS, GENDERS, REGIONS, STYLES, split_pairs

FAVOURITE_LEAVES = 4
FAVOURITE_BRANDS = 5
_LEAF_SHARES = np.array([0.4, 0.27, 0.19, 0.14])
_BRAND_STRENGTHS = np.array([1.0, 1.0, 0.9, 0.8, 0.7], dtype=np.float32)
_CHUNK = 20_000


@dataclass(frozen=True)
class Users:
    """All users as arrays. The users table shows gender, age and region; the rest stays in memory.

    Args:
        genders: numbers in `GENDERS`, ``(users,)``.
        ages: numbers in `AGE_BUCKETS`, ``(users,)``.
        regions: numbers in `REGIONS`, ``(users,)``.
        leaves: favourite leaf categories, most frequent first, ``(users, 4)``.
        brands: favourite brands, ``(users, 5)``; the first four each come from one favourite leaf.
        brand_strengths: liking of the favourite brand in each column of `brands`, ``(5,)``.
        styles: liking of each style, -0.5 to 1, ``(users, styles)``.
        colors: liking of each colour, -0.5 to 1, ``(users, colours)``.
        price_levels: preferred price in standard deviations within a leaf, ``(users,)``.
    """

    genders: np.ndarray
    ages: np.ndarray
    regions: np.ndarray
    leaves: np.ndarray
    brands: np.ndarray
    brand_strengths: np.ndarray
    styles: np.ndarray
    colors: np.ndarray
    price_levels: np.ndarray


def build_users(config: ResolvedConfig, vocabulary: Vocabulary, catalogue: Catalogue) -> Users:
    """Draw all users. Gender is weakly tied to departments, styles and colours, age to the price level, region to brands."""
    rng = config.stream("users")
    genders = rng.choice(len(GENDERS), config.users, p=[0.48, 0.44, 0.08]).astype(np.int8)
    ages = rng.choice(len(AGE_BUCKETS), config.users, p=[0.2, 0.28, 0.22, 0.16, 0.14]).astype(np.int8)
    regions = rng.integers(0, len(REGIONS), config.users).astype(np.int8)
    leaves = _favourite_leaves(rng, config, vocabulary, genders)
    return Users(
        genders=genders,
        ages=ages,
        regions=regions,
        leaves=leaves,
        brands=_favourite_brands(rng, vocabulary, catalogue, leaves, regions),
        brand_strengths=_BRAND_STRENGTHS,
        styles=_likings(rng, len(split_pairs(STYLES)), genders),
        colors=_likings(rng, len(split_pairs(COLORS)), genders),
        price_levels=(rng.normal(0.0, 0.8, config.users) + 0.25 * (ages - 1.5)).astype(np.float32),
    )


def draw_leaves(rng: np.random.Generator, config: ResolvedConfig, users: Users, visitors: np.ndarray) -> np.ndarray:
    """Draw the leaf category of each session: a favourite of its user, or with probability `config.explore` any category.

    Args:
        rng: random stream.
        config: settings.
        users: all users.
        visitors: user of each session, ``(sessions,)``.

    Returns:
        Leaf categories, int32 ``(sessions,)``.
    """
    favourite = users.leaves[visitors, rng.choice(FAVOURITE_LEAVES, len(visitors), p=_LEAF_SHARES)]
    anywhere = rng.integers(0, config.leaves, len(visitors))
    return np.where(rng.random(len(visitors)) < config.explore, anywhere, favourite).astype(np.int32)


def _favourite_leaves(
    rng: np.random.Generator, config: ResolvedConfig, vocabulary: Vocabulary, genders: np.ndarray
) -> np.ndarray:
    """Favourite leaf categories of every user, best first, ``(users, 4)``; a market with fewer leaves repeats the last."""
    popularity = rng.permutation(-0.5 * np.log(np.arange(config.leaves) + 2.0))
    by_gender = rng.normal(0.0, 0.4, (len(GENDERS), vocabulary.departments.max() + 1))[:, vocabulary.departments]
    wanted = min(FAVOURITE_LEAVES, config.leaves)
    chosen = []
    for start in range(0, config.users, _CHUNK):
        part = genders[start : start + _CHUNK]
        scores = popularity + by_gender[part] + rng.gumbel(size=(len(part), config.leaves))
        chosen.append(np.argsort(-scores, axis=1, kind="stable")[:, :wanted])
    leaves = np.concatenate(chosen).astype(np.int32)
    return np.pad(leaves, ((0, 0), (0, FAVOURITE_LEAVES - wanted)), mode="edge")


def _favourite_brands(
    rng: np.random.Generator, vocabulary: Vocabulary, catalogue: Catalogue, leaves: np.ndarray, regions: np.ndarray
) -> np.ndarray:
    """Favourite brands, ``(users, 5)``: one of each favourite leaf and a second of the first; the user's own region is preferred."""
    weights = np.sqrt(catalogue.brand_weights)
    brands = np.empty((len(leaves), FAVOURITE_BRANDS), dtype=np.int32)
    for column in range(FAVOURITE_BRANDS):
        rows = leaves[:, column % FAVOURITE_LEAVES]
        first, second = sample_rows(rng, weights, rows), sample_rows(rng, weights, rows)
        local = vocabulary.brands.regions[second] == regions
        brands[:, column] = np.where(local & (rng.random(len(leaves)) < 0.5), second, first)
    return brands


def _likings(rng: np.random.Generator, count: int, genders: np.ndarray) -> np.ndarray:
    """Liking of `count` values, ``(users, count)``: 1 for the favourite, 0.6 for the second, -0.5 for the last and 0 for the others."""
    by_gender = rng.normal(0.0, 0.5, (len(GENDERS), count))
    ranks = np.argsort(-(by_gender[genders] + rng.gumbel(size=(len(genders), count))), axis=1, kind="stable")
    likings = np.zeros((len(genders), count), dtype=np.float32)
    for place, value in ((0, 1.0), (1, 0.6), (-1, -0.5)):
        likings[np.arange(len(genders)), ranks[:, place]] = value
    return likings
