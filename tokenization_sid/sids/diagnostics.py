"""What a set of codes is worth: use of the codebooks, collisions, reconstruction, purity, agreement. Every number says what it counts.

``sids/diagnostics.json`` (schema 2)::

    {"schema": 2, "fingerprint": str, "codebook_sizes": [int], "fit_on": "items" | "both", "keywords": bool,
     "keyword_lists": {type: int}, "named": {"items": float, "queries": float},   # share of texts that name a keyword
     "items": MEASURES, "queries": MEASURES | null, "both": MEASURES | null,
     "purity": {"coarse": PURITY | null, "fine": PURITY | null},
     "agreement": {"split": "validation", "click": AGREEMENT | null, "purchase": AGREEMENT | null},
     "page": ["diagnostics.png", "diagnostics.svg"] | []}

MEASURES are those of `measures` and `reconstruction`, PURITY of `purity`, AGREEMENT of `agreement`. ``queries`` are the distinct queries
with a known word, each counted once; it is null without any, and ``both`` too. Held-out sessions are those of the validation split: the
test stays unseen while a tokeniser is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

SCHEMA = 2

_CHUNK = 65_536


def prefix_ids(codes: np.ndarray, codebook_sizes: Sequence[int]) -> list[np.ndarray]:
    """Which prefix each SID has, level by level: `levels` arrays (n,) of dense ids, ordered as the prefixes are."""
    found: list[np.ndarray] = []
    for level, width in enumerate(codebook_sizes):
        key = np.asarray(codes[:, level], dtype=np.int64)
        if found:
            key = key + found[-1] * int(width)
        found.append(np.unique(key, return_inverse=True)[1])
    return found


def measures(codes: np.ndarray, codebook_sizes: Sequence[int]) -> dict[str, Any]:
    """Use of the codebooks and collisions (OneSearch, arXiv 2509.03236, Tables 2 and 3; PRQ-KMeans for the second ICR).

    Args:
        codes: (n, levels), n ≥ 1.
        codebook sizes: codes per level.

    Returns:
        Lists have one entry per level.

        * ``count``, ``distinct_sids``, ``largest_bucket`` (most rows in one SID);
        * ``cur_per_prefix``: distinct prefixes of length 1, 2, … over the product of their codebook_sizes (codebook utilisation rate);
        * ``cur_per_level``: used codes of each level alone, over its width; ``used_per_level``: their number;
        * ``entropy_per_level`` of code use in bits, and ``perplexity_per_level`` = 2^entropy;
        * ``gini_per_level`` of the use of all codes of a level, unused ones included: 0 if all are used alike, towards 1 if one has all;
        * ``icr_items``: share of rows whose SID is theirs alone (the authors' code);
        * ``icr_sids``: share of distinct SIDs that one row owns (PRQ-KMeans' definition);
        * ``buckets``: SIDs by size, ``{"from", "to", "sids", "rows"}`` for sizes 1, 2, 3–4, 5–8, …
    """
    codes = np.asarray(codes)
    if not len(codes):
        raise ValueError("no codes to measure: the catalogue is empty")
    prefixes = prefix_ids(codes, codebook_sizes)
    usage = [np.bincount(codes[:, level], minlength=width) for level, width in enumerate(codebook_sizes)]
    sizes = np.bincount(prefixes[-1])
    single = int((sizes == 1).sum())
    distinct = [int(ids.max()) + 1 for ids in prefixes]
    entropy = [_entropy(counts) for counts in usage]
    return {
        "count": len(codes),
        "distinct_sids": len(sizes),
        "cur_per_prefix": [
            number / room for number, room in zip(distinct, np.cumprod(np.asarray(codebook_sizes, dtype=float)).tolist())
        ],
        "cur_per_level": [int((counts > 0).sum()) / len(counts) for counts in usage],
        "used_per_level": [int((counts > 0).sum()) for counts in usage],
        "entropy_per_level": entropy,
        "perplexity_per_level": [float(2**bits) for bits in entropy],
        "gini_per_level": [gini(counts) for counts in usage],
        "icr_items": single / len(codes),
        "icr_sids": single / len(sizes),
        "largest_bucket": int(sizes.max()),
        "buckets": _buckets(sizes),
    }


def gini(counts: np.ndarray) -> float:
    """Gini coefficient of non-negative `counts`, zeros included."""
    ordered = np.sort(np.asarray(counts, dtype=float))
    ranks = np.arange(1, len(ordered) + 1)
    return float(2 * (ranks * ordered).sum() / (len(ordered) * ordered.sum()) - (len(ordered) + 1) / len(ordered))


@dataclass(frozen=True)
class Reconstruction:
    """Sums from which the error of several sets of vectors follows, alone or together (`+`).

    Args:
        count: vectors; error: Σ‖x − x̂‖²; total: (dimension,) Σx; squares: Σ‖x‖².
    """

    count: int
    error: float
    total: np.ndarray
    squares: float

    @classmethod
    def of(cls, vectors: np.ndarray, codes: np.ndarray, decode: Callable[[np.ndarray], np.ndarray]) -> Reconstruction:
        """Sums over `vectors` (n, dimension) and what `decode` makes of their `codes` (n, levels), chunk by chunk."""
        error, squares, total = 0.0, 0.0, np.zeros(vectors.shape[1])
        for part in _chunks(len(vectors)):
            there = vectors[part].astype(np.float64)
            error += float(((there - decode(codes[part])) ** 2).sum())
            squares += float((there**2).sum())
            total += there.sum(axis=0)
        return cls(len(vectors), error, total, squares)

    def __add__(self, other: Reconstruction) -> Reconstruction:
        return Reconstruction(
            self.count + other.count, self.error + other.error, self.total + other.total, self.squares + other.squares
        )

    def measures(self) -> dict[str, float | None]:
        """``mse``: mean of ‖x − x̂‖²; ``unexplained_variance``: its share of the mean of ‖x − x̄‖², None if all vectors are alike."""
        mse = self.error / self.count
        variance = self.squares / self.count - float(((self.total / self.count) ** 2).sum())
        return {"mse": mse, "unexplained_variance": mse / variance if variance > 1e-9 else None}


def purity(codes: np.ndarray, codebook_sizes: Sequence[int], categories: np.ndarray) -> dict[str, Any] | None:
    """How well prefixes keep categories apart.

    Args:
        codes: (items, levels); categories: (items,) ids, -1 where there is none.

    Returns:
        * ``per_prefix``: share of items whose category is the most frequent one of their prefix, for lengths 1, 2, …; 1 is reached
          trivially where every prefix holds one item;
        * ``without_codes``: the same with all items under one prefix; ``categories``, ``items``: how many there are.

        None if no item has a category.
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
        queries, items: (pairs, levels), aligned.

    Returns:
        * ``per_prefix``: share of pairs whose first 1, 2, … codes are all equal; ``per_level``: whose codes of one level are equal;
        * ``chance_per_prefix``, ``chance_per_level``: the same if the items were dealt to the queries at random;
        * ``pairs``.

        None without pairs.
    """
    if not len(queries):
        return None
    both = prefix_ids(np.concatenate([queries, items]), codebook_sizes)
    columns = [np.concatenate([queries[:, level], items[:, level]]) for level in range(len(codebook_sizes))]
    by_prefix = [_agreement(ids) for ids in both]
    by_level = [_agreement(column) for column in columns]
    return {
        "pairs": len(queries),
        "per_prefix": [equal for equal, _ in by_prefix],
        "chance_per_prefix": [chance for _, chance in by_prefix],
        "per_level": [equal for equal, _ in by_level],
        "chance_per_level": [chance for _, chance in by_level],
    }


def diagnose(
    items: np.ndarray,
    queries: np.ndarray,
    codebook_sizes: Sequence[int],
    vectors: tuple[np.ndarray, np.ndarray] | None = None,
    decode: Callable[[np.ndarray], np.ndarray] | None = None,
) -> dict[str, Any]:
    """`measures` over items, over queries and over both; with reconstruction errors where `vectors` and `decode` are given.

    Args:
        items, queries: (n, levels) codes; there may be no queries.
        vectors: what was encoded, (items, dimension) and (queries, dimension).
        decode: codes → vectors.

    Returns:
        ``items``, ``queries`` and ``both``; the last two None without queries.
    """
    parts = {"items": items, "queries": queries, "both": np.concatenate([items, queries])}
    report: dict[str, Any] = {
        name: measures(codes, codebook_sizes) if name == "items" or len(queries) else None for name, codes in parts.items()
    }
    if vectors is not None and decode is not None:
        sums = {"items": Reconstruction.of(vectors[0], items, decode)}
        if len(queries):
            sums["queries"] = Reconstruction.of(vectors[1], queries, decode)
            sums["both"] = sums["items"] + sums["queries"]
        for name, part in sums.items():
            report[name] |= part.measures()
    return report


def _chunks(rows: int) -> Iterator[slice]:
    return (slice(start, start + _CHUNK) for start in range(0, rows, _CHUNK))


def _entropy(counts: np.ndarray) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def _buckets(sizes: np.ndarray) -> list[dict[str, int]]:
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
    """Items in the most frequent category of their prefix."""
    cells, counts = np.unique(ids * number + categories, return_counts=True)
    largest = np.zeros(int(ids.max()) + 1, dtype=np.int64)
    np.maximum.at(largest, cells // number, counts)
    return int(largest.sum())


def _agreement(ids: np.ndarray) -> tuple[float, float]:
    """Share of equal ids between the halves of `ids`, and the share expected by chance."""
    left, right = np.split(ids, 2)
    size = int(ids.max()) + 1
    shares = [np.bincount(half, minlength=size) / len(half) for half in (left, right)]
    return float((left == right).mean()), float(shares[0] @ shares[1])


__all__ = ["SCHEMA", "Reconstruction", "agreement", "diagnose", "gini", "measures", "prefix_ids", "purity"]
