"""Graded judgements from the latent intents: 3 product and attribute match, 2 only the product matches, 1 sibling category, 0 else."""

from __future__ import annotations

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
    sessions = _sample_queries(rng, queries.indices.to_numpy(), config.judged_queries)
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
    """Grade items from 0 to 3 against the intent of a session; `items` and the result are ``(items,)``."""
    catalogue, vocabulary, intents = world.catalogue, world.vocabulary, world.intents
    leaf, kind, word = intents.leaves[session], intents.kinds[session], intents.words[session]
    same_leaf = catalogue.leaves[items] == leaf
    sibling = vocabulary.groups[catalogue.leaves[items]] == vocabulary.groups[leaf]
    exact = same_leaf & ((word < 0) | (catalogue.words[kind, items] == word))
    return sibling.astype(np.int8) + same_leaf + exact


def _sample_queries(rng: np.random.Generator, codes: np.ndarray, count: int) -> np.ndarray:
    """Session numbers whose queries are distinct, at most `count`."""
    shuffled = rng.permutation(len(codes))
    _, first = np.unique(codes[shuffled], return_index=True)
    return shuffled[np.sort(first)[:count]]


def _judge(world: World, rng: np.random.Generator, session: int) -> list[tuple[int, int]]:
    """Judged items of one query with their grades: a sample by grade from its leaf and the sibling leaves, and random others."""
    count = world.config.judged_items
    groups, leaf = world.vocabulary.groups, world.intents.leaves[session]
    siblings = np.flatnonzero(groups == groups[leaf]).tolist()
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
