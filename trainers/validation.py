"""Retrieval metrics during training, by the evaluator that reports the final figures.

A loss falls also where a model learns nothing but which items are frequent. Every evaluation therefore compares the model's hit rate with
that of a ranking by popularity, and warns if it is no better.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property

from onesearch.data.market import Market
from onesearch.data.requests import Request
from onesearch.evaluation.baselines.popularity import PopularityRetriever
from onesearch.evaluation.evaluator import evaluate, sample_requests
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.serving.searcher import Searcher

from .configs import TrainingConfig
from .models import SidModel
from .run_inputs import RunInputs

logger = logging.getLogger(__name__)

METRICS = ("HR@10", "MRR@10")
"""Metrics of purchases, or of clicks where nothing was bought, that are measured at every evaluation."""

BEST = "hr_mrr@10"
"""Mean of `METRICS`, which chooses the best weights where a stage may end early: on a small catalogue the hit rate alone soon is 1."""

COMPARED = METRICS[0]
"""Metric that is compared with popularity's."""


def retrieval_metrics(config: TrainingConfig, inputs: RunInputs) -> Callable[[SidModel], dict[str, float]] | None:
    """A function that searches a sample of the validation requests with a model, measures `METRICS`, and warns at popularity's level.

    Returns:
        The function, whose keys are in lower case; None if there is nothing to search.
    """
    if not inputs.held_out or not config.validation_requests:
        return None
    requests, sample = sample_requests(inputs.held_out, config.validation_requests)
    watch = PopularityWatch(inputs.builder.views.market, requests)

    def measure(model: SidModel) -> dict[str, float]:
        searcher = Searcher(
            model,
            inputs.tokenizer,
            SearchConfig(num_beams=config.validation_beams),
            query_encoder=inputs.query_encoder,
            defaults=inputs.defaults,
            history_table=inputs.history_table,
        )
        kind = target_kind(requests)
        report = evaluate([searcher], requests, targets=(kind,), bootstrap_samples=1, progress=False, sample=sample)
        found = {metric.lower(): report.value(searcher.name, metric, kind) for metric in METRICS}
        watch.check(found[COMPARED.lower()])
        return {**found, BEST: sum(found.values()) / len(found)}

    return measure


def target_kind(requests: Sequence[Request]) -> str:
    """``purchase`` if anything was bought in the requests, else ``click``."""
    return "purchase" if any(request.purchased for request in requests) else "click"


class PopularityWatch:
    """Compares the hit rate of a model with that of a ranking by popularity on the same requests.

    Args:
        market: catalogue and sessions; popularity is counted in the training split.
        requests: requests of the evaluation, each with a purchase, or each with a click.
    """

    def __init__(self, market: Market, requests: Sequence[Request]) -> None:
        self._market = market
        self._requests = requests

    @cached_property
    def level(self) -> float:
        """Hit rate of the ranking by popularity; computed once."""
        ranking = PopularityRetriever(self._market)
        kind = target_kind(self._requests)
        report = evaluate([ranking], self._requests, targets=(kind,), bootstrap_samples=1, progress=False)
        return report.value(ranking.name, COMPARED, kind)

    def check(self, hit_rate: float) -> None:
        """Warn of a hit rate that is at most one standard error above popularity's.

        Args:
            hit_rate: `COMPARED` of the model.
        """
        level, count = self.level, len(self._requests)
        error = (level * (1 - level) / count) ** 0.5
        if hit_rate > level + error:
            return
        logger.warning(
            "%s on %d validation requests is %.3f, no better than a ranking by popularity (%.3f ± %.3f): the model has learned which items "
            "are frequent, and little from its prompts. After more than an epoch, likely causes are: learning_rate too high; adversarial "
            "perturbation too large (adversarial_epsilon); prompts without information about the wanted item (prompt_spread in the log "
            "tells); too few steps",
            COMPARED,
            count,
            hit_rate,
            level,
            error,
        )


__all__ = ["BEST", "COMPARED", "METRICS", "PopularityWatch", "retrieval_metrics", "target_kind"]
