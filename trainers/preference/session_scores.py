"""The reward model's scores of Semantic IDs for sessions of a market: what was known before each session, and nothing later.

A checkpoint's reward model counts the whole training split. A training request would find its own purchase among these counts, so they are
counted anew, with the times of their events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, replace
from typing import NamedTuple

import numpy as np
import torch

from onesearch.data.market import Market
from onesearch.data.requests import training_market
from onesearch.data.user_logs import UserLogs
from onesearch.files import RunFolder
from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex
from onesearch.tokenization_sid.embedding.embeddings import distinct_queries, load_embeddings
from onesearch.tokenization_sid.embedding.text_encoder import unit_rows
from onesearch.views.reward.inputs import UNKNOWN_GAP, RewardColumns, RewardInputs
from onesearch.views.reward.memory import BehaviourMemory
from onesearch.views.reward.ranking import RankingWeights, rewards
from onesearch.views.reward.reward_folder import RewardParts
from onesearch.views.reward.session_columns import SessionColumns

ITEMS_PER_SID = 10
"""Most popular items of a Semantic ID that are scored; our choice, above what a search returns of one."""


class SidScores(NamedTuple):
    """What the reward model makes of Semantic IDs, each ``(sessions, sids)``.

    Attributes:
        score: ranking score of the best item, without the generator's log-probability; -inf where no item is known.
        relevance: cosine of the text vectors of the query and that item; 0 where no item is known.
        ctr: probability that that item is clicked; 0 where no item is known.
        items: row of that item; -1 where none is known.
    """

    score: np.ndarray
    relevance: np.ndarray
    ctr: np.ndarray
    items: np.ndarray


def sid_keys(sids: np.ndarray, codebook_sizes: Sequence[int]) -> np.ndarray:
    """One number for each Semantic ID: ``(..., levels)`` → ``(...)`` int64. Padding may get any number."""
    keys = np.zeros(sids.shape[:-1], dtype=np.int64)
    for level, size in enumerate(codebook_sizes):
        keys = keys * int(size) + sids[..., level]
    return keys


class SidItems:
    """The most popular items of every Semantic ID.

    Args:
        index: the catalogue.
        rows: row of each of its items in the reward model's table, -1 where it has none, ``(items,)``.
        most: number of items per Semantic ID.
    """

    def __init__(self, index: SidIndex, rows: np.ndarray, most: int = ITEMS_PER_SID) -> None:
        self.sizes = tuple(index.codebook_sizes)
        keys = sid_keys(np.asarray(index.codes, dtype=np.int64), self.sizes)
        order = np.lexsort((-np.asarray(index.popularity), keys))
        self.keys, first, counts = np.unique(keys[order], return_index=True, return_counts=True)
        width = int(min(counts.max(initial=1), most))
        places = np.minimum(first[:, None] + np.arange(width), max(len(order) - 1, 0))
        self.rows = np.where(np.arange(width) < counts[:, None], rows[order][places], -1)

    def of(self, sids: np.ndarray) -> np.ndarray:
        """Rows of the items of Semantic IDs: ``(..., levels)`` → ``(..., items)``, -1 for padding."""
        keys = sid_keys(sids, self.sizes)
        place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        known = (sids[..., 0] >= 0) & (self.keys[place] == keys)
        return np.where(known[..., None], self.rows[place], -1)


class SessionScorer:
    """Scores Semantic IDs for sessions of a market. Times of events stay unknown to the reward model, as at serving.

    Args:
        parts: the checkpoint's reward model.
        columns: what was known before each session.
        memory: counts with the times of their events.
        index: the catalogue.
    """

    def __init__(self, parts: RewardParts, columns: SessionColumns, memory: BehaviourMemory, index: SidIndex) -> None:
        self.parts, self.columns = parts, columns
        self.inputs = RewardInputs(parts.table, memory, parts.model.config.max_history)
        row_of = {item_id: row for row, item_id in enumerate(parts.item_ids)}
        self.items = SidItems(index, np.array([row_of.get(item_id, -1) for item_id in index.item_ids], dtype=np.int64))
        # The policy's own log-probability is what is trained, so that it takes no part in the reward.
        others = replace(parts.weights, log_p=0.0) if any(astuple(parts.weights)[:-1]) else RankingWeights()
        self.weights = others

    @classmethod
    def of_run(cls, run: RunFolder, market: Market, parts: RewardParts, index: SidIndex) -> SessionScorer:
        """The scorer of a run's market; its embeddings of queries are read.

        Raises:
            ValueError: the reward model was trained on other items than those of the market.
        """
        if market.items.data.column("item_id").to_pylist() != list(parts.item_ids):
            raise ValueError(
                "the market has other items than the reward model knows; train it again with `onesearch reward` before preferences"
            )
        past = training_market(market)
        memory = BehaviourMemory.of(past, UserLogs(past), parts.table.facets.leaf)
        vectors = unit_rows(load_embeddings(run, "queries"))
        most = parts.model.config.max_history
        columns = SessionColumns(market, UserLogs(market), memory, distinct_queries(market), vectors, most)
        return cls(parts, columns, memory, index)

    def __call__(self, sessions: np.ndarray, sids: np.ndarray, query_sessions: np.ndarray | None = None) -> SidScores:
        """Score the Semantic IDs of some sessions.

        Args:
            sessions: rows of the sessions table, ``(n,)``.
            sids: codes, -1 throughout for padding, ``(n, sids, levels)``.
            query_sessions: rows of the sessions whose queries are asked, ``(n,)``; None for their own.
        """
        items = self.items.of(sids)  # (n, sids, items)
        columns = self._columns(sessions, items.reshape(len(items), -1), query_sessions)
        with torch.inference_mode():
            logits = self.parts.model(**self.inputs.tensors(columns)).logits.numpy()
        vectors = self.parts.table.vectors[np.maximum(columns.candidates, 0)]
        relevance = np.einsum("ncd,nd->nc", vectors, columns.query_vectors)
        score = rewards(self.weights, logits, relevance, np.zeros_like(relevance)).reshape(items.shape)
        ctr = 1 / (1 + np.exp(-logits[..., 0].astype(np.float64)))
        best = np.where(items >= 0, score, -np.inf).argmax(-1)[..., None]
        score, relevance, ctr, items = (
            np.take_along_axis(part.reshape(items.shape), best, axis=-1)[..., 0] for part in (score, relevance, ctr, items)
        )
        known = items >= 0
        return SidScores(np.where(known, score, -np.inf), np.where(known, relevance, 0.0), np.where(known, ctr, 0.0), items)

    def _columns(self, sessions: np.ndarray, candidates: np.ndarray, query_sessions: np.ndarray | None) -> RewardColumns:
        columns = self.columns.of(sessions, candidates)
        columns = columns._replace(gaps=np.full_like(columns.gaps, UNKNOWN_GAP))
        if query_sessions is None:
            return columns
        asked = self.columns.of(query_sessions, candidates[:, :0])
        return columns._replace(queries=asked.queries, query_vectors=asked.query_vectors)


def recombined(sessions: np.ndarray, query_rows: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Requests that nobody made: users and moments of some sessions with the queries of others, both drawn at random.

    Args:
        sessions: rows of the sessions to draw from, ``(n,)``.
        query_rows: number of each session's query, for all sessions of the market.
        count: number of requests.
        seed: seeds both draws.

    Returns:
        Rows of the sessions of the users, and of the queries, at most ``(count,)`` each; never a session with its own query.
    """
    random = np.random.default_rng([seed, 20])
    users, queries = random.choice(sessions, count), random.choice(sessions, count)
    fresh = query_rows[users] != query_rows[queries]
    return users[fresh], queries[fresh]


__all__ = ["SessionScorer", "SidItems", "SidScores", "recombined", "sid_keys"]
