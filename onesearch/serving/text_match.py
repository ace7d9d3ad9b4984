"""The text match in the order of the hits: the BM25 score of an item is added to the model's own score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig

if TYPE_CHECKING:
    from onesearch.modeling_onesearch.hits_onesearch import Hit

    from .text_index import TextIndex

LOG_P_SHARE = 0.1
"""Factor of the log-probability where no reward model ranks the hits, as in the reward model's own ranking score; our choice."""


def with_text_match(text_index: TextIndex, query: str, hits: Sequence[Hit], config: SearchConfig) -> list[Hit]:
    """The hits in the order of their own score plus the weighted text match, which becomes their score; equal scores keep their order.

    Args:
        text_index: text index of the catalogue.
        query: words that were searched for.
        hits: all candidates of the search.
        config: its `text_weight`, `text_popularity` and `rerank` are used.
    """
    if not hits:
        return []
    own = np.array([hit.score for hit in hits], dtype=np.float64)
    item_ids = [hit.item_id for hit in hits]
    match = text_index.match(query, item_ids)
    if config.text_popularity:
        match = match + config.text_popularity * text_index.popular(item_ids)
    scores = (own if config.rerank else LOG_P_SHARE * own) + config.text_weight * match
    return [hits[place].with_score(float(scores[place])) for place in np.argsort(-scores, kind="stable").tolist()]


def reads_texts(config: SearchConfig) -> bool:
    """Whether a search with these settings needs the text index."""
    return config.with_text or config.text_weight > 0


def ranks_anew(config: SearchConfig) -> bool:
    """Whether the hits of the model are ranked by something else, so that all of them are needed."""
    return config.rerank or config.text_weight > 0 or config.dense_weight > 0


__all__ = ["LOG_P_SHARE", "ranks_anew", "reads_texts", "with_text_match"]
