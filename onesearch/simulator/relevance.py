"""Graded judgements from the truth: 3 exact, 2 right product without the attribute, 1 sibling category, 0 anything else."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from onesearch.data.market import arrow_schema

from .world import World

_GRADE_SHARES = {3: 0.35, 2: 0.25, 1: 0.2}
"""Shares of a query's judged items by grade; grade 0 fills what is left."""


def judge_queries(world: World, queries: pa.DictionaryArray, item_ids: pa.Array) -> pa.Table:
    """The relevance table: distinct queries, frequent ones more likely, each with items of every grade that exists."""
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
    """Grades 0 to 3 of `items` for what a session looks for."""
    catalogue, vocabulary, intents = world.catalogue, world.vocabulary, world.intents
    leaf, kind, word = intents.leaves[session], intents.kinds[session], intents.words[session]
    same_leaf = catalogue.leaves[items] == leaf
    sibling = vocabulary.groups[catalogue.leaves[items]] == vocabulary.groups[leaf]
    exact = same_leaf & ((word < 0) | (catalogue.words[kind, items] == word))
    return sibling.astype(np.int8) + same_leaf + exact


def _sample_queries(rng: np.random.Generator, codes: np.ndarray, count: int) -> np.ndarray:
    """One session of each of up to `count` distinct queries."""
    shuffled = rng.permutation(len(codes))
    _, first = np.unique(codes[shuffled], return_index=True)
    return shuffled[np.sort(first)[:count]]


def _judge(world: World, rng: np.random.Generator, session: int) -> list[tuple[int, int]]:
    """Judged items of one query: its own leaf and siblings, sampled by grade, and random others."""
    count = world.config.judged_items
    groups, leaf = world.vocabulary.groups, world.intents.leaves[session]
    near = np.concatenate([world.catalogue.items_of(other) for other in np.flatnonzero(groups == groups[leaf])])
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
