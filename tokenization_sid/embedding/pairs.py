"""Positive pairs and ranked triples from the sessions of one split, for aligning the text encoder with behaviour.

OneSearch (arXiv 2509.03236, KHQE) mines query–query, item–item and query–item pairs "with ItemCF and Swing" and drops those whose cosine
under the original encoder is below 0.6. It does not publish the graphs; our choice is:

* Two queries are alike if the same items were clicked or bought after them. The groups are the items.
* Two items are alike if the same users clicked or bought them. The groups are the users.
* A query and an item form a pair if the item was clicked or bought after the query.

Everything is sparse matrix algebra on row numbers of the distinct queries and of the items table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix, diags

from onesearch.data.market import Market
from onesearch.data.session_pairs import SessionItems, query_rows, session_items, session_items_by_part

from .configs import MiningConfig

GROUPS_AT_ONCE = 1024
"""Number of groups whose overlaps with all groups Swing computes at a time; it bounds the memory."""

SWINGS_AT_ONCE = 200_000
"""Number of pairs of groups that Swing adds at a time; it bounds the memory."""

MEMBERS_AT_ONCE = 4096
"""Number of members whose similarities by ItemCF are computed at a time; it bounds the memory."""

STRENGTHS = ("impressed", "clicked", "purchased")
"""Session columns from the weakest to the strongest feedback."""


def mine_pairs(
    market: Market, queries: list[str], config: MiningConfig, split: str = "train", seed: int = 0
) -> dict[str, np.ndarray]:
    """Mine distinct positive pairs of one split; the sessions of other splits are not read.

    1. A query–item pair is a query and an item that was clicked or bought after it.
    2. The items are groups of the queries in these pairs, and the users are groups of the items that they clicked or bought.
    3. Each query (item) forms pairs with its nearest ones by ItemCF and by Swing over these groups (`alike`).
    4. More than `max_pairs` pairs of a kind are sampled.

    Args:
        market: sessions and catalogue.
        queries: texts whose positions are the rows of queries; see `onesearch.tokenization_sid.embedding.embeddings.distinct_queries`.
        config: numbers of neighbours and upper bounds.
        split: ``train``, ``validation`` or ``test``.
        seed: seeds all sampling.

    Returns:
        For each of `PAIR_KINDS` (pairs, 2) int64 rows. ``q2q`` and ``i2i`` hold the smaller row first, ``q2i`` the query first.
    """
    sessions, items = session_items(market, split, ("clicked", "purchased"))
    asked = query_rows(market, queries)[sessions]
    known = asked >= 0
    users = np.asarray(_user_rows(market), dtype=np.int64)[sessions]
    q2i = distinct_rows(np.stack([asked[known], items[known]], axis=1))
    by_item = incidence(q2i[:, 1], q2i[:, 0], (len(market.items), len(queries)), config, seed)
    shape = (int(users.max(initial=-1)) + 1, len(market.items))
    by_user = incidence(users, items, shape, config, seed)
    found = {"q2q": alike(by_item, config), "i2i": alike(by_user, config), "q2i": q2i}
    return {kind: _sample(pairs, config.max_pairs, seed) for kind, pairs in found.items()}


def alike(matrix: csr_matrix, config: MiningConfig) -> np.ndarray:
    """Pair each member with its nearest members by ItemCF and by Swing, together.

    Args:
        matrix: (groups, members) of ones.
        config: number of neighbours and smoothing of Swing.

    Returns:
        (pairs, 2) int64 rows of members, distinct, the smaller first.
    """
    members = range(0, matrix.shape[1], MEMBERS_AT_ONCE)
    parts = (slice(start, min(start + MEMBERS_AT_ONCE, matrix.shape[1])) for start in members)
    keys = [nearest(item_cf(matrix, part), config.neighbours, part.start) for part in parts]
    keys.append(nearest(swing(matrix, config.swing_alpha), config.neighbours))
    return distinct_rows(np.concatenate(keys))


def incidence(groups: np.ndarray, members: np.ndarray, shape: tuple[int, int], config: MiningConfig, seed: int) -> csr_matrix:
    """Matrix of ones where a member belongs to a group, with bounded rows and columns.

    1. Keep each (group, member) once, in a random order.
    2. Leave every member in its first `max_groups` groups of that order.
    3. Leave every group its first `max_members` members of that order.

    Args:
        groups: (entries,) row of the group of each entry.
        members: (entries,) row of the member of each entry.
        shape: (groups, members) of the matrix.
        config: the two bounds.
        seed: seeds the order.

    Returns:
        (groups, members) float64.
    """
    keys = np.unique(groups * max(shape[1], 1) + members)
    keys = np.random.default_rng(seed).permutation(keys)
    groups, members = np.divmod(keys, max(shape[1], 1))
    kept = _place_within(members) < config.max_groups
    groups, members = groups[kept], members[kept]
    kept = _place_within(groups) < config.max_members
    groups, members = groups[kept], members[kept]
    return csr_matrix((np.ones(len(groups)), (groups, members)), shape=shape)


def item_cf(matrix: csr_matrix, part: slice = slice(None)) -> csr_matrix:
    """Item-based collaborative filtering: cosine of the groups of two members, in which large groups count less.

        s(i, j) = Σ_{u ∈ Uᵢ ∩ Uⱼ} 1 / log(1 + |Iᵤ|)  /  √(|Uᵢ| |Uⱼ|)

    Uᵢ are the groups of member i, Iᵤ the members of group u. Source: Linden, Smith, York, Amazon.com Recommendations (IEEE Internet
    Computing 2003), with the inverse user frequency of Breese, Heckerman, Kadie (UAI 1998).

    Args:
        matrix: (groups, members) of ones.
        part: members whose rows are computed.

    Returns:
        (members in the part, members), rows of a symmetric matrix with an empty diagonal.
    """
    sizes, counts = _members_per_group(matrix), _groups_per_member(matrix)
    damped = diags(1 / np.log1p(np.maximum(sizes, 1))) @ matrix
    scale = 1 / np.sqrt(np.maximum(counts, 1))
    rows = matrix.T.tocsr()[part]
    return _without_diagonal((diags(scale[part]) @ (rows @ damped) @ diags(scale)).tocsr(), part.start or 0)


def swing(matrix: csr_matrix, alpha: float = 1.0) -> csr_matrix:
    """Swing: two members are alike if pairs of groups share both of them and little else.

        s(i, j) = Σ_{u < v ∈ Uᵢ ∩ Uⱼ}  wᵤ wᵥ / (α + |Iᵤ ∩ Iᵥ|),  wᵤ = 1 / √|Iᵤ|

    Uᵢ are the groups of member i, Iᵤ the members of group u. Each pair of groups counts once; the paper sums over ordered pairs, which
    doubles every score and changes no order. Source: Yang et al., Large Scale Product Graph Construction for Recommendation in
    E-commerce (arXiv 2010.05525).

    1. For `GROUPS_AT_ONCE` groups u at a time, count the members that they share with all groups v.
    2. Keep the pairs u < v that share at least two members; a single one pairs no members.
    3. Add the weight of each pair to all pairs of its shared members, as Tᵀ diag(weight) T for the matrix T of shared members.

    Args:
        matrix: (groups, members) of ones.
        alpha: smoothing α. Raising it makes the number of shared members matter less.

    Returns:
        (members, members), symmetric, with an empty diagonal.
    """
    weights = 1 / np.sqrt(np.maximum(_members_per_group(matrix), 1))
    score = csr_matrix((matrix.shape[1], matrix.shape[1]))
    for start in range(0, matrix.shape[0], GROUPS_AT_ONCE):
        overlap = (matrix[start : start + GROUPS_AT_ONCE] @ matrix.T).tocoo()
        first = overlap.row + start
        both = (overlap.col > first) & (overlap.data >= 2)
        u, v, shared = first[both], overlap.col[both], overlap.data[both]
        for part in range(0, len(u), SWINGS_AT_ONCE):
            cut = slice(part, part + SWINGS_AT_ONCE)
            together = matrix[u[cut]].multiply(matrix[v[cut]]).tocsr()
            weight = weights[u[cut]] * weights[v[cut]] / (alpha + shared[cut])
            score = score + together.T @ diags(weight) @ together
    return _without_diagonal(score.tocsr())


def nearest(score: csr_matrix, k: int, first: int = 0) -> np.ndarray:
    """Pair each row with its `k` columns of the highest positive score; of equal scores the smaller column counts first.

    Args:
        score: (members in a part, members).
        k: number of columns per row.
        first: member of the first row.

    Returns:
        (pairs, 2) int64 rows, distinct, the smaller first.
    """
    entries = score.tocoo()
    order = np.lexsort((entries.col, -entries.data, entries.row))
    rows, columns = entries.row[order].astype(np.int64) + first, entries.col[order].astype(np.int64)
    taken = (np.arange(len(rows)) - np.searchsorted(rows, rows) < k) & (entries.data[order] > 0)
    pairs = np.stack([rows[taken], columns[taken]], axis=1)
    return distinct_rows(np.sort(pairs, axis=1))


def mine_triples(market: Market, queries: list[str], config: MiningConfig, split: str = "train", seed: int = 0) -> np.ndarray:
    """Mine triples of a query, an item and a weaker item of the same session; bought > clicked > shown.

    1. Give each item of a session the strongest of its feedbacks.
    2. Sort the entries by session and strength, so that the weaker items of an entry stand between the start of its session and the
       first entry of equal strength.
    3. For each clicked or bought item with a known query, sample `triples_per_item` of its weaker items.
    4. More than `max_pairs` triples are sampled.

    Args:
        market: sessions and catalogue.
        queries: texts whose positions are the rows of queries.
        config: triples per item and upper bound.
        split: ``train``, ``validation`` or ``test``.
        seed: seeds all sampling.

    Returns:
        (triples, 3) int64 rows of the query, the stronger and the weaker item; distinct.
    """
    random, asked = np.random.default_rng(seed), query_rows(market, queries)
    by_part = session_items_by_part(market, split, [(column,) for column in STRENGTHS])
    parts = [
        _triples_of(_strongest_feedback(found, len(market.items)), len(market.items), asked, config, random)
        for found in by_part
    ]
    triples = np.concatenate([np.empty((0, 3), dtype=np.int64), *parts])
    return _sample(distinct_rows(triples), config.max_pairs, seed)


def _triples_of(
    entries: _Feedback, catalogue: int, asked: np.ndarray, config: MiningConfig, random: np.random.Generator
) -> np.ndarray:
    """Triples (triples, 3) of some sessions.

    Args:
        entries: feedbacks of the sessions.
        catalogue: number of items.
        asked: row of each session's query, (sessions,).
        config: triples per item.
        random: draws the weaker items.
    """
    sessions, items = np.divmod(entries.keys, max(catalogue, 1))
    order = np.lexsort((items, entries.strength, sessions))
    sessions, items, strength = sessions[order], items[order], entries.strength[order]
    rank = sessions * 3 + strength
    first, below = np.searchsorted(sessions, sessions), np.searchsorted(rank, rank)
    usable = np.repeat(np.flatnonzero((below > first) & (strength > 0) & (asked[sessions] >= 0)), config.triples_per_item)
    weaker = first[usable] + (random.random(len(usable)) * (below - first)[usable]).astype(np.int64)
    return np.stack([asked[sessions[usable]], items[usable], items[weaker]], axis=1)


def cosines(pairs: np.ndarray, left: np.ndarray, right: np.ndarray, rows_at_once: int = 65_536) -> np.ndarray:
    """Cosine of each pair of rows.

    Args:
        pairs: (pairs, 2) rows of `left` and of `right`.
        left: (rows, dimension) unit vectors.
        right: (rows, dimension) unit vectors.
        rows_at_once: number of pairs that are computed at a time.

    Returns:
        (pairs,) float32.
    """
    parts = [pairs[start : start + rows_at_once] for start in range(0, len(pairs), rows_at_once)]
    found = [np.einsum("ij,ij->i", left[part[:, 0]], right[part[:, 1]]) for part in parts]
    return np.concatenate([np.empty(0, dtype=np.float32), *found])


class _Feedback(NamedTuple):
    """Entries (session, item) of the sessions: key session · items + item, and strength as a position in `STRENGTHS`."""

    keys: np.ndarray
    strength: np.ndarray


def _strongest_feedback(found: Sequence[SessionItems], catalogue: int) -> _Feedback:
    """Each item of some sessions once, with the strongest of its feedbacks; (entries,) each.

    Args:
        found: the sessions' items of each of `STRENGTHS`.
        catalogue: number of items.
    """
    of_strength: list[np.ndarray] = []
    taken = np.empty(0, dtype=np.int64)
    for pairs in reversed(found):
        of_strength.insert(0, np.setdiff1d(pairs.sessions * max(catalogue, 1) + pairs.items, taken))
        taken = np.union1d(taken, of_strength[0])
    return _Feedback(np.concatenate(of_strength), np.repeat(np.arange(len(STRENGTHS)), [len(keys) for keys in of_strength]))


def _user_rows(market: Market) -> np.ndarray:
    """Number of each session's user, (sessions,)."""
    column = market.sessions.data.column("user_id").combine_chunks()
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return column.dictionary_encode().indices.to_numpy(zero_copy_only=False)


