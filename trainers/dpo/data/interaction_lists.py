"""Phase 2 of the hybrid ranking (OneSearch, arXiv 2509.03236): lists from real interactions.

Items at the interaction levels 1 to 3 (bought, bought elsewhere, clicked) are chosen, those at the levels 4 to 6 (shown, same category,
random) are rejected; see `onesearch.trainers.reward.levels`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from onesearch.tokenization_sid.tokenization_sid import SidTokenizer
from onesearch.views.session_views import SessionViews

from ...preference.session_scores import sid_keys
from ...reward.adaptive import RewardFormula, adaptive_reward
from ...reward.levels import Interactions, label_sessions
from ...reward.negatives import NegativeSampling
from .beam_lists import SEARCHED_AT_ONCE, Requests, item_counts, prompt_batch, prompts_of
from .lists import Preferences

LAST_CHOSEN = 3
"""Last interaction level whose items are chosen."""


class InteractionLists:
    """Makes lists of the interactions of sessions; a `ListMaker`. The policy is searched for hard negatives only.

    Args:
        sessions: rows of the sessions that its numbers count, ``(n,)``.
        views: views of the market's sessions.
        tokenizer: the policy's tokenizer.
        leaf: leaf category of each item, -1 without one, ``(items,)``.
        sampling: numbers of rejected items per level. `beam` of them are hits of the current policy.
        num_beams: beams of these searches.
        formula: adaptive rewards of the items.
        seed: seeds what is drawn.
    """

    def __init__(
        self,
        sessions: np.ndarray,
        views: SessionViews,
        tokenizer: SidTokenizer,
        leaf: np.ndarray,
        sampling: NegativeSampling | None = None,
        num_beams: int = 20,
        formula: RewardFormula | None = None,
        seed: int = 0,
    ) -> None:
        self.sessions, self.views, self.tokenizer, self.leaf = sessions, views, tokenizer, leaf
        self.sampling, self.num_beams = sampling or NegativeSampling(), num_beams
        self.formula, self.seed = formula or RewardFormula(), seed
        self.counts = item_counts(views, len(leaf))
        self._keys, self._item = np.unique(sid_keys(views.item_sids, views.codebook_sizes), return_index=True)

    def __call__(self, model: Any, numbers: np.ndarray) -> pa.Table:
        """The lists of some sessions, one row each, in their order; see `Preferences`. A session without a chosen or without a rejected
        item has no list.

        Further columns tell where a row comes from: `session`, `query_session`; and `levels` of the candidates.
        """
        rows: list[dict[str, Any]] = []
        for start in range(0, len(numbers), SEARCHED_AT_ONCE):
            own = self.sessions[numbers[start : start + SEARCHED_AT_ONCE]]
            rows += self._rows(model, Requests(own, own))
        return pa.Table.from_pylist(rows)

    def _rows(self, model: Any, requests: Requests) -> list[dict[str, Any]]:
        prompts, columns = prompts_of(self.views, self.tokenizer, requests)
        sessions = requests.sessions
        beams = self._hits(model, sessions, prompts, columns) if self.sampling.beam else None
        # The same session may occur twice in a round that spans two passes; it is labelled once.
        labelled = label_sessions(self.views.market, self.leaf, np.unique(sessions), self.sampling, beams, self.seed)
        rows = []
        for row, session in enumerate(sessions.tolist()):
            own, levels = self._lists(labelled, session)
            rows.append(
                {
                    "input_ids": prompts[row].tolist(),
                    **columns[row],
                    **own.columns(),
                    "session": session,
                    "query_session": session,
                    "levels": levels.tolist(),
                }
            )
        return rows

    def _lists(self, labelled: Interactions, session: int) -> tuple[Preferences, np.ndarray]:
        """The lists of one session, and the level of each candidate. A Semantic ID has the best level of its items."""
        begin, end = np.searchsorted(labelled.sessions, [session, session + 1])
        items, levels = labelled.items[begin:end], labelled.levels[begin:end].astype(np.int64)
        order = np.argsort(levels, kind="stable")
        items, levels = items[order], levels[order]
        shown, clicked, ordered = (counts[items] for counts in self.counts)
        rewards = adaptive_reward(levels, shown, clicked, ordered, self.formula)
        codes = self.views.item_sids[items]
        _, first = np.unique(codes, axis=0, return_index=True)
        kept = np.sort(first)
        chosen = levels[kept] <= LAST_CHOSEN
        return Preferences(codes[kept], chosen, ~chosen, (~chosen).astype(np.int64), rewards[kept]), levels[kept]

    def _hits(
        self, model: Any, sessions: np.ndarray, prompts: Any, columns: Sequence[dict[str, list[Any]]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Session and item of each hit of the policy: an item of every Semantic ID of the beam."""
        batch = prompt_batch(model, self.views, prompts, columns)
        with torch.no_grad():
            found, _ = model.search_sids(**batch, num_beams=self.num_beams)
        sids = found.cpu().numpy()
        rows, places = np.nonzero(sids[..., 0] >= 0)
        own = sid_keys(sids[rows, places], self.views.codebook_sizes)
        place = np.minimum(np.searchsorted(self._keys, own), len(self._keys) - 1)
        known = self._keys[place] == own
        return sessions[rows[known]], self._item[place[known]]


__all__ = ["InteractionLists"]
