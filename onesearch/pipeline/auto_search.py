"""Which of a checkpoint's orders is served: the one that answers the validation requests best."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from onesearch.data.market import Market
from onesearch.data.requests import Request, build_requests
from onesearch.evaluation.evaluator import evaluate, sample_requests
from onesearch.evaluation.reports import Report
from onesearch.evaluation.retrievers import Retriever
from onesearch.files import RunFolder
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.serving.searcher import Searcher

from .auto_weights import Fitted, fitted

logger = logging.getLogger(__name__)

REQUESTS = 500
"""Upper bound of the validation requests that are searched."""

ENOUGH = 20
"""Number of validation requests below which nothing is chosen by them."""

CLOSE = 0.005
"""Difference of quality up to which the simpler order is served: it costs less time."""

TEXT_FIRST = 10.0
"""Weight of the text match where too few requests say how much it is worth: above every difference of the generator."""

ARMS = {
    "onesearch": "the generator alone",
    "onesearch_dense": "the generator with the dense term",
    "onesearch_text": "the generator with text recall",
    "onesearch_text_dense": "the generator with text recall and the dense term",
    "onesearch_reward": "the reward model",
    "onesearch_reward_dense": "the reward model with dense recall",
    "onesearch_reward_text": "the reward model with text recall",
    "onesearch_reward_text_dense": "the reward model with text recall and dense recall",
}
"""Name of each order in reports → words, the simplest first."""


@dataclass(frozen=True)
class SearchChoice:
    """The chosen search settings and the figures that they were chosen by.

    Args:
        search: the settings.
        arm: name of the chosen order, a key of `ARMS`.
        requests: number of validation requests that were searched.
        quality: quality of every order and baseline, see `quality`; empty if the requests were too few to choose by.
    """

    search: SearchConfig
    arm: str
    requests: int
    quality: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        words, search = ARMS[self.arm], self.search
        weights = [f"weight of the text match {search.text_weight:g}"] if search.text_weight else []
        weights += (
            [f"{search.text_popularity:g} of the popularity in it"] if search.text_weight and search.text_popularity else []
        )
        weights += [f"weight of the dense term {search.dense_weight:g}"] if search.dense_weight and not search.rerank else []
        words += f" ({', '.join(weights)})" if weights else ""
        if not self.quality:
            return (
                f"order: {words}; {self.requests:,} validation requests are too few to choose by, so that the text comes first"
            )
        figures = ", ".join(f"{name} {value:.3f}" for name, value in self.quality.items())
        return f"order: {words}, by (HR@10 + MRR@10) / 2 on {self.requests:,} validation requests: {figures}"


def choose_search(run: RunFolder, market: Market, baselines: Sequence[Retriever] = ()) -> SearchChoice:
    """Compare the orders of a run's checkpoint on its validation requests.

    1. The orders are the generator's own and, where there is one, that of the reward model; each with and without text recall, and with
       and without the dense term or, for the reward model, the items of the dense index.
    2. The weights of the text match and of the dense term are those that rank the found items best (`fitted`). As the largest weight of the
       text match gives BM25's order, an order with text recall is not below BM25 on these requests.
    3. The best order is served, or a simpler one that is `CLOSE` to it. With fewer than `ENOUGH` requests the text comes first.

    Args:
        run: run with a checkpoint that has a text index.
        market: its market.
        baselines: retrievers that are measured beside the orders, for example BM25.
    """
    searcher = Searcher.from_pretrained(run.checkpoint)
    requests = build_requests(market, "validation")
    if len(requests) < ENOUGH:
        search = replace(searcher.config, rerank=False, candidates=_text_candidates(searcher), text_weight=TEXT_FIRST)
        return SearchChoice(search, "onesearch_text_dense" if search.with_dense else "onesearch_text", len(requests), {})
    requests = sample_requests(requests, REQUESTS)[0]
    orders = _orders(searcher, requests)
    found = {order.arm.name: order.quality for order in orders}
    chosen = next(order.arm for order in orders if order.quality >= max(found.values()) - CLOSE)
    if baselines:
        report = evaluate(baselines, requests, bootstrap_samples=1, progress=False, split="validation")
        found |= {name: quality(report, name) for name in report.retrievers}
    return SearchChoice(chosen.config, chosen.name, len(requests), found)


def served_arms(searcher: Searcher) -> list[Searcher]:
    """The orders of a checkpoint that a report compares: the generator alone, with its dense term, with its reward model, and with text
    recall, where the checkpoint is served so or has what it needs."""
    from onesearch.extras import MissingExtraError
    from onesearch.serving.text_index import require_text_search

    config = searcher.config
    arms, text = _plain_arms(searcher), _text_candidates(searcher)
    if searcher.reranker is not None:
        arms.append(searcher.arm("onesearch_reward", rerank=True, candidates="beam", text_weight=0.0))
    if searcher.text_index is None:
        return arms
    try:
        require_text_search("text recall")
    except MissingExtraError as error:
        logger.warning("the report leaves an arm out: %s", error)
        return arms
    if config.text_weight and not config.rerank:
        place = len(arms) - (searcher.reranker is not None)
        arms.insert(place, searcher.arm("onesearch_text", candidates=text))
    if searcher.reranker is not None:
        weight = config.text_weight if config.rerank else 0.0
        arms.append(searcher.arm("onesearch_reward_text", rerank=True, candidates=text, text_weight=weight))
    if all(arm.config != config for arm in arms):
        arms.append(searcher.arm("onesearch_as_set"))
    return arms


def _plain_arms(searcher: Searcher) -> list[Searcher]:
    """The generator's own order and, if the checkpoint has a dense term, the order with it."""
    plain = searcher.arm("onesearch", rerank=False, candidates="beam", text_weight=0.0, dense_weight=0.0)
    if searcher.dense is None or not searcher.config.dense_weight:
        return [plain]
    candidates = "beam+dense" if searcher.config.with_dense else "beam"
    return [plain, searcher.arm("onesearch_dense", rerank=False, candidates=candidates, text_weight=0.0)]


