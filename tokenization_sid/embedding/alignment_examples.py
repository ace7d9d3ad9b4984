"""Training examples of the alignment: mined pairs and triples of the training sessions, and judged pairs."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from onesearch.data.market import Market

from .alignment_measures import held_out_queries, pair_sides
from .configs import PAIR_KINDS, AlignmentConfig
from .pairs import cosines, mine_pairs, mine_triples

logger = logging.getLogger(__name__)

HIGHEST_GRADE = 3
"""Highest grade of the relevance table."""

FEW = 0.01
"""Share of the mined pairs below which the cosine filter leaves too few, and a warning says so. Our choice."""


@dataclass(frozen=True)
class Examples:
    """Training examples per kind.

    Args:
        rows: kind → rows of queries and items, (pairs, 2), or (triples, 3) for ``rank``. Kinds without examples or weight are absent.
        positives: kind of pair → all mined pairs, (pairs, 2), including those that the cosine filter drops: none of them is a negative.
        grades: (judgements,) float32 grades in 0 to 1, aligned with ``rows["relevance"]``.
        counts: kind → numbers of ``mined`` and ``kept`` examples.
    """

    rows: dict[str, np.ndarray]
    positives: dict[str, np.ndarray]
    grades: np.ndarray
    counts: dict[str, dict[str, int]]


class Judgements(NamedTuple):
    """Judged pairs: (pairs, 2) int64 rows of queries and items, and (pairs,) float32 grades as shares of the highest."""

    pairs: np.ndarray
    grades: np.ndarray


def collect_examples(
    market: Market, queries: list[str], config: AlignmentConfig, query_vectors: np.ndarray, item_vectors: np.ndarray
) -> Examples:
    """Collect the examples of every kind from the training sessions and the judgements.

    1. Mine positive pairs, and drop those whose cosine under the base encoder is below `min_cosine`.
    2. Mine ranked triples.
    3. Read the judged pairs.
    4. Leave out the kinds without examples and those whose loss has weight 0.

    Args:
        market: sessions, catalogue and judgements.
        queries: texts whose positions are the rows of queries.
        config: mining and weights.
        query_vectors: (queries, dimension) unit vectors of the base encoder.
        item_vectors: (items, dimension) unit vectors of the base encoder.

    Raises:
        ValueError: no kind is left.
    """
    positives = mine_pairs(market, queries, config.mining, seed=config.seed)
    rows: dict[str, np.ndarray] = {}
    counts: dict[str, dict[str, int]] = {}
    for kind in PAIR_KINDS:
        sides = pair_sides(kind, query_vectors, item_vectors)
        rows[kind] = _similar(positives[kind], *sides, config.mining.min_cosine)
        counts[kind] = {"mined": len(positives[kind]), "kept": len(rows[kind])}
        _warn_if_few(kind, counts[kind], config.mining.min_cosine)
    rows["rank"] = mine_triples(market, queries, config.mining, seed=config.seed)
    rows["relevance"], grades = judged_pairs(market, queries)
    for kind in ("rank", "relevance"):
        counts[kind] = {"mined": len(rows[kind]), "kept": len(rows[kind])}
    used = {kind: part for kind, part in rows.items() if len(part) and config.weights[kind]}
    if not used:
        raise ValueError(
            f"nothing to align on: {counts} (mined and kept per loss); lower mining.min_cosine={config.mining.min_cosine} or "
            "give another loss a weight"
        )
    if "relevance" in used:
        logger.info(
            "%s judgements train the encoder: on their queries the relevance report is not held out", f"{len(grades):,}"
        )
    return Examples(used, positives, grades, counts)


def judged_pairs(market: Market, queries: list[str]) -> Judgements:
    """Judged pairs of the relevance table whose query is not asked in a held-out session.

    Args:
        market: judgements, catalogue and sessions.
        queries: texts whose positions are the rows of queries.
    """
    row_of = {query: row for row, query in enumerate(queries)}
    item_of = {item_id: row for row, item_id in enumerate(market.items.data.column("item_id").to_pylist())}
    held = held_out_queries(market)
    columns = (market.relevance.data.column(name).to_pylist() for name in ("query", "item_id", "grade"))
    judged = [
        (row_of[query], item_of[item], grade)
        for query, item, grade in zip(*columns)
        if query in row_of and item in item_of and query not in held
    ]
    table = np.array(judged, dtype=np.int64).reshape(-1, 3)
    return Judgements(table[:, :2], (table[:, 2] / HIGHEST_GRADE).astype(np.float32))


def _similar(pairs: np.ndarray, left: np.ndarray, right: np.ndarray, least: float | None) -> np.ndarray:
    """Pairs (pairs, 2) whose cosine is at least `least`; all of them if it is None."""
    return pairs if least is None else pairs[cosines(pairs, left, right) >= least]


def _warn_if_few(kind: str, counts: dict[str, int], least: float | None) -> None:
    if counts["kept"] < FEW * counts["mined"]:
        logger.warning(
            "%s: %s of %s mined pairs have a cosine of at least %s under the base encoder, which is too few to learn from; "
            "lower mining.min_cosine (--min-cosine), or set it to -1 to keep all pairs",
            kind, f"{counts['kept']:,}", f"{counts['mined']:,}", least,
        )  # fmt: skip


__all__ = ["Examples", "Judgements", "collect_examples", "judged_pairs"]
