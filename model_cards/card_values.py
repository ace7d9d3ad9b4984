"""Values of the card's template: search settings, codes, results and speed, all of them read from the files of a run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from onesearch.data.market import Market
from onesearch.evaluation.reports import Report
from onesearch.files import RunFolder, atomic_file, read_json
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.tokenization_sid.sids.diagnostics import DIAGNOSTICS_NAME, SCHEMA
from onesearch.tokenization_sid.sids.plots import PAGE_NAMES

from .arms import ARM_TEXTS, model_arms, primary_arm
from .latency import latency_table

UNMEASURED = "Nothing was measured."
"""Results of a card without an evaluation, for instance of a catalogue without requests and judgements."""

MODEL_SETTINGS = ("num_beams", "rank_by", "items_per_sid")
"""Search settings that `model.search` takes itself."""


def card_values(
    run: RunFolder, market: Market, codes: dict[str, Any], report: Report, repository: str, revision: str | None
) -> dict[str, str]:
    """All values of the template but the metadata, the title and the training."""
    return {
        "repository": repository,
        "revision_argument": f", revision={revision!r}".replace("'", '"') if revision else "",
        "revision_entry": f', "revision": "{revision}"' if revision else "",
        "revision_note": " The tag pins weights, index and code." if revision else "",
        "auto_class": _auto_class(run.checkpoint),
        "alone": _alone_text(run.checkpoint),
        "example_query": _example_query(market),
        "market": market.info.get("name", ""),
        "source": market.info.get("source", "own tables"),
        "page": _copy_page(run, codes),
        "primary": primary_arm(report),
        "arms": _arms_text(report),
        "results": report.to_table().strip() or UNMEASURED,
        "speed": latency_table(run),
        **_search_values(report, run.checkpoint),
        **_code_values(codes),
    }


def diagnostics(run: RunFolder) -> dict[str, Any]:
    """Diagnostics of the SIDs.

    Raises:
        FileNotFoundError: the run has no SIDs.
        ValueError: the diagnostics have another schema.
    """
    path = run.require("sids", "onesearch sids build") / DIAGNOSTICS_NAME
    codes = read_json(path)
    if codes.get("schema") != SCHEMA:
        raise ValueError(f"{path} has schema {codes.get('schema')!r}, expected {SCHEMA}; build the SIDs again")
    return codes


def _search_values(report: Report, checkpoint: Path) -> dict[str, str]:
    """Values of the template about the search settings that the report was made with.

    The snippets name those that the checkpoint was not saved with. A report without settings counts as made with the checkpoint's.
    """
    saved = asdict(SearchConfig.from_pretrained(checkpoint))
    measured = saved | report.settings.get("search", {})
    changed = {name: value for name, value in measured.items() if value != saved[name]}
    rows = ["| setting | value |", "|---|---|", *(f"| `{name}` | `{value!r}` |" for name, value in measured.items())]
    return {
        "search_arguments": _arguments(changed),
        "model_arguments": _arguments({name: changed[name] for name in MODEL_SETTINGS if name in changed}),
        "search_table": "\n".join(rows),
        "items_per_sid": str(measured["items_per_sid"]),
    }


def _arguments(values: dict[str, Any]) -> str:
    return "".join(f", {name}={value!r}" for name, value in values.items())


def _arms_text(report: Report) -> str:
    """One sentence for each arm of the model in the report."""
    return "".join(f" `{name}` is {ARM_TEXTS[name]}." for name in model_arms(report))


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


VIEWS_OF_THE_PACKAGE = {
    "sid": "the SID of the query",
    "default_history": "default histories",
    "long_view_tokens": "the long view",
}
"""Fields of a prompt layout whose views only the package makes, also for a user without a history → their names."""


def _alone_text(checkpoint: Path) -> str:
    """What the snippet without the package finds: the generator's hits, if no view of the prompt needs the package."""
    layout = read_json(checkpoint / "tokenizer_config.json").get("prompt_layout", {})
    left_out = [text for name, text in VIEWS_OF_THE_PACKAGE.items() if layout.get(name)]
    if not left_out:
        return "Without the package, transformers alone finds the hits of the row `onesearch`, the generator:"
    views = " and ".join(filter(None, [", ".join(left_out[:-1]), left_out[-1]]))
    return (
        f"Without the package, transformers alone runs the generator. Its prompt then lacks {views}, which the package adds, so that its "
        "hits are not those of the row `onesearch`:"
    )


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


def _example_query(market: Market) -> str:
    """The first query of the market that is not empty."""
    queries = market.sessions.data.column("query").to_pylist() or market.relevance.data.column("query").to_pylist()
    return next((query.replace('"', "'") for query in queries if query.strip()), "red shoes")


__all__ = ["card_values", "diagnostics"]