def _place_within(values: np.ndarray) -> np.ndarray:
    """Number of equal values before each of `values`, (n,)."""
    order = np.argsort(values, kind="stable")
    place = np.empty(len(values), dtype=np.int64)
    place[order] = np.arange(len(values)) - np.searchsorted(values[order], values[order])
    return place


def _members_per_group(matrix: csr_matrix) -> np.ndarray:
    return np.asarray(matrix.sum(axis=1)).ravel()


def distinct_rows(rows: np.ndarray) -> np.ndarray:
    """``np.unique(rows, axis=0)`` of numbers from 0 on, in a third of the memory: each row becomes one number where they fit into 63 bits.

    Args:
        rows: (rows, columns) int64.
    """
    bounds = [int(bound) + 1 for bound in rows.max(axis=0)] if len(rows) else []
    if not bounds or math.prod(bounds) >= 2**63:
        return np.unique(rows, axis=0)
    found = np.unravel_index(np.unique(np.ravel_multi_index(tuple(rows.T), bounds)), bounds)
    return np.stack(found, axis=1).astype(np.int64, copy=False)


def _groups_per_member(matrix: csr_matrix) -> np.ndarray:
    return np.asarray(matrix.sum(axis=0)).ravel()


def _without_diagonal(matrix: csr_matrix, first: int = 0) -> csr_matrix:
    """The matrix without entries of a member with itself; `first` is the member of its first row."""
    matrix.setdiag(0, k=first)
    matrix.eliminate_zeros()
    return matrix


def _sample(rows: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """At most `limit` of `rows`, in their order."""
    if len(rows) <= limit:
        return rows
    return rows[np.sort(np.random.default_rng(seed).choice(len(rows), limit, replace=False))]


__all__ = ["alike", "cosines", "distinct_rows", "incidence", "item_cf", "mine_pairs", "mine_triples", "nearest", "swing"]
