"""Requests of a market as rows for group-relative policy optimisation.

A row holds a prompt and what rewards read: the session, and the Semantic IDs of its bought, clicked and shown items. The prompt shows
nothing of the session but its query, nor anything later; see `onesearch.data.user_logs`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from datasets import Dataset

from onesearch.data.columns import session_entries
from onesearch.tokenization_sid.ragged import Ragged, offsets_of
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer
from onesearch.views.session_views import SessionViews

from ..dpo.data.beam_lists import Requests, prompts_of
from .rewards import BOUGHT, CLICKED, SHOWN

CHUNK = 4096
"""Sessions that are turned into rows at once."""


def rollout_requests(views: SessionViews, tokenizer: SidTokenizer, requests: Requests, shown: bool = False) -> Dataset:
    """Rows of requests.

    Args:
        views: views of the market's sessions.
        tokenizer: the policy's tokenizer.
        requests: sessions and the sessions whose queries are asked. A request with another session's query has no targets, since nobody
            made it: only a reward model can grade it.
        shown: also list the items that were shown and not clicked among the targets.

    Returns:
        Columns `input_ids`, `session`, `query_session`, `targets`, `target_kinds`, and those of `SessionViews.columns`; see
        `onesearch.trainers.grpo.rewards`.
    """
    columns: dict[str, list[Any]] = {"input_ids": []}
    for start in range(0, len(requests.sessions), CHUNK):
        own = Requests(*(rows[start : start + CHUNK] for rows in (requests.sessions, requests.asked)))
        prompts, further = prompts_of(views, tokenizer, own)
        columns["input_ids"] += prompts.tolist()
        for name in further[0]:
            columns.setdefault(name, []).extend(own_columns[name] for own_columns in further)
    targets = _targets(views, shown)
    kept = np.where(requests.sessions == requests.asked, requests.sessions, len(targets) - 1)  # the last row is empty
    codes = Ragged(views.item_sids[targets.values // 3], targets.offsets).take(kept)
    columns["targets"] = [codes[row].ravel().tolist() for row in range(len(codes))]
    columns["target_kinds"] = Ragged(targets.values % 3, targets.offsets).take(kept).tolist()
    columns |= {"session": requests.sessions.tolist(), "query_session": requests.asked.tolist()}
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


__all__ = ["rollout_requests"]
