"""Made-up shops: products that differ as those of real shops do, and visitors who search, click and buy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .words import ENGLISH, Words

DAY = 86_400
"""Seconds."""

FIRST = 1_700_000_000
"""Time of the first event, in seconds since 1970."""


@dataclass(frozen=True)
class ShopSpec:
    """One shop.

    Args:
        name: name of the shop.
        items: number of products.
        words: vocabularies of its titles; several make a mixed catalogue.
        searches: number of searches in the log; 0 for items only.
        users: number of visitors; 0 makes every search anonymous.
        brands: number of brands.
        variants: number of colours in which each product is sold under one title; 1 names the colour in the title instead.
        departments: number of departments of the vocabulary that the shop has; None for all.
        categories: whether products have a category.
        tags: whether products have tags.
        descriptions: whether products have descriptions.
        taste: how much visitors prefer their own brands and colours; 0 for not at all.
        files: how the files are written; see `files.WRITERS`.
        seed: seeds everything.
    """

    name: str
    items: int
    words: tuple[Words, ...] = (ENGLISH,)
    searches: int = 0
    users: int = 200
    brands: int = 25
    variants: int = 1
    departments: int | None = None
    categories: bool = True
    tags: bool = False
    descriptions: bool = False
    taste: float = 1.5
    files: str = "plain"
    seed: int = 0


@dataclass(frozen=True)
class Product:
    """One product and everything that searches look at."""

    item_id: str
    title: str
    brand: str
    path: tuple[str, ...]
    noun: str
    asked: str
    colour: str
    material: str
    trait: str
    price: float
    description: str
    words: Words


@dataclass(frozen=True)
class Event:
    """One row of the log: time in seconds, user ("" for an anonymous one), query, product, and kind (search, click or purchase)."""

    time: int
    user: str
    query: str
    item_id: str
    kind: str


def make_products(spec: ShopSpec) -> list[Product]:
    """The catalogue of a shop."""
    random = np.random.default_rng([spec.seed, 1])
    brands = {words.language: _brands(words, spec.brands, random) for words in spec.words}
    products: list[Product] = []
    while len(products) < spec.items:
        words = spec.words[int(random.integers(len(spec.words)))]
        products += _family(spec, words, brands[words.language], len(products), random)
    return products[: spec.items]


def _family(spec: ShopSpec, words: Words, brands: list[str], first: int, random: np.random.Generator) -> list[Product]:
    """A product in as many colours as the shop sells it in."""
    department = str(random.choice(list(words.goods)[: spec.departments]))
    noun, _, asked = str(random.choice(words.goods[department])).partition("/")
    parts = {
        "brand": brands[min(int(random.exponential(len(brands) / 4)), len(brands) - 1)],
        "series": f"{chr(65 + int(random.integers(26)))}{int(random.integers(10, 1000))}",
        "trait": str(random.choice(words.traits)),
        "material": str(random.choice(words.materials)),
        "noun": noun,
    }
    price = round(float(random.lognormal(3.3, 0.8)), 2)
    colours = [str(colour) for colour in random.permutation(words.colours)[: spec.variants]]
    family = []
    for number, colour in enumerate(colours):
        shown = {**parts, "colour": colour if spec.variants == 1 else ""}
        title = words.blank.join(shown[part] for part in words.order if shown[part])
        family.append(
            Product(
                item_id=f"{10_000 + first + number}",
                title=title,
                brand=parts["brand"],
                path=(department, noun),
                noun=noun,
                asked=asked or noun,
                colour=colour,
                material=parts["material"],
                trait=parts["trait"],
                price=price,
                description=words.sentence.format(**parts),
                words=words,
            )
        )
    return family


def _brands(words: Words, count: int, random: np.random.Generator) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < count:
        parts = random.choice(words.syllables, int(random.integers(2, 4)))
        found.setdefault("".join(parts).capitalize())
    return list(found)


def make_events(spec: ShopSpec, products: list[Product]) -> list[Event]:
    """The log of a shop: visitors search, click what fits the query and their taste, and sometimes buy."""
    if not spec.searches:
        return []
    random = np.random.default_rng([spec.seed, 2])
    popularity = random.lognormal(0, 0.8, len(products))
    brands = sorted({product.brand for product in products})
    likes = [set(random.choice(brands, min(3, len(brands)), replace=False)) for _ in range(max(spec.users, 1))]
    colours = [
        {str(colour) for words in spec.words for colour in random.choice(words.colours, 2, replace=False)} for _ in likes
    ]
    of_noun: dict[str, list[int]] = {}
    for row, product in enumerate(products):
        of_noun.setdefault(product.noun, []).append(row)
    times = np.sort(random.integers(FIRST, FIRST + 90 * DAY, spec.searches))
    events: list[Event] = []
    for time in times.tolist():
        user = int(random.integers(len(likes)))
        wanted = products[int(random.choice(len(products), p=popularity / popularity.sum()))]
        query, rows = _query(wanted, products, of_noun[wanted.noun], random)
        own = np.array([products[row].brand in likes[user] for row in rows]) + np.array(
            [products[row].colour in colours[user] for row in rows]
        )
        weight = popularity[rows] * np.exp(spec.taste * own)
        clicks = random.choice(rows, min(len(rows), 1 + int(random.random() < 0.4)), replace=False, p=weight / weight.sum())
        name = f"u{user}" if spec.users else ""
        events.append(Event(time, name, query, "", "search"))
        for place, row in enumerate(clicks.tolist()):
            events.append(Event(time + 10 * (place + 1), name, query, products[row].item_id, "click"))
        if random.random() < 0.3:
            events.append(Event(time + 60, name, query, products[int(clicks[0])].item_id, "purchase"))
    return events


def _query(wanted: Product, products: list[Product], alike: list[int], random: np.random.Generator) -> tuple[str, list[int]]:
    """A query for a product of a kind, and the rows of the products that answer it."""
    blank = wanted.words.blank
    noun = wanted.asked if random.random() < 0.15 else wanted.noun
    drawn = random.random()
    if drawn < 0.5:
        return _typed(noun, random), alike
    name = ("colour", "material", "trait")[int(random.integers(3))] if drawn < 0.8 else "brand"
    value = getattr(wanted, name)
    return _typed(f"{value}{blank}{noun}", random), [row for row in alike if getattr(products[row], name) == value]


def _typed(query: str, random: np.random.Generator) -> str:
    """A query as it is typed: in lower case, and one in twenty with two letters swapped."""
    query = query.lower()
    if len(query) > 6 and random.random() < 0.05:
        place = int(random.integers(1, len(query) - 2))
        query = query[:place] + query[place + 1] + query[place] + query[place + 2 :]
    return query


__all__ = ["Event", "Product", "ShopSpec", "make_events", "make_products"]
