"""Positive pairs and ordered triples from the sessions of one split, for aligning the text encoder with behaviour.

OneSearch (arXiv 2509.03236, KHQE) mines query–query, item–item and query–item pairs "with ItemCF and Swing" and drops those whose cosine
under the original encoder is below 0.6. Which graph each runs on is not published; here

* queries are alike when the same items were clicked or bought after them (groups: items),
* items are alike when the same users clicked or bought them (groups: users),
* a query and an item belong together when the item was clicked or bought after the query.

All of it is sparse matrix algebra on row numbers of the distinct queries and of the items table.
"""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix, diags

from onesearch.data.market import Market
from onesearch.data.session_pairs import query_rows, session_items

from .configs import MiningConfig

logger = logging.getLogger(__name__)

GROUPS_AT_ONCE = 1024
"""Rows of the group overlaps that Swing looks at together; bounds its memory."""

SWINGS_AT_ONCE = 200_000


def mine_pairs(
    market: Market, queries: list[str], config: MiningConfig, split: str = "train", seed: int = 0
) -> dict[str, np.ndarray]:
    """Distinct positive pairs of one split; no other session is looked at.

    Args:
        queries: texts that the rows of queries count in, see `onesearch.tokenization_sid.embedding.embeddings.distinct_queries`.

    Returns:
        Per kind of `PAIR_KINDS` an (pairs, 2) int64 array of rows: of two queries or two items the smaller row first; for ``q2i`` query
        and item, click and purchase alike.
    """
    sessions, items = session_items(market, split, ("clicked", "purchased"))
    asked = query_rows(market, queries)[sessions]
    known = asked >= 0
    users = np.asarray(_user_rows(market), dtype=np.int64)[sessions]
    q2i = np.unique(np.stack([asked[known], items[known]], axis=1), axis=0)
    by_item = incidence(q2i[:, 1], q2i[:, 0], (len(market.items), len(queries)), config, seed)
    shape = (int(users.max(initial=-1)) + 1, len(market.items))
    by_user = incidence(users, items, shape, config, seed)
    found = {"q2q": alike(by_item, config), "i2i": alike(by_user, config), "q2i": q2i}
    return {kind: _sample(pairs, config.max_pairs, seed) for kind, pairs in found.items()}


def alike(matrix: csr_matrix, config: MiningConfig) -> np.ndarray:
    """(pairs, 2): the nearest members of each member of `matrix` (groups, members) by ItemCF and by Swing, together."""
    keys = [nearest(score, config.neighbours) for score in (item_cf(matrix), swing(matrix, config.swing_alpha))]
    return np.unique(np.concatenate(keys), axis=0)


def incidence(groups: np.ndarray, members: np.ndarray, shape: tuple[int, int], config: MiningConfig, seed: int) -> csr_matrix:
    """Who is in which group as ones, (groups, members). First no member is left in more than `max_groups` groups, then no group with
    more than `max_members` members; which entries go is a seeded draw.
    """
    keys = np.unique(groups * max(shape[1], 1) + members)
    keys = np.random.default_rng(seed).permutation(keys)
    groups, members = np.divmod(keys, max(shape[1], 1))
    for column, limit in ((1, config.max_groups), (0, config.max_members)):
        kept = _place_within((groups, members)[column]) < limit
        groups, members = groups[kept], members[kept]
    return csr_matrix((np.ones(len(groups)), (groups, members)), shape=shape)


def item_cf(matrix: csr_matrix) -> csr_matrix:
    """Item-based collaborative filtering: the cosine of two members' groups, large groups damped.

        s(i, j) = Σ_{u ∈ Uᵢ ∩ Uⱼ} 1 / log(1 + |Iᵤ|)  /  √(|Uᵢ| |Uⱼ|)

    Linden, Smith, York: Amazon.com Recommendations (IEEE Internet Computing 2003); damping by inverse user frequency after Breese,
    Heckerman, Kadie (UAI 1998).

    Args:
        matrix: (groups, members) of ones, groups u, members i and j.

    Returns:
        (members, members), symmetric, empty diagonal.
    """
    sizes, counts = _sizes(matrix)
    damped = diags(1 / np.log1p(np.maximum(sizes, 1))) @ matrix
    scale = diags(1 / np.sqrt(np.maximum(counts, 1)))
    return _without_diagonal((scale @ (matrix.T @ damped) @ scale).tocsr())