def _text_candidates(searcher: Searcher) -> str:
    """Candidates of an order with text recall: those of the dense index stay if they are there."""
    return "beam+text+dense" if searcher.config.with_dense else "beam+text"


def _orders(searcher: Searcher, requests: Sequence[Request]) -> list[Fitted]:
    """Every order of `ARMS` that the checkpoint has the parts of, with the weights that fit the requests best."""
    orders = []
    for name in ARMS:
        rerank, text, dense = ("_" + part in name for part in ("reward", "text", "dense"))
        if (rerank and searcher.reranker is None) or (dense and searcher.dense is None):
            continue
        without = searcher if dense else searcher.arm(name, rerank=rerank, candidates="beam", text_weight=0.0, dense_weight=0.0)
        candidates = "beam" + "+text" * text + "+dense" * dense
        orders.append(fitted(name, without, requests, candidates, rerank))
    return orders


def quality(report: Report, name: str) -> float:
    """Mean of HR@10 and MRR@10 over all clicks and purchases: each kind counts by the number of requests that have it."""
    total, requests = 0.0, 0
    for kind, counts in report.targets.items():
        if counts["requests"]:
            values = [report.value(name, metric, kind) for metric in ("HR@10", "MRR@10")]
            total += counts["requests"] * sum(values) / len(values)
            requests += counts["requests"]
    return total / max(requests, 1)


def serve(run: RunFolder, search: SearchConfig) -> None:
    """Save search settings in the checkpoint of a run, beside its weights."""
    if search != SearchConfig.from_pretrained(run.checkpoint):
        search.save_pretrained(run.checkpoint)


__all__ = ["SearchChoice", "choose_search", "quality", "serve", "served_arms"]
