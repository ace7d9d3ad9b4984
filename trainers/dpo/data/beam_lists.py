"""Phase 1 of the hybrid ranking (OneSearch, arXiv 2509.03236): lists from the reward model's order of the policy's own beams.

The policy searches logged queries, and the reward model ranks what it finds. A Semantic ID that the reward model promotes, or that the user
clicked or bought, is chosen; those that it demotes, and the tail of the list, are rejected. A list whose order stays the same teaches
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from onesearch.data.columns import session_entries
from onesearch.data.requests import SPLITS, split_sessions
from onesearch.tokenization_sid.tokenization_sid import SidTokenizer
from onesearch.views.session_views import LongViewTable, SessionViews, ViewTensors

from ...preference.likelihoods import PROMPT_COLUMNS
from ...preference.session_scores import SessionScorer
from ...reward.adaptive import RewardFormula, adaptive_reward
from ...sft.data.collators import Seq2SeqCollator
from ..list_config import BeamListConfig
from .lists import Preferences

EVENTS = ("impressed", "clicked", "purchased")
"""Columns of the sessions table that an adaptive reward counts, in the order of its arguments."""

SEARCHED_AT_ONCE = 64
"""Requests that are searched and ranked together."""

BOUGHT, CLICKED, SHOWN, SAME_CATEGORY, OTHER = 1, 3, 4, 5, 6
"""Interaction levels that a session itself shows; see `onesearch.trainers.reward.levels`."""


@dataclass(frozen=True)
class Requests:
    """Requests that lists are made of.

    Args:
        sessions: rows of the sessions whose users and moments they have, ``(n,)``.
        asked: rows of the sessions whose queries they ask, ``(n,)``. Elsewhere than in its own session nobody asked a query, so that it
            has no clicks and purchases.
    """

    sessions: np.ndarray
    asked: np.ndarray


class BeamLists:
    """Makes lists with the current policy; a `ListMaker`.

    Args:
        requests: the requests that its numbers count.
        views: views of the market's sessions.
        tokenizer: the policy's tokenizer.
        scorer: the reward model.
        config: which candidates are chosen and rejected.
        formula: adaptive rewards of the candidates.
    """

    def __init__(
        self,
        requests: Requests,
        views: SessionViews,
        tokenizer: SidTokenizer,
        scorer: SessionScorer,
        config: BeamListConfig,
        formula: RewardFormula | None = None,
    ) -> None:
        self.requests, self.views, self.tokenizer, self.scorer = requests, views, tokenizer, scorer
        self.config, self.formula = config, formula or RewardFormula()
        self.interactions = SessionLevels(views, scorer.parts.table.facets.leaf)

    def __call__(self, model: Any, numbers: np.ndarray) -> pa.Table:
        """The lists of some requests, one row each; see `Preferences`. A row without any list stays, so that rows keep their places.

        Further columns tell where a row comes from: `session`, `query_session`; for each candidate `old_ranks` (place in the beam, the
        number of beams or more for one that the beam missed), `levels` (of interaction) and `scores` (of the reward model).
        """
        rows: list[dict[str, Any]] = []
        for start in range(0, len(numbers), SEARCHED_AT_ONCE):
            own = numbers[start : start + SEARCHED_AT_ONCE]
            rows += self._rows(model, Requests(self.requests.sessions[own], self.requests.asked[own]))
        return pa.Table.from_pylist(rows)

    def _rows(self, model: Any, requests: Requests) -> list[dict[str, Any]]:
        prompts, columns = prompts_of(self.views, self.tokenizer, requests)
        batch = prompt_batch(model, self.views, prompts, columns)
        with torch.no_grad():
            found, _ = model.search_sids(**batch, num_beams=self.config.num_beams)
        sids = np.concatenate([found.cpu().numpy(), self.interactions.missed(requests, found.cpu().numpy())], axis=1)
        scores = self.scorer(requests.sessions, sids, requests.asked)
        levels = self.interactions.of(requests, scores.items)
        rewards = self.interactions.rewards(levels, scores.items, self.formula)
        rows = []
        for row in range(len(sids)):
            own, kept = self._lists(sids[row], scores.score[row], levels[row], rewards[row])
            rows.append(
                {
                    "input_ids": prompts[row].tolist(),
                    **columns[row],
                    **own.columns(),
                    "session": int(requests.sessions[row]),
                    "query_session": int(requests.asked[row]),
                    "old_ranks": np.flatnonzero(kept).tolist(),
                    "levels": levels[row][kept].tolist(),
                    "scores": scores.score[row][kept].tolist(),
                }
            )
        return rows

    def _lists(
        self, sids: np.ndarray, scores: np.ndarray, levels: np.ndarray, rewards: np.ndarray
    ) -> tuple[Preferences, np.ndarray]:
        """The lists of one request, and which of its candidates they hold: those that the reward model knows."""
        config = self.config
        kept = (sids[:, 0] >= 0) & np.isfinite(scores)
        order = np.argsort(-scores[kept], kind="stable")
        ranks = np.empty(len(order), dtype=np.int64)
        ranks[order] = np.arange(len(order))
        old = np.arange(len(ranks))
        wanted = (levels[kept] <= CLICKED) & config.clicked
        if config.order == "whole":
            chosen, rejected = ranks < config.chosen, np.ones(len(ranks), dtype=bool)
        else:
            tail = ranks >= len(ranks) - config.tail
            chosen, rejected = (ranks < config.chosen) & (ranks < old), (ranks > old) | tail
        return Preferences(sids[kept], chosen | wanted, rejected & ~wanted, ranks, rewards[kept]), kept


class SessionLevels:
    """Interaction levels of Semantic IDs in the sessions of a market, and their adaptive rewards.

    Args:
        views: views of the market's sessions.
        leaf: leaf category of each item, ``(items,)``.
    """

    def __init__(self, views: SessionViews, leaf: np.ndarray) -> None:
        self.views, self.leaf, self.width = views, leaf, max(len(leaf), 1)
        events = {name: session_entries(views.market, name) for name in EVENTS}
        self.keys = {name: np.unique(sessions * self.width + items) for name, (sessions, items) in events.items()}
        self.totals = item_counts(views, len(leaf))

    def of(self, requests: Requests, items: np.ndarray) -> np.ndarray:
        """Levels, int8 ``(n, candidates)``. Candidates of a query that nobody asked, and unknown items, are at level 5 or 6."""
        keys = requests.sessions[:, None] * self.width + items
        real = (requests.sessions == requests.asked)[:, None] & (items >= 0)
        levels = np.where(self._in_category(requests, items), SAME_CATEGORY, OTHER).astype(np.int8)
        for name, level in (("impressed", SHOWN), ("clicked", CLICKED), ("purchased", BOUGHT)):
            levels[real & np.isin(keys, self.keys[name])] = level
        return levels

    def missed(self, requests: Requests, sids: np.ndarray) -> np.ndarray:
        """Semantic IDs of clicked and bought items that are not among `sids`, ``(n, most, levels)``, -1 for padding."""
        lists: list[np.ndarray] = []
        for row, (session, asked) in enumerate(zip(requests.sessions.tolist(), requests.asked.tolist())):
            own = self._touched(session) if session == asked else np.zeros(0, dtype=np.int64)
            wanted = np.unique(self.views.item_sids[own], axis=0)
            found = (wanted[:, None] == sids[row][None]).all(-1).any(1)
            lists.append(wanted[~found])
        table = np.full((len(lists), max(map(len, lists), default=0), sids.shape[2]), -1, dtype=np.int64)
        for row, wanted in enumerate(lists):
            table[row, : len(wanted)] = wanted
        return table

    def rewards(self, levels: np.ndarray, items: np.ndarray, formula: RewardFormula) -> np.ndarray:
        """Adaptive reward of each candidate, float64 ``(n, candidates)``, from its level and its counts in the training split."""
        shown, clicked, ordered = (totals[np.maximum(items, 0)] for totals in self.totals)
        return adaptive_reward(levels, shown, clicked, ordered, formula)

    def _touched(self, session: int) -> np.ndarray:
        """Rows of the items that were clicked or bought in a session, as views of the market number them."""
        found = []
        for name in ("clicked", "purchased"):
            keys = self.keys[name]
            begin, end = np.searchsorted(keys, [session * self.width, (session + 1) * self.width])
            found.append(keys[begin:end] - session * self.width)
        return np.unique(np.concatenate(found))

    def _in_category(self, requests: Requests, items: np.ndarray) -> np.ndarray:
        """Whether each candidate has the leaf category of an item that was clicked or bought after the request's query."""
        own = self.leaf[np.maximum(items, 0)]
        same = np.zeros(items.shape, dtype=bool)
        for row, asked in enumerate(requests.asked.tolist()):
            same[row] = np.isin(own[row], self.leaf[self._touched(asked)])
        return same & (own >= 0) & (items >= 0)


