"""The metadata of a card, which the Hub reads; every entry comes from the files of the run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCardData

from onesearch.data.languages import MIXED, market_language
from onesearch.data.market import Market
from onesearch.evaluation.reports import Report
from onesearch.files import RunFolder
from onesearch.modeling_onesearch.card_onesearch import TAGS, TASK_NAME

from .arms import model_arms, primary_arm

METRICS = ("HR@10", "MRR@10", "NDCG@10")
"""Metrics that the metadata holds; the table of the card has all of them."""

LICENSE = "apache-2.0"
"""Licence of the weights by default, which is that of this package."""

TASK_TYPE = "text-ranking"
"""The closest task that the Hub knows: a query in, ranked items out."""

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""Names of repositories; a relative path of two parts looks the same, so an existing one is none."""

DECIMALS = 4
"""Decimals of published metrics, those of the table."""


def card_data(run: RunFolder, market: Market, report: Report, name: str, license: str = LICENSE) -> ModelCardData:
    """The metadata of a card."""
    recipe = read_recipe(run)
    source = recipe.get("market", {}).get("source")
    base = recipe.get("training", {}).get("model", {}).get("checkpoint")
    return ModelCardData(
        library_name="transformers",
        pipeline_tag=TASK_TYPE,
        license=license,
        language="multilingual" if market_language(market) == MIXED else market_language(market),
        datasets=[source] if _is_hub_id(source) else None,
        base_model=base if _is_hub_id(base) else None,
        metrics=sorted({metric_id(kind, metric) for kind in report.targets for metric in METRICS}) or None,
        tags=list(TAGS),
        model_name=name,
        eval_results=eval_results(report),
    )


def eval_results(report: Report) -> list[EvalResult]:
    """Metrics of the arms of the model for the `model-index`, with their intervals. Purchases and clicks are metrics of different types."""
    market = report.market or "market"
    found = []
    for arm in model_arms(report):
        for kind, metric, estimate in _estimates(report, arm):
            result = EvalResult(
                task_type=TASK_TYPE,
                task_name=TASK_NAME,
                dataset_type=market,
                dataset_name=market,
                dataset_split=report.split,
                metric_type=metric_id(kind, metric),
                metric_name=f"{kind} {metric}, items, {arm}",
                metric_value=round(estimate["value"], DECIMALS),
                metric_config=arm,
                metric_args={"interval": [round(estimate[end], DECIMALS) for end in ("low", "high")]},
            )
            found.append(result)
    return found


def metric_id(kind: str, metric: str) -> str:
    """Type of a metric in metadata and id of its task in benchmarks, for example ``purchase_hr_at_10``."""
    return f"{kind}_{metric.lower().replace('@', '_at_')}"


def _estimates(report: Report, arm: str) -> list[tuple[str, str, dict[str, float]]]:
    """Kind of target, metric, and value with interval, of one arm."""
    targets: dict[str, Any] = report.retrievers[arm]["targets"]
    known = [(kind, levels.get("item", {})) for kind, levels in targets.items()]
    return [(kind, metric, levels[metric]) for kind, levels in known for metric in METRICS if metric in levels]


def primary_estimates(report: Report, arm: str | None = None) -> dict[str, float]:
    """Id of a metric → its value, of one arm; by default of the arm that searches by the settings of the report."""
    found = _estimates(report, arm or primary_arm(report))
    return {metric_id(kind, metric): round(estimate["value"], DECIMALS) for kind, metric, estimate in found}


def read_recipe(run: RunFolder) -> dict[str, Any]:
    """The recipe of a run as nested plain values; empty for a run whose steps were called one by one."""
    path = run.root / "recipe.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    return values if isinstance(values, dict) else {}


def _is_hub_id(name: object) -> bool:
    return isinstance(name, str) and HUB_ID.fullmatch(name) is not None and not Path(name).exists()


__all__ = ["DECIMALS", "LICENSE", "METRICS", "card_data", "eval_results", "metric_id", "primary_estimates", "read_recipe"]
