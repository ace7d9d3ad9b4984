"""What the policy finds alone: hit rates on validation requests, and the reward model's opinion of its ten best."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from onesearch.views.session_views import SessionViews

from ..preference.session_scores import SessionScorer
from .data.beam_lists import SEARCHED_AT_ONCE, Requests, prompt_batch, prompts_of

TOP = 10
"""Length of the lists whose reward and relevance are measured."""


class TopTen:
    """Mean reward and relevance of the Semantic IDs that the policy ranks highest, and how many different ones there are.

    Args:
        sessions: rows of the sessions whose requests are searched.
        views: views of the market's sessions.
        tokenizer: the policy's tokenizer.
        scorer: the reward model.
        num_beams: beams of the searches.
    """

    def __init__(
        self, sessions: np.ndarray, views: SessionViews, tokenizer: Any, scorer: SessionScorer, num_beams: int = 20
    ) -> None:
        self.sessions, self.views, self.tokenizer, self.scorer, self.num_beams = sessions, views, tokenizer, scorer, num_beams

    @torch.no_grad()
    def __call__(self, model: Any) -> dict[str, float]:
        """`reward@10`, `relevance@10` (cosine of the text vectors of query and item), `distinct@10` (different Semantic IDs)."""
        scores, relevance, found = [], [], []
        for start in range(0, len(self.sessions), SEARCHED_AT_ONCE):
            own = self.sessions[start : start + SEARCHED_AT_ONCE]
            prompts, columns = prompts_of(self.views, self.tokenizer, Requests(own, own))
            sids, _ = model.search_sids(**prompt_batch(model, self.views, prompts, columns), num_beams=self.num_beams)
            best = sids[:, :TOP].cpu().numpy()
            scored = self.scorer(own, best)
            known = scored.items >= 0
            scores.append(scored.score[known])
            relevance.append(scored.relevance[known])
            found.append(best[best[..., 0] >= 0])
        distinct = np.unique(np.concatenate(found), axis=0)
        return {
            f"reward@{TOP}": float(np.concatenate(scores).mean()),
            f"relevance@{TOP}": float(np.concatenate(relevance).mean()),
            f"distinct@{TOP}": float(len(distinct)),
        }


def joined(*measures: Callable[[Any], dict[str, float]] | None) -> Callable[[Any], dict[str, float]]:
    """One function with the metrics of several; None is left out."""
    wanted = [measure for measure in measures if measure is not None]

    def measure_all(model: Any) -> dict[str, float]:
        """The metrics of all."""
        metrics: dict[str, float] = {}
        for measure in wanted:
            metrics |= measure(model)
        return metrics

    return measure_all


__all__ = ["TOP", "TopTen", "joined"]
