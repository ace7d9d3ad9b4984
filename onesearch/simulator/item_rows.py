"""Turns the arrays of items and users into rows of the market tables, chunk by chunk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from string import Formatter
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from onesearch.data.arrow_tables import conform
from onesearch.data.schema import ATTRIBUTE_TYPES, arrow_schema

from .catalogue import Catalogue
from .config import ResolvedConfig
from .item_extras import further_texts, item_features
from .users import Users
from .vocabulary import WORD_TYPES, Vocabulary, generate_names
from .words import AGE_BUCKETS, AUDIENCES, DEPARTMENTS, GENDERS, MARKETING, PRICE_WORDS, REGIONS, SERIES

CHUNK = 50_000
"""Rows per written chunk: bounds the memory and does not change the contents."""

_TEMPLATES = (
    "{brand} {audience} {function} {style} {entity}, {color} {pattern}, {series}, {model}",
    "{brand} {model} {modifier} {style} {entity} in {color}, {material}, {function}, {specifications}",
    "{color} {pattern} {style} {entity} by {brand}, {audience} {modifier}, {material}, {specifications}",
    "{brand} {series} {audience} {style} {entity}, {color} {material}, {modifier} {function}, {model}",
)


def numbered_ids(prefix: str, count: int) -> pa.Array:
    """The ids ``prefix-0000000``, ``prefix-0000001`` and so on."""
    return pa.array([f"{prefix}-{number:07d}" for number in range(count)], type=pa.string())


def item_tables(
    config: ResolvedConfig, vocabulary: Vocabulary, catalogue: Catalogue, ids: pa.Array, statistics: Mapping[str, np.ndarray]
) -> Iterator[pa.Table]:
    """Yield the items table, chunk by chunk.

    Args:
        config: settings.
        vocabulary: all words.
        catalogue: all items.
        ids: ids by item number, ``(items,)``.
        statistics: counts of the items by column, each ``(items,)``; columns that are absent stay empty.
    """
    rng = config.stream("titles")
    paths = pa.array([leaf.path for leaf in vocabulary.leaves])
    sellers = _seller_names(config, int(catalogue.extras["seller"].max()) + 1)
    for start in range(0, config.items, CHUNK):
        rows = np.arange(start, min(start + CHUNK, config.items))
        values = attribute_values(vocabulary, catalogue, rows)
        titles = _titles(rng, values)
        if config.silent_titles:
            titles = _silenced(config, titles, values, start)
        columns = {
            "item_id": ids.take(pa.array(rows)),
            "title": pa.array(titles.texts, type=pa.string()),
            "brand": pa.array(values["brand"], type=pa.string()),
            "seller": sellers.take(pa.array(catalogue.extras["seller"][rows])),
            "categories": paths.take(pa.array(catalogue.leaves[rows])),
            "price": pa.array(catalogue.prices[rows], type=pa.float32()),
            "attributes": pa.StructArray.from_arrays(
                [_as_lists(values[kind]) for kind in ATTRIBUTE_TYPES], names=list(ATTRIBUTE_TYPES)
            ),
            **further_texts(config, values, titles.kinds, start),
            **{name: pa.array(counts[rows]) for name, counts in statistics.items()},
        }
        features = item_features(config, vocabulary, catalogue, rows)
        if features is not None:
            columns["features"] = features
        yield conform("items", pa.table(columns), "simulated items")


def user_tables(users: Users, ids: pa.Array) -> Iterator[pa.Table]:
    """Yield the users table, chunk by chunk; it does not contain tastes."""
    for start in range(0, len(ids), CHUNK):
        part = slice(start, start + CHUNK)
        columns = [
            ids[part],
            pa.array(GENDERS).take(pa.array(users.genders[part])),
            pa.array(AGE_BUCKETS).take(pa.array(users.ages[part])),
            pa.array(REGIONS).take(pa.array(users.regions[part])),
        ]
        yield pa.table(columns, schema=arrow_schema("users"))


def attribute_values(vocabulary: Vocabulary, catalogue: Catalogue, rows: np.ndarray) -> dict[str, list[str | None]]:
    """Return the attributes of some items.

    Args:
        vocabulary: all words.
        catalogue: all items.
        rows: item numbers, ``(rows,)``.

    Returns:
        For each of the 18 attribute types one value per item, None where the item has none.
    """
    extras = {name: numbers[rows] for name, numbers in catalogue.extras.items()}
    words = catalogue.words[:, rows]
    values = {kind: _pick(vocabulary.words, words[row]) for row, kind in enumerate(WORD_TYPES)}
    brands = words[WORD_TYPES.index("brand")] - vocabulary.spans["brand"][0]
    initials = [vocabulary.brands.names[brand][:2].upper() for brand in brands.tolist()]
    specifications = [text for department in DEPARTMENTS.values() for text in department.specifications.split(",")]
    departments = vocabulary.departments[catalogue.leaves[rows]]
    places = np.where(extras["specifications"] < 0, -1, 5 * departments + extras["specifications"])
    values |= {
        "brand": _pick(vocabulary.brands.names, brands),
        "entity": _pick([leaf.noun for leaf in vocabulary.leaves], catalogue.leaves[rows]),
        "audience": _pick(list(AUDIENCES), catalogue.audiences[rows]),
        "location": _pick([f"made in the {region}" for region in REGIONS], vocabulary.brands.regions[brands]),
        "specifications": _pick(specifications, places),
        "series": _pick(SERIES, extras["series"]),
        "marketing": _pick(MARKETING, extras["marketing"]),
        "price": _pick(PRICE_WORDS, extras["price"]),
        "anchor": _pick([f"live host {number}" for number in range(1, 61)], extras["anchor"]),
    }
    values["model"] = [f"{letters}-{serial}" for letters, serial in zip(initials, extras["serial"].tolist())]
    return values


def _pick(texts: list[str] | tuple[str, ...], numbers: np.ndarray) -> list[str | None]:
    """Text of each number; None for -1."""
    return [texts[number] if number >= 0 else None for number in numbers.tolist()]


def _as_lists(values: list[str | None]) -> pa.ListArray:
    """Lists of one value each; an empty list for None."""
    present = [value for value in values if value is not None]
    offsets = np.concatenate([[0], np.cumsum([value is not None for value in values])])
    return pa.ListArray.from_arrays(pa.array(offsets, type=pa.int32()), pa.array(present, type=pa.string()))


class _Titles(NamedTuple):
    """Titles of some items, and the attribute types that each of them names if the item has them, both ``(items,)``."""

    texts: list[str]
    kinds: list[frozenset[str]]


def _titles(rng: np.random.Generator, values: dict[str, list[str | None]]) -> _Titles:
    """Fill a random template per item; absent attributes leave no gap."""
    columns = {kind: [value or "" for value in values[kind]] for kind in values}
    columns["audience"] = [AUDIENCES[value] if value else "" for value in columns["audience"]]
    columns["series"] = [f"{value} series" if value else "" for value in columns["series"]]
    shapes = rng.integers(0, len(_TEMPLATES), len(values["brand"])).tolist()
    kinds = list(columns)
    filled = (_TEMPLATES[shape].format(**dict(zip(kinds, row))) for shape, row in zip(shapes, zip(*columns.values())))
    texts = [", ".join(" ".join(phrase.split()) for phrase in text.split(",") if phrase.strip()) for text in filled]
    named = [frozenset(name for _, name, _, _ in Formatter().parse(template) if name) for template in _TEMPLATES]
    return _Titles(texts, [named[shape] for shape in shapes])


def _silenced(config: ResolvedConfig, titles: _Titles, values: Mapping[str, list[str | None]], first: int) -> _Titles:
    """Titles of which `silent_titles` name nothing but series and model.

    Args:
        config: settings.
        titles: whole titles.
        values: value of every attribute type for each item.
        first: number of the first item.
    """
    silent = config.stream("silent titles", first).random(len(titles.texts)) < config.silent_titles
    short = [" ".join(filter(None, pair)) for pair in zip(values["series"], values["model"])]
    texts = [other if is_silent else text for text, other, is_silent in zip(titles.texts, short, silent.tolist())]
    kinds = [frozenset(("series", "model")) if is_silent else kind for kind, is_silent in zip(titles.kinds, silent.tolist())]
    return _Titles(texts, kinds)


def _seller_names(config: ResolvedConfig, count: int) -> pa.Array:
    """Invented names of `count` sellers."""
    names = generate_names(config.stream("sellers"), count, set())
    kinds = ("Store", "Market", "Outlet", "Trading")
    return pa.array([f"{name} {kinds[number % len(kinds)]}" for number, name in enumerate(names)], type=pa.string())
