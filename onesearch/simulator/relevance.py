"""Graded judgements from the latent intents: 3 product and attribute match, 2 only the product matches, 1 sibling category, 0 else."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from onesearch.data.schema import arrow_schema

from .world import World

_GRADE_SHARES = {3: 0.35, 2: 0.25, 1: 0.2}
"""Share of each grade among a query's judged items; grade 0 fills the rest."""


def judge_queries(world: World, queries: pa.DictionaryArray, item_ids: pa.Array) -> pa.Table:
    """Judge items for a sample of distinct queries; frequent queries are sampled more often.

    Args:
        world: all latent state.
        queries: query of every session, ``(sessions,)``.
        item_ids: ids by item number, ``(items,)``.

    Returns:
        The relevance table; each query has items of every grade that the catalogue offers for it.
    """
    config = world.config
    rng = config.stream("relevance")
    sessions = _sample_queries(rng, queries.indices.to_numpy(), world.visits.agendas.searched, config.judged_queries)
    texts, items, grades = [], [], []
    for session in sessions.tolist():
        graded = _judge(world, rng, session)
        texts += [queries[session].as_py()] * len(graded)
        items += [item for item, _ in graded]
        grades += [grade for _, grade in graded]
    columns = [
        pa.array(texts, type=pa.string()),
        item_ids.take(pa.array(items, type=pa.int64())),
        pa.array(grades, type=pa.int8()),
    ]
    return pa.table(columns, schema=arrow_schema("relevance"))


def grade_items(world: World, session: int, items: np.ndarray) -> np.ndarray:
    """Grade items from 0 to 3 against what the query of a session says; `items` and the result are ``(items,)``."""
    catalogue, kind, word = world.catalogue, world.intents.kinds[session], world.intents.words[session]
    area = _area_of(world, session)
    product, near = area.product[catalogue.leaves[items]], area.near[catalogue.leaves[items]]
    exact = product & ((word < 0) | (catalogue.facets[kind, items] == word))
    return near.astype(np.int8) + product + exact


class _Area(NamedTuple):
    """Leaf categories of the product that a query names, and those near it (the product's own among them), both bool ``(leaves,)``."""

    product: np.ndarray
    near: np.ndarray


def _area_of(world: World, session: int) -> _Area:
    """A leaf category with its group or, for a query that names a group, the group with its department."""
    vocabulary, leaf, scope = world.vocabulary, world.intents.leaves[session], world.intents.scopes[session]
    group = vocabulary.groups == vocabulary.groups[leaf]
    if scope < world.config.leaves:
        return _Area(np.arange(world.config.leaves) == leaf, group)
    return _Area(group, vocabulary.departments == vocabulary.departments[leaf])


def _sample_queries(rng: np.random.Generator, codes: np.ndarray, searched: np.ndarray, count: int) -> np.ndarray:
    """Session numbers whose queries are distinct and not empty, at most `count`."""
    shuffled = rng.permutation(len(codes))
    shuffled = shuffled[searched[shuffled]]
    _, first = np.unique(codes[shuffled], return_index=True)
    return shuffled[np.sort(first)[:count]]


def _judge(world: World, rng: np.random.Generator, session: int) -> list[tuple[int, int]]:
    """Judged items of one query with their grades: a sample by grade from its product and what is near it, and random others."""
    count = world.config.judged_items
    siblings = np.flatnonzero(_area_of(world, session).near).tolist()
    near = np.concatenate([world.catalogue.items_of(sibling) for sibling in siblings])
    candidates = np.concatenate([rng.permutation(near), rng.integers(0, world.config.items, 4 * count)])
    grades = grade_items(world, session, candidates)
    chosen: dict[int, int] = {}
    for grade, share in _GRADE_SHARES.items():
        chosen |= dict.fromkeys(candidates[grades == grade][: round(share * count)].tolist(), grade)
    for item in candidates[grades == 0].tolist():
        if len(chosen) == count:
            break
        chosen[item] = 0
    return list(chosen.items())
