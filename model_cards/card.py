"""The card of a checkpoint, filled from what the run measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from onesearch.data.market import Market
from onesearch.evaluation.reports import Report, load_report
from onesearch.files import RunFolder, atomic_file, read_json

TEMPLATE = Path(__file__).with_name("card_template.md")
METRICS = ("HR@10", "MRR@10", "NDCG@10")


def write_card(run: RunFolder, name: str, repository: str | None = None) -> Path:
    """Write the checkpoint's ``README.md`` from the market, the diagnostics and the evaluation of a run.

    Args:
        name: title of the card.
        repository: Hub id that the snippets load; default: the checkpoint's folder name.

    Returns:
        Path of the card.
    """
    market = Market.load(run.require("market", "onesearch data"))
    codes = read_json(run.require("sids", "onesearch sids build") / "diagnostics.json")
    report = load_report(run.require("evaluation", "onesearch evaluate"))
    card = ModelCard.from_template(
        ModelCardData(
            library_name="transformers",
            license="apache-2.0",
            tags=["onesearch", "generative-retrieval", "semantic-ids", "product-search"],
            model_name=name,
            eval_results=_eval_results(report),
        ),
        template_path=str(TEMPLATE),
        name=name,
        repository=repository or str(run.checkpoint),
        example_query=_example_query(market),
        market=market.info.get("name", ""),
        source=market.info.get("source", "own tables"),
        items=f"{codes['items']:,}",
        levels=len(codes["widths"]),
        widths="-".join(map(str, codes["widths"])),
        distinct_sids=f"{codes['distinct_sids']:,}",
        icr_items=f"{100 * codes['icr_items']:.1f} %",
        largest_bucket=codes["largest_bucket"],
        digest=codes["digest"],
        results=report.to_table(),
    )
    path = run.require("checkpoint", "onesearch train") / "README.md"
    with atomic_file(path) as temporary:
        temporary.write_text(str(card), encoding="utf-8")
    return path


def _eval_results(report: Report) -> list[EvalResult]:
    name = next(iter(report.retrievers), None)
    found: dict[str, Any] = report.retrievers[name]["targets"] if name else {}
    return [
        EvalResult(
            task_type="text-ranking",
            dataset_type=report.market or "market",
            dataset_name=report.market or "market",
            dataset_split=report.split,
            metric_type=metric.lower(),
            metric_name=f"{kind} {metric}, items",
            metric_value=round(levels["item"][metric]["value"], 4),
        )
        for kind, levels in found.items()
        for metric in METRICS
        if metric in levels.get("item", {})
    ]


def _example_query(market: Market) -> str:
    queries = market.sessions.data.column("query").to_pylist() or market.relevance.data.column("query").to_pylist()
    return next((query.replace('"', "'") for query in queries if query.strip()), "red shoes")
