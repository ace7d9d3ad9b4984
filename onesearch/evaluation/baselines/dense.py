"""Exact nearest neighbours in the embedding space from which the Semantic IDs are built."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from onesearch.data.requests import Request
from onesearch.extras import require

from ..retrievers import Ranking
from .training import make_ranking


class DenseRetriever:
    """Ranks items by the exact inner product of query and item embeddings (faiss ``IndexFlatIP``).

    Compared with a generative model, it shows the joint effect of quantisation and generation.

    Args:
        item_ids: ids of the catalogue, in the order of the embeddings.
        item_embeddings: the embeddings that were quantised to SIDs, ``(items, dim)``.
        encode_queries: encodes a list of texts as ``(queries, dim)``, in the same space as the items.

    Raises:
        MissingExtraError: faiss is not installed.
        ValueError: the shapes do not fit each other, or an embedding is not finite.
    """

    name = "dense"

    def __init__(
        self, item_ids: Sequence[str], item_embeddings: np.ndarray, encode_queries: Callable[[list[str]], np.ndarray]
    ) -> None:
        require("evaluation", "faiss", needed_by="DenseRetriever")
        import faiss

        if item_embeddings.ndim != 2 or len(item_embeddings) != len(item_ids):
            raise ValueError(f"embeddings of shape {item_embeddings.shape} for {len(item_ids)} items; expected (items, dim)")
        if not np.isfinite(item_embeddings).all():
            raise ValueError("item embeddings hold values that are not finite; embed the catalogue again")
        self.item_ids = np.array(item_ids, dtype=object)
        self._encode = encode_queries
        self._index = faiss.IndexFlatIP(item_embeddings.shape[1])
        self._index.add(np.ascontiguousarray(item_embeddings, dtype=np.float32))

    def retrieve(self, requests: Sequence[Request], top_k: int) -> list[Ranking]:
        """Rank items by inner product. Each distinct query of the batch is encoded once."""
        queries = list(dict.fromkeys(request.query for request in requests))
        if not queries:
            return []
        vectors = np.ascontiguousarray(self._encode(queries), dtype=np.float32)
        if vectors.shape != (len(queries), self._index.d):
            raise ValueError(
                f"encode_queries gave shape {vectors.shape} for {len(queries)} queries; expected (queries, {self._index.d})"
            )
        scores, rows = self._index.search(vectors, min(top_k, len(self.item_ids)))
        ranked = {query: make_ranking(self.item_ids, rows[i], scores[i]) for i, query in enumerate(queries)}
        return [ranked[request.query] for request in requests]
