"""Which of a checkpoint's orders is served: the one that answers the validation requests best."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from onesearch.data.market import Market
from onesearch.data.requests import build_requests
from onesearch.evaluation.evaluator import evaluate, sample_requests
from onesearch.evaluation.reports import Report
from onesearch.evaluation.retrievers import Retriever
from onesearch.files import RunFolder
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.serving.searcher import Searcher

logger = logging.getLogger(__name__)

REQUESTS = 500
"""Upper bound of the validation requests that are searched."""

ENOUGH = 20
"""Number of validation requests below which nothing is chosen by them."""

CLOSE = 0.005
"""Difference of quality up to which the simpler order is served: it costs less time."""

NAMES = {"onesearch": "the generator alone", "onesearch_reward": "with the reward model"}
TEXT = "with the reward model and text recall"


@dataclass(frozen=True)
class SearchChoice:
    """The chosen search settings and the figures that they were chosen by.

    Args:
        search: the settings.
        arm: name of the chosen order.
        requests: number of validation requests that were searched; 0 if they were too few to choose by.
        quality: quality of every order and baseline, see `quality`.
    """

    search: SearchConfig
    arm: str
    requests: int
    quality: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        words = NAMES.get(self.arm, TEXT)
        if not self.quality:
            return f"order: {words} ({self.requests:,} validation requests are too few to choose by)"
        figures = ", ".join(f"{name} {value:.3f}" for name, value in self.quality.items())
        return f"order: {words}, by (HR@10 + MRR@10) / 2 on {self.requests:,} validation requests: {figures}"


def choose_search(run: RunFolder, market: Market, baselines: Sequence[Retriever] = ()) -> SearchChoice:
    """Compare the orders of a run's checkpoint on its validation requests.

    The orders are the generator's own, and where there is a reward model, that model's with and without text recall. Baselines are measured
    beside them and never chosen: a note in the log says which of them is better.

    Args:
        run: run with a checkpoint.
        market: its market.
        baselines: retrievers to compare with, for example BM25.
    """
    searcher = Searcher.from_pretrained(run.checkpoint)
    arms = (
        reward_arms(searcher) if searcher.reranker is not None else [searcher.arm("onesearch", rerank=False, candidates="beam")]
    )
    requests = build_requests(market, "validation")
    if len(requests) < ENOUGH:
        return SearchChoice(arms[-1].config, arms[-1].name, len(requests), {})
    requests = sample_requests(requests, REQUESTS)[0]
    report = evaluate([*arms, *baselines], requests, bootstrap_samples=1, progress=False, split="validation")
    found = {name: quality(report, name) for name in report.retrievers}
    best = max(found[arm.name] for arm in arms)
    chosen = next(arm for arm in arms if found[arm.name] >= best - CLOSE)
    return SearchChoice(chosen.config, chosen.name, len(requests), found)


def reward_arms(searcher: Searcher) -> list[Searcher]:
    """The generator alone, with the reward model, and with text recall as well if the checkpoint has a text index."""
    from onesearch.extras import MissingExtraError
    from onesearch.serving.text_index import require_text_search

    arms = [
        searcher.arm("onesearch", rerank=False, candidates="beam"),
        searcher.arm("onesearch_reward", rerank=True, candidates="beam"),
    ]
    if searcher.text_index is not None:
        try:
            require_text_search("the arm onesearch_reward_text")
            arms.append(searcher.arm("onesearch_reward_text", rerank=True, candidates="beam+text"))
        except MissingExtraError as error:
            logger.warning("the report leaves an arm out: %s", error)
    return arms


def quality(report: Report, name: str) -> float:
    """Mean of HR@10 and MRR@10 over all clicks and purchases: each kind counts by the number of requests that have it."""
    total, requests = 0.0, 0
    for kind, counts in report.targets.items():
        if counts["requests"]:
            values = [report.value(name, metric, kind) for metric in ("HR@10", "MRR@10")]
            total += counts["requests"] * sum(values) / len(values)
            requests += counts["requests"]
    return total / max(requests, 1)


def serve(run: RunFolder, search: SearchConfig) -> SearchConfig:
    """Save search settings in the checkpoint of a run, beside its weights, and return them."""
    saved = SearchConfig.from_pretrained(run.checkpoint)
    changed = replace(saved, rerank=search.rerank, candidates=search.candidates)
    if changed != saved:
        changed.save_pretrained(run.checkpoint)
    return changed


__all__ = ["SearchChoice", "choose_search", "quality", "reward_arms", "serve"]
