"""Retrieval metrics during training, by the evaluator that reports the final figures."""

from __future__ import annotations

from collections.abc import Callable

from onesearch.evaluation.evaluator import evaluate, sample_requests
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.serving.searcher import Searcher

from .configs import TrainingConfig
from .models import SidModel
from .run_inputs import RunInputs

METRICS = ("HR@10", "MRR@10")
"""Metrics of purchases that are measured at every evaluation."""


def retrieval_metrics(config: TrainingConfig, inputs: RunInputs) -> Callable[[SidModel], dict[str, float]] | None:
    """A function that searches a sample of the validation requests with a model and measures `METRICS`.

    Returns:
        The function, whose keys are in lower case; None if there is nothing to search.
    """
    if not inputs.held_out or not config.validation_requests:
        return None
    requests, sample = sample_requests(inputs.held_out, config.validation_requests)

    def measure(model: SidModel) -> dict[str, float]:
        searcher = Searcher(
            model,
            inputs.tokenizer,
            SearchConfig(num_beams=config.validation_beams),
            query_encoder=inputs.query_encoder,
            defaults=inputs.defaults,
        )
        report = evaluate([searcher], requests, targets=("purchase",), bootstrap_samples=1, progress=False, sample=sample)
        return {metric.lower(): report.value(searcher.name, metric) for metric in METRICS}

    return measure


__all__ = ["METRICS", "retrieval_metrics"]
