"""Codes of new items inside parents that are balanced: each takes the nearest code that still has room."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .balance import capacity


class Published(NamedTuple):
    """Published items: the parent (items,) int64 of each, and its code (items,) of the last residual level."""

    parents: np.ndarray
    codes: np.ndarray


def free_codes(vectors: np.ndarray, parents: np.ndarray, published: Published, centroids: np.ndarray) -> np.ndarray:
    """Codes of new items beside the published ones of their parents.

    The items are taken in their order. An item makes its parent grow to n items, and takes the code with the least squared distance among
    those with less than ⌈n / codes⌉ items. There always is one. Added one after the other or together, the items get the
    same codes.

    Args:
        vectors: (new items, dimension) residuals before the last residual level.
        parents: (new items,) int64 parent of each.
        published: items that are there already.
        centroids: (codes, dimension).

    Returns:
        (new items,) int32.
    """
    found = np.empty(len(vectors), dtype=np.int32)
    exact = centroids.astype(np.float64)
    relevant = np.isin(published.parents, parents)
    old_parents, old_codes = published.parents[relevant], published.codes[relevant]
    order = np.argsort(old_parents, kind="stable")
    old_parents, old_codes = old_parents[order], old_codes[order]
    names, group = np.unique(parents, return_inverse=True)
    bounds = np.searchsorted(old_parents, names), np.searchsorted(old_parents, names, side="right")
    members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    for start, stop, rows in zip(*bounds, members):
        loads = np.bincount(old_codes[start:stop], minlength=len(centroids))
        for row in rows:
            limit = capacity(int(loads.sum()) + 1, len(centroids), 0)
            costs = ((exact - vectors[row]) ** 2).sum(axis=1)
            code = int(np.where(loads < limit, costs, np.inf).argmin())
            found[row] = code
            loads[code] += 1
    return found


__all__ = ["Published", "free_codes"]
