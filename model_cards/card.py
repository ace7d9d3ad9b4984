"""The card of a checkpoint, filled with the measurements of its run."""

from __future__ import annotations

import logging
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from onesearch.data.languages import MIXED, market_language
from onesearch.data.market import Market
from onesearch.evaluation.reports import METRICS_NAME, Report, load_report
from onesearch.files import RunFolder, atomic_file, read_json
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.signed_text import is_unedited, signed
from onesearch.tokenization_sid.sids.diagnostics import DIAGNOSTICS_NAME, SCHEMA
from onesearch.tokenization_sid.sids.plots import PAGE_NAMES

logger = logging.getLogger(__name__)

TEMPLATE = Path(__file__).with_name("card_template.md")
CARD_NAME = "README.md"
"""File of the card, in the folder of the checkpoint."""

UNMEASURED = "Nothing was measured."
"""Results of a card without an evaluation, for instance of a catalogue without requests and judgements."""

METRICS = ("HR@10", "MRR@10", "NDCG@10")


def write_card(run: RunFolder, name: str, repository: str | None = None) -> Path:
    """Write the checkpoint's ``README.md`` from the market, the diagnostics and the evaluation of a run.

    The snippet of the card searches with the settings that the evaluation was made with.

    Args:
        run: run folder with a market, SIDs and a checkpoint. Without an evaluation the card says that nothing was measured.
        name: title of the card.
        repository: Hub id that the snippets load; default: the path of the checkpoint.

    Returns:
        Path of the card.

    Raises:
        FileNotFoundError: an earlier stage of the run is missing.
        ValueError: the diagnostics or the report have another schema.
    """
    market = Market.load(run.require("market", "onesearch data"))
    codes = _diagnostics(run)
    checkpoint = run.require("checkpoint", "onesearch train")
    report = load_report(run.evaluation) if (run.evaluation / METRICS_NAME).is_file() else Report()
    card = ModelCard.from_template(
        ModelCardData(
            library_name="transformers",
            license="apache-2.0",
            language="multilingual" if market_language(market) == MIXED else market_language(market),
            tags=["onesearch", "generative-retrieval", "semantic-ids", "product-search"],
            model_name=name,
            eval_results=_eval_results(report),
        ),
        template_path=str(TEMPLATE),
        name=name,
        repository=repository or str(checkpoint),
        auto_class=_auto_class(checkpoint),
        example_query=_example_query(market),
        market=market.info.get("name", ""),
        source=market.info.get("source", "own tables"),
        page=_copy_page(run, codes),
        results=report.to_table().strip() or UNMEASURED,
        **_search_values(report, checkpoint),
        **_code_values(codes),
    )
    path = checkpoint / CARD_NAME
    with atomic_file(path) as temporary:
        temporary.write_text(signed(str(card)), encoding="utf-8")
    return path


def refresh_card(run: RunFolder) -> None:
    """Write the card of a checkpoint anew, after an evaluation, if it is as `write_card` left it. Title and Hub id stay.

    A card that somebody has edited stays as it is, with one line of warning. Without a card nothing is done.
    """
    path = run.checkpoint / CARD_NAME
    if not path.is_file():
        return
    text = path.read_text(encoding="utf-8")
    title, repository = re.search(r"^# (.+)$", text, re.MULTILINE), re.search(r'Searcher\.from_pretrained\("([^"]+)"', text)
    if title is None or repository is None or not is_unedited(text):
        logger.warning("%s was edited, so that it is left as it is: its results are those of an earlier evaluation", path)
        return
    write_card(run, title[1], repository[1])


def _search_values(report: Report, checkpoint: Path) -> dict[str, str]:
    """Values of the template about the search settings that the report was made with.

    The snippet names those that the checkpoint was not saved with. A report without settings counts as made with the checkpoint's.
    """
    saved = asdict(SearchConfig.from_pretrained(checkpoint))
    measured = saved | report.settings.get("search", {})
    changed = {name: value for name, value in measured.items() if value != saved[name]}
    rows = ["| setting | value |", "|---|---|", *(f"| `{name}` | `{value!r}` |" for name, value in measured.items())]
    return {
        "search_arguments": "".join(f", {name}={value!r}" for name, value in changed.items()),
        "search_table": "\n".join(rows),
        "items_per_sid": str(measured["items_per_sid"]),
    }


