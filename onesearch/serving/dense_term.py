"""Items beside those of the beams, and the dense term in the order of the hits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from onesearch.data.requests import Request
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig

if TYPE_CHECKING:
    from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex
    from onesearch.modeling_onesearch.filters_onesearch import ItemFilter
    from onesearch.modeling_onesearch.hits_onesearch import Hit

    from .best_items import Keep
    from .dense_index import DenseIndex
    from .text_index import TextIndex


def with_dense_term(dense: DenseIndex, query: np.ndarray, hits: Sequence[Hit], weight: float) -> list[Hit]:
    """The hits in the order of s = log p + γ cos(h, e), which becomes their score; equal scores keep their order.

    Args:
        dense: dense index of the catalogue.
        query: h, unit vector of the query, ``(size,)``.
        hits: all candidates of the search, with the log-probability as their score.
        weight: γ.
    """
    if not hits:
        return []
    own = np.array([hit.score for hit in hits], dtype=np.float64)
    scores = own + weight * dense.cosines(query, [hit.item_id for hit in hits])
    return [hits[place].with_score(float(scores[place])) for place in np.argsort(-scores, kind="stable").tolist()]


def reads_vectors(config: SearchConfig) -> bool:
    """Whether a search with these settings needs the dense index. The order of a reward model has a relevance term of its own."""
    return config.with_dense or (config.dense_weight > 0 and not config.rerank)


def further_items(
    requests: Sequence[Request],
    config: SearchConfig,
    index: SidIndex,
    filters: Sequence[ItemFilter | None],
    excluded: Sequence[set[str]],
    text_index: TextIndex | None = None,
    dense: DenseIndex | None = None,
    vectors: np.ndarray | None = None,
) -> list[list[str]]:
    """Best items of the text index and of the dense index for each request, each once.

    Args:
        requests: n requests.
        config: its `text_items` says how many each index adds.
        index: the catalogue; an item that is not in it, or does not pass the filter, is not found.
        filters: filter of each request, or None.
        excluded: items that must not be found for each request.
        text_index: text index, where texts are asked for.
        dense: dense index, where vectors are asked for.
        vectors: vectors of the queries for the dense index, ``(n, size)``.
    """
    found: list[list[str]] = []
    for place, request in enumerate(requests):
        keep = _allowed(index, filters[place], excluded[place])
        own = [] if text_index is None else text_index.search(request.query, config.text_items, keep)
        if dense is not None and vectors is not None:
            own += dense.search(vectors[place], config.text_items, keep)
        found.append(list(dict.fromkeys(own)))
    return found


def _allowed(index: SidIndex, item_filter: ItemFilter | None, excluded: set[str]) -> Keep:
    """Says of a list of items which are in the catalogue, pass the filter, and are not excluded."""

    def keep(item_ids: list[str]) -> list[bool]:
        there = index.contains(item_ids, item_filter).tolist()
        return [is_there and item_id not in excluded for item_id, is_there in zip(item_ids, there)]

    return keep


__all__ = ["further_items", "reads_vectors", "with_dense_term"]