def item_counts(views: SessionViews, items: int) -> list[np.ndarray]:
    """Impressions, clicks and purchases of each item in the training split, ``(items,)`` each."""
    training = split_sessions(views.market) == SPLITS.index("train")
    pairs = [session_entries(views.market, name) for name in EVENTS]
    return [np.bincount(rows[training[sessions]], minlength=items) for sessions, rows in pairs]


def prompts_of(views: SessionViews, tokenizer: SidTokenizer, requests: Requests) -> tuple[Any, list[dict[str, list[Any]]]]:
    """Prompts of requests as ragged token ids, and the further columns of each (`SessionViews.columns`)."""
    fields = views.fields(requests.sessions)
    if not np.array_equal(requests.sessions, requests.asked):
        queries = views.fields(requests.asked)
        fields = replace(fields, texts=queries.texts, sids=queries.sids, vectors=queries.vectors)
    return tokenizer.encode_fields(fields), views.columns(requests.sessions, requests.asked)


def prompt_batch(
    model: Any, views: SessionViews, prompts: Any, columns: Sequence[dict[str, list[Any]]]
) -> dict[str, torch.Tensor]:
    """Prompts as the arguments of the model's search, on its device."""
    config = model.config
    long_view = LongViewTable(views, config.long_view_levels) if views.long_logs else None
    collator = Seq2SeqCollator(config.pad_token_id, config.pad_token_id, long_view, ViewTensors.of(views))
    examples = [{"input_ids": prompts[row], "labels": [0], **columns[row]} for row in range(len(prompts))]
    batch = collator(examples)
    return {name: batch[name].to(model.device) for name in PROMPT_COLUMNS if name in batch}


__all__ = ["SEARCHED_AT_ONCE", "BeamLists", "Requests", "SessionLevels", "item_counts", "prompt_batch", "prompts_of"]