def _code_values(codes: dict[str, Any]) -> dict[str, str]:
    """Values of the template about the catalogue and its codes, from the diagnostics."""
    items = codes["items"]
    return {
        "items": f"{items['count']:,}",
        "levels": str(len(codes["codebook_sizes"])),
        "codebook_sizes": "-".join(map(str, codes["codebook_sizes"])),
        "distinct_sids": f"{items['distinct_sids']:,}",
        "icr_items": f"{100 * items['icr_items']:.1f} %",
        "icr_sids": f"{100 * items['icr_sids']:.1f} %",
        "largest_bucket": str(items["largest_bucket"]),
        "fingerprint": codes["fingerprint"],
        "codes_table": _codes_table(codes),
    }


def _auto_class(checkpoint: Path) -> str:
    """The Auto class of transformers that loads the checkpoint."""
    config = read_json(checkpoint / "config.json")
    return "AutoModelForSeq2SeqLM" if config.get("is_encoder_decoder") else "AutoModelForCausalLM"


def _diagnostics(run: RunFolder) -> dict[str, Any]:
    """Diagnostics of the SIDs."""
    path = run.require("sids", "onesearch sids build") / DIAGNOSTICS_NAME
    codes = read_json(path)
    if codes.get("schema") != SCHEMA:
        raise ValueError(f"{path} has schema {codes.get('schema')!r}, expected {SCHEMA}; build the SIDs again")
    return codes


def _codes_table(codes: dict[str, Any]) -> str:
    """Markdown table with a row per level: use of the codes, purity, and agreement of queries with bought or clicked items."""
    items, purity = codes["items"], codes["purity"]["fine"]
    agreed = codes["agreement"]["purchase"] or codes["agreement"]["click"]
    columns = {
        "level": [str(level) for level in range(len(codes["codebook_sizes"]))],
        "codes used": [f"{used:,} of {size:,}" for used, size in zip(items["used_per_level"], codes["codebook_sizes"])],
        "CUR of the prefix": _percent(items["cur_per_prefix"]),
        "perplexity": [f"{value:,.1f}" for value in items["perplexity_per_level"]],
        "Gini": [f"{value:.2f}" for value in items["gini_per_level"]],
    }
    if purity:
        columns["category purity of the prefix"] = _percent(purity["per_prefix"])
    if agreed:
        columns["query agrees with its item up to here (by chance)"] = [
            f"{own} ({chance})" for own, chance in zip(_percent(agreed["per_prefix"]), _percent(agreed["chance_per_prefix"]))
        ]
    rows = [list(columns), ["---"] * len(columns), *map(list, zip(*columns.values()))]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _percent(shares: list[float]) -> list[str]:
    return [f"{100 * share:.3g} %" for share in shares]


def _copy_page(run: RunFolder, codes: dict[str, Any]) -> str:
    """Copy the page of the diagnostics beside the card, unless the same page is there, and return the Markdown that shows it."""
    name = PAGE_NAMES[0]
    if name not in codes["page"]:
        return ""
    content, target = (run.sids / name).read_bytes(), run.checkpoint / name
    if not target.is_file() or target.read_bytes() != content:
        with atomic_file(target) as temporary:
            temporary.write_bytes(content)
    return f"![Use of the codes, bucket sizes, a map of the catalogue and its largest branches]({name})"


def _eval_results(report: Report) -> list[EvalResult]:
    """Metrics of the first retriever of the report, which is the model, for the metadata of the card."""
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
    """The first query of the market that is not empty."""
    queries = market.sessions.data.column("query").to_pylist() or market.relevance.data.column("query").to_pylist()
    return next((query.replace('"', "'") for query in queries if query.strip()), "red shoes")