def swing(matrix: csr_matrix, alpha: float = 1.0) -> csr_matrix:
    """Swing: two members are alike when pairs of groups share them and little else.

        s(i, j) = Σ_{u < v ∈ Uᵢ ∩ Uⱼ}  wᵤ wᵥ / (α + |Iᵤ ∩ Iᵥ|),  wᵤ = 1 / √|Iᵤ|

    Yang et al.: Large Scale Product Graph Construction for Recommendation in E-commerce (arXiv 2010.05525). Each pair of groups is
    counted once, which halves every score of the paper's sum over ordered pairs and changes no order.

    Args:
        matrix: (groups, members) of ones, groups u and v, members i and j.

    Returns:
        (members, members), symmetric, empty diagonal.
    """
    weights = 1 / np.sqrt(np.maximum(_sizes(matrix)[0], 1))
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


def nearest(score: csr_matrix, k: int) -> np.ndarray:
    """(pairs, 2) rows, the smaller first: each row with its `k` highest positive columns; of equal scores the smaller column."""
    entries = score.tocoo()
    order = np.lexsort((entries.col, -entries.data, entries.row))
    rows, columns = entries.row[order].astype(np.int64), entries.col[order].astype(np.int64)
    taken = (np.arange(len(rows)) - np.searchsorted(rows, rows) < k) & (entries.data[order] > 0)
    pairs = np.stack([rows[taken], columns[taken]], axis=1)
    return np.unique(np.sort(pairs, axis=1), axis=0)


def mine_triples(market: Market, queries: list[str], config: MiningConfig, split: str = "train", seed: int = 0) -> np.ndarray:
    """Query, item and an item of the same session that did less: bought > clicked > shown.

    Returns:
        (triples, 3) int64 rows of queries, items, items. For each clicked or bought item `triples_per_item` weaker ones are drawn.
    """
    width = max(len(market.items), 1)
    level: dict[str, np.ndarray] = {}
    taken = np.empty(0, dtype=np.int64)
    for column in ("purchased", "clicked", "impressed"):
        sessions, items = session_items(market, split, (column,))
        level[column] = np.setdiff1d(sessions * width + items, taken)
        taken = np.union1d(taken, level[column])
    keys = np.concatenate([level["impressed"], level["clicked"], level["purchased"]])
    strength = np.repeat([0, 1, 2], [len(level[name]) for name in ("impressed", "clicked", "purchased")])
    sessions, items = np.divmod(keys, width)
    order = np.lexsort((items, strength, sessions))
    sessions, items, strength = sessions[order], items[order], strength[order]
    place = sessions * 3 + strength
    first, below = np.searchsorted(sessions, sessions), np.searchsorted(place, place)
    asked = query_rows(market, queries)[sessions]
    usable = np.repeat(np.flatnonzero((below > first) & (strength > 0) & (asked >= 0)), config.triples_per_item)
    random = np.random.default_rng(seed).random(len(usable))
    weaker = first[usable] + (random * (below - first)[usable]).astype(np.int64)
    triples = np.stack([asked[usable], items[usable], items[weaker]], axis=1)
    return _sample(np.unique(triples, axis=0), config.max_pairs, seed)


def cosines(pairs: np.ndarray, left: np.ndarray, right: np.ndarray, rows_at_once: int = 65_536) -> np.ndarray:
    """(pairs,) float32: cosine of each pair of rows under unit vectors `left` and `right`, (rows, dimension) each."""
    parts = [pairs[start : start + rows_at_once] for start in range(0, len(pairs), rows_at_once)]
    found = [np.einsum("ij,ij->i", left[part[:, 0]], right[part[:, 1]]) for part in parts]
    return np.concatenate([np.empty(0, dtype=np.float32), *found])


def _user_rows(market: Market) -> np.ndarray:
    """Number of each session's user, (sessions,)."""
    column = market.sessions.data.column("user_id").combine_chunks()
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return column.dictionary_encode().indices.to_numpy(zero_copy_only=False)


def _place_within(values: np.ndarray) -> np.ndarray:
    """How many equal values stand before each value."""
    order = np.argsort(values, kind="stable")
    place = np.empty(len(values), dtype=np.int64)
    place[order] = np.arange(len(values)) - np.searchsorted(values[order], values[order])
    return place


def _sizes(matrix: csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Members per group and groups per member."""
    return np.asarray(matrix.sum(axis=1)).ravel(), np.asarray(matrix.sum(axis=0)).ravel()


def _without_diagonal(matrix: csr_matrix) -> csr_matrix:
    matrix.setdiag(0)
    matrix.eliminate_zeros()
    return matrix


def _sample(rows: np.ndarray, limit: int, seed: int) -> np.ndarray:
    if len(rows) <= limit:
        return rows
    return rows[np.sort(np.random.default_rng(seed).choice(len(rows), limit, replace=False))]
