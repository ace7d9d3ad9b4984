"""Measures of a set of codes: codebook utilisation, collisions, reconstruction, purity and agreement of queries with items.

``sids/diagnostics.json`` (schema 2)::

    {"schema": 2, "fingerprint": str, "codebook_sizes": [int], "fit_on": "items" | "both", "keywords": bool,
     "fusion": FUSION | null,   # codes without and with fused keywords; null if no keyword could be fused
     "keyword_lists": {type: int}, "named": {"items": float, "queries": float},   # share of texts that name a keyword
     "items": MEASURES, "queries": MEASURES | null, "both": MEASURES | null,
     "purity": {"coarse": PURITY | null, "fine": PURITY | null},
     "told": {kind of value: TOLD},
     "agreement": {"split": "validation", "click": AGREEMENT | null, "purchase": AGREEMENT | null},
     "page": ["diagnostics.png", "diagnostics.svg"] | []}

MEASURES are those of `measures` and `Reconstruction.measures`, PURITY that of `purity`, TOLD that of `level_meaning` in
``level_meaning.py``, AGREEMENT that of `agreement`, and FUSION the fields of `FusionCheck` in ``fusion.py``. ``keywords`` says whether
keywords are fused. ``queries`` are the distinct queries with a known word, each counted once; ``queries`` and ``both`` are null if there
are none. The agreement is measured on the validation split, so that the test split stays unseen while a quantizer is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .prefixes import prefix_ids
from .reconstruction import Reconstruction

DIAGNOSTICS_NAME = "diagnostics.json"
SCHEMA = 2


def measures(codes: np.ndarray, codebook_sizes: Sequence[int]) -> dict[str, Any]:
    """Codebook utilisation and collisions (OneSearch, arXiv 2509.03236, Tables 2 and 3; PRQ-KMeans for the second ICR).

    Args:
        codes: (n, levels), n ≥ 1.
        codebook_sizes: codebook size of each level.

    Returns:
        Lists have one entry per level.

        * ``count``: n; ``distinct_sids``: number of distinct SIDs; ``largest_bucket``: most rows with one SID.
        * ``cur_per_prefix``: codebook utilisation rate: distinct prefixes of length 1, 2, … over the product of their codebook sizes.
        * ``cur_per_level``: codebook utilisation rate of each level alone; ``used_per_level``: number of its codes in use.
        * ``entropy_per_level``: entropy of the use of codes, in bits; ``perplexity_per_level``: 2^entropy.
        * ``gini_per_level``: Gini coefficient of the use of all codes of a level, unused ones included: 0 if all are used alike, towards
            1 if one code has all rows.
        * ``icr_items``: independent coding rate: share of rows whose SID no other row has (the authors' code).
        * ``icr_sids``: share of distinct SIDs that a single row has (PRQ-KMeans' definition).
        * ``icr_items_per_prefix``, ``icr_sids_per_prefix``: the same for prefixes of length 1, 2, …, for instance before the product codes.
        * ``buckets``: SIDs by size: ``{"from", "to", "sids", "rows"}`` for the sizes 1, 2, 3–4, 5–8, …

    Raises:
        ValueError: there are no codes.
    """
    codes = np.asarray(codes)
    if not len(codes):
        raise ValueError("no codes to measure: the catalogue is empty")
    prefixes = prefix_ids(codes, codebook_sizes)
    usage = [np.bincount(codes[:, level], minlength=size) for level, size in enumerate(codebook_sizes)]
    per_prefix = [np.bincount(ids) for ids in prefixes]
    bucket_sizes = per_prefix[-1]
    single = [int((sizes == 1).sum()) for sizes in per_prefix]
    distinct = [int(ids.max()) + 1 for ids in prefixes]
    possible = np.cumprod(np.asarray(codebook_sizes, dtype=float)).tolist()
    entropy = [_entropy(counts) for counts in usage]
    return {
        "count": len(codes),
        "distinct_sids": len(bucket_sizes),
        "cur_per_prefix": [number / most for number, most in zip(distinct, possible)],
        "cur_per_level": [int((counts > 0).sum()) / len(counts) for counts in usage],
        "used_per_level": [int((counts > 0).sum()) for counts in usage],
        "entropy_per_level": entropy,
        "perplexity_per_level": [float(2**bits) for bits in entropy],
        "gini_per_level": [gini(counts) for counts in usage],
        "icr_items": single[-1] / len(codes),
        "icr_sids": single[-1] / len(bucket_sizes),
        "icr_items_per_prefix": [alone / len(codes) for alone in single],
        "icr_sids_per_prefix": [alone / len(sizes) for alone, sizes in zip(single, per_prefix)],
        "largest_bucket": int(bucket_sizes.max()),
        "buckets": _buckets(bucket_sizes),
    }


def gini(counts: np.ndarray) -> float:
    """Gini coefficient of non-negative `counts` (codes,), zeros included: 0 if all are equal, towards 1 if one has all."""
    ordered = np.sort(np.asarray(counts, dtype=float))
    ranks = np.arange(1, len(ordered) + 1)
    return float(2 * (ranks * ordered).sum() / (len(ordered) * ordered.sum()) - (len(ordered) + 1) / len(ordered))


def purity(codes: np.ndarray, codebook_sizes: Sequence[int], categories: np.ndarray) -> dict[str, Any] | None:
    """How well prefixes separate categories.

    Args:
        codes: (items, levels).
        codebook_sizes: codebook size of each level.
        categories: (items,) ids, -1 for an item without a category.

    Returns:
        None if no item has a category, else

        * ``per_prefix``: for the lengths 1, 2, … the share of items whose category is the most frequent of their prefix. It is trivially
            1 where every prefix holds a single item.
        * ``without_codes``: the same share with all items under one prefix.
        * ``categories``, ``items``: numbers of categories and of items with one.
    """
    known = categories >= 0
    if not known.any():
        return None
    categories, codes = categories[known], codes[known]
    number = int(categories.max()) + 1
    return {
        "items": len(codes),
        "categories": len(np.unique(categories)),
        "without_codes": int(np.bincount(categories).max()) / len(codes),
        "per_prefix": [_majority(ids, categories, number) / len(codes) for ids in prefix_ids(codes, codebook_sizes)],
    }


def agreement(queries: np.ndarray, items: np.ndarray, codebook_sizes: Sequence[int]) -> dict[str, Any] | None:
    """How far the codes of queries agree with those of the items that followed.

    Args:
        queries: (pairs, levels) codes of the queries.
        items: (pairs, levels) codes of the items, aligned.
        codebook_sizes: codebook size of each level.

    Returns:
        None without pairs, else

        * ``per_prefix``: share of pairs with equal prefixes of length 1, 2, …; ``per_level``: share of pairs with equal codes of a level.
        * ``chance_per_prefix``, ``chance_per_level``: the same shares if the items were assigned to the queries at random.
        * ``pairs``: their number.
    """
    if not len(queries):
        return None
    both = np.concatenate([queries, items])
    by_prefix = [_equal_halves(ids) for ids in prefix_ids(both, codebook_sizes)]
    by_level = [_equal_halves(both[:, level]) for level in range(len(codebook_sizes))]
    return {
        "pairs": len(queries),
        "per_prefix": [shares.equal for shares in by_prefix],
        "chance_per_prefix": [shares.by_chance for shares in by_prefix],
        "per_level": [shares.equal for shares in by_level],
        "chance_per_level": [shares.by_chance for shares in by_level],
    }


def diagnose(
    items: np.ndarray,
    queries: np.ndarray,
    codebook_sizes: Sequence[int],
    vectors: tuple[np.ndarray, np.ndarray] | None = None,
    decode: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, Any]:
    """Compute `measures` over items, over queries and over both, with reconstruction errors if `vectors` and `decode` are given.

    Args:
        items: (items, levels) codes.
        queries: (queries, levels) codes; there may be none.
        codebook_sizes: codebook size of each level.
        vectors: the vectors that were encoded, (items, dimension) and (queries, dimension).
        decode: codes (rows, levels) → vectors (rows, dimension).

    Returns:
        ``items``, ``queries`` and ``both``; the last two are None without queries.
    """
    report: dict[str, Any] = {"items": measures(items, codebook_sizes), "queries": None, "both": None}
    if len(queries):
        report["queries"] = measures(queries, codebook_sizes)
        report["both"] = measures(np.concatenate([items, queries]), codebook_sizes)
    if vectors is not None and decode is not None:
        sums = {"items": Reconstruction.of(vectors[0], items, decode)}
        if len(queries):
            sums["queries"] = Reconstruction.of(vectors[1], queries, decode)
            sums["both"] = sums["items"] + sums["queries"]
        for name, part in sums.items():
            report[name] |= part.measures()
    return report


def _entropy(counts: np.ndarray) -> float:
    """Entropy in bits of the shares of `counts` (codes,)."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0  # + 0.0 turns -0.0 into 0.0


def _buckets(sizes: np.ndarray) -> list[dict[str, int]]:
    """Number of SIDs and of their rows, by powers of two of the bucket `sizes` (SIDs,)."""
    classes = np.ceil(np.log2(sizes)).astype(int)
    return [
        {
            "from": 2 ** (kind - 1) + 1 if kind else 1,
            "to": 2**kind,
            "sids": int((classes == kind).sum()),
            "rows": int(sizes[classes == kind].sum()),
        }
        for kind in range(int(classes.max()) + 1)
    ]


def _majority(ids: np.ndarray, categories: np.ndarray, number: int) -> int:
    """Number of items in the most frequent category of their prefix.

    Args:
        ids: (items,) number of the prefix.
        categories: (items,) category, below `number`.
        number: bound of the categories.
    """
    cells, counts = np.unique(ids * number + categories, return_counts=True)
    largest = np.zeros(int(ids.max()) + 1, dtype=np.int64)
    np.maximum.at(largest, cells // number, counts)
    return int(largest.sum())


class _EqualShares(NamedTuple):
    """Share of pairs that are equal, and the share that is expected if the pairs are formed at random."""

    equal: float
    by_chance: float


def _equal_halves(ids: np.ndarray) -> _EqualShares:
    """Compare the first half of `ids` (2 · pairs,) with the second, pair by pair."""
    left, right = np.split(ids, 2)
    size = int(ids.max()) + 1
    shares = [np.bincount(half, minlength=size) / len(half) for half in (left, right)]
    return _EqualShares(float((left == right).mean()), float(shares[0] @ shares[1]))


__all__ = ["DIAGNOSTICS_NAME", "SCHEMA", "agreement", "diagnose", "gini", "measures", "purity"]
