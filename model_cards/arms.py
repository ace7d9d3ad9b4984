"""The arms of a report that are the model itself: the generator alone, with the reward model, and each with text recall."""

from __future__ import annotations

from typing import Any

from onesearch.evaluation.reports import Report
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig

ARM_TEXTS = {
    "onesearch": "the generator alone",
    "onesearch_dense": "the generator with the dense term, and the nearest items beside those of the beams",
    "onesearch_text": "the generator with the best items of BM25 beside those of the beams",
    "onesearch_reward": "the generator whose hits the reward model ranks",
    "onesearch_reward_text": "the generator and the best items of BM25, ranked by the reward model",
    "onesearch_as_set": "the search with the settings above",
}
"""Name of an arm → a description that completes a sentence."""


def arm_settings(name: str, config: SearchConfig) -> dict[str, Any]:
    """The search settings in which an arm differs from those that a report was made with.

    Args:
        name: name of the arm, a key of `ARM_TEXTS`.
        config: settings of the report.
    """
    with_text = {"candidates": "beam+text+dense" if config.with_dense else "beam+text"}
    changes: dict[str, dict[str, Any]] = {
        "onesearch": {"rerank": False, "candidates": "beam", "text_weight": 0.0, "dense_weight": 0.0},
        "onesearch_dense": {"rerank": False, "candidates": "beam+dense" if config.with_dense else "beam", "text_weight": 0.0},
        "onesearch_text": with_text,
        "onesearch_reward": {"rerank": True, "candidates": "beam", "text_weight": 0.0},
        "onesearch_reward_text": {"rerank": True, "text_weight": config.text_weight if config.rerank else 0.0, **with_text},
        "onesearch_as_set": {},
    }
    return changes[name]


def model_arms(report: Report) -> list[str]:
    """Names of the retrievers in a report that are the model, in the order of the report."""
    return [name for name in report.retrievers if name in ARM_TEXTS]


def primary_arm(report: Report) -> str:
    """Name of the arm that searches by the settings of the report."""
    if report.reference in ARM_TEXTS:
        return str(report.reference)
    return next(iter(model_arms(report)), "onesearch")


__all__ = ["ARM_TEXTS", "arm_settings", "model_arms", "primary_arm"]
