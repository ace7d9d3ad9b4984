"""Requests of a market as rows for group-relative policy optimisation, and the reward model that grades their rollouts.

A row holds a prompt and what rewards read: the session, and the Semantic IDs of its bought, clicked and shown items. The prompt shows
nothing of the session but its query, nor anything later; see `onesearch.data.user_logs`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from datasets import Dataset

from onesearch.data.columns import session_entries
from onesearch.data.market import Market
from onesearch.data.requests import training_market
from onesearch.data.user_logs import UserLogs
from onesearch.files import RunFolder
from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex
from onesearch.serving.reranker import Reranker
from onesearch.tokenization_sid.embedding.alignment_measures import held_out_queries
from onesearch.tokenization_sid.embedding.embeddings import distinct_queries, load_embeddings
from onesearch.tokenization_sid.embedding.text_encoder import unit_rows
from onesearch.tokenization_sid.ragged import Ragged, offsets_of
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer
from onesearch.views.reward.memory import BehaviourMemory
from onesearch.views.reward.session_columns import SessionColumns
from onesearch.views.session_views import SessionViews

from .model_rewards import SessionScorer, judged_grades
from .rewards import BOUGHT, CLICKED, SHOWN

CHUNK = 4096
"""Sessions that are turned into rows at once."""


def request_rows_of(
    views: SessionViews,
    tokenizer: SidTokenizer,
    sessions: np.ndarray,
    query_sessions: np.ndarray | None = None,
    shown: bool = False,
) -> Dataset:
    """Rows of requests.

    Args:
        views: views of the market's sessions.
        tokenizer: the policy's tokenizer.
        sessions: (requests,) rows of the sessions table, whose users and moments the requests have.
        query_sessions: (requests,) rows of the sessions whose queries they ask; None for their own. A request with another session's query
            has no targets, since nobody made it: only a reward model can grade it.
        shown: also list the items that were shown and not clicked among the targets.

    Returns:
        Columns `input_ids`, `session`, `query_session`, `targets`, `target_kinds`, and `long_view` where prompts have one; see
        `onesearch.trainers.grpo.rewards`.
    """
    asked = sessions if query_sessions is None else query_sessions
    columns: dict[str, list[Any]] = {"input_ids": []}
    for start in range(0, len(sessions), CHUNK):
        own, other = sessions[start : start + CHUNK], asked[start : start + CHUNK]
        fields = views.fields(own)
        if not np.array_equal(own, other):
            queries = views.fields(other)
            fields = replace(fields, texts=queries.texts, sids=queries.sids)
        columns["input_ids"] += tokenizer.encode_fields(fields).tolist()
        if views.long_logs:
            columns.setdefault("long_view", []).extend(views.long_spans(own).reshape(len(own), -1).tolist())
    targets = _targets(views, shown)
    kept = np.where(sessions == asked, sessions, len(targets) - 1)  # the last row is empty
    codes = Ragged(views.item_sids[targets.values // 3], targets.offsets).take(kept)
    kinds = Ragged(targets.values % 3, targets.offsets).take(kept)
    columns["targets"] = [own.ravel().tolist() for own in (codes[row] for row in range(len(codes)))]
    columns["target_kinds"] = kinds.tolist()
    columns |= {"session": sessions.tolist(), "query_session": asked.tolist()}
    return Dataset.from_dict(columns)


def _targets(views: SessionViews, shown: bool) -> Ragged:
    """Targets of all sessions, and an empty row behind them: `3 · item + kind`, bought ones first, each item once per session."""
    parts = [(kind, views.logs.own(name)) for kind, name in ((BOUGHT, "purchased"), (CLICKED, "clicked"))]
    if shown:
        parts.append((SHOWN, session_entries(views.market, "impressed")))
    sessions = np.concatenate([pair[0] for _, pair in parts]).astype(np.int64)
    items = np.concatenate([pair[1] for _, pair in parts]).astype(np.int64)
    kinds = np.concatenate([np.full(len(pair[0]), kind) for kind, pair in parts])
    order = np.lexsort((np.arange(len(kinds)), kinds, sessions))
    keys = sessions[order] * max(len(views.item_sids), 1) + items[order]
    _, first = np.unique(keys, return_index=True)  # the strongest kind of each item of a session
    chosen = order[np.sort(first)]
    counts = np.bincount(sessions[chosen], minlength=len(views.market.sessions) + 1)
    return Ragged(items[chosen] * 3 + kinds[chosen], offsets_of(counts))


def recombined(sessions: np.ndarray, views: SessionViews, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Requests that nobody made: users and moments of some sessions with queries of others, both drawn at random.

    Args:
        sessions: (n,) rows of the sessions to draw from.
        views: views of the market's sessions.
        count: number of requests.
        seed: seeds both draws.

    Returns:
        Rows of the sessions of the users, and of the queries, (count,) each; never a session with its own query.
    """
    random = np.random.default_rng([seed, 18])
    users = random.choice(sessions, count)
    queries = random.choice(sessions, count)
    texts = views.logs.query_rows
    fresh = texts[users] != texts[queries]
    return users[fresh], queries[fresh]


def session_scorer(run: RunFolder, market: Market, reranker: Reranker, index: SidIndex, grades: bool) -> SessionScorer:
    """The reward model of a run's checkpoint for sessions of its market, each with what was known before it.

    A checkpoint's memory counts the whole training split. A training request would find its own purchase there, so that the memory is
    counted anew, with the times of its events.

    Args:
        run: folder of the run; its embeddings of queries are read.
        market: the run's market.
        reranker: the checkpoint's reward model.
        index: the catalogue of the policy.
        grades: read the market's judgements; those of queries that are asked in held-out sessions are left out.
    """
    past, facets = training_market(market), reranker.parts.table.facets
    memory = BehaviourMemory.of(past, UserLogs(past), facets.leaf)
    timed = Reranker(reranker.parts._replace(memory=memory))
    vectors = unit_rows(load_embeddings(run, "queries"))
    most = reranker.parts.model.config.max_history
    columns = SessionColumns(market, UserLogs(market), memory, distinct_queries(market), vectors, most)
    judged = {}
    if grades:
        held = held_out_queries(market)
        found = judged_grades(market, reranker.requests.row_of)
        judged = {pair: grade for pair, grade in found.items() if pair[0] not in held}
    return SessionScorer(timed, columns, index, judged)


__all__ = ["recombined", "request_rows_of", "session_scorer"]
