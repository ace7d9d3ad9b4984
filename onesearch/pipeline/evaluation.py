"""The evaluation of a run: its checkpoint beside the baselines, on one split and on judged queries."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onesearch.data.market import Market
from onesearch.data.requests import build_requests
from onesearch.data.splits import RANDOM_NOTE
from onesearch.evaluation.cutoffs import check_beams
from onesearch.evaluation.evaluator import evaluate, sample_requests
from onesearch.evaluation.relevance import evaluate_relevance, why_left_out
from onesearch.evaluation.reports import Report, check_name, check_settings
from onesearch.evaluation.retrievers import Retriever
from onesearch.extras import require
from onesearch.files import RunFolder, check_writable, read_json
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.tokenization_sid.embedding.alignment_gaps import left_out_sentence
from onesearch.tokenization_sid.embedding.embeddings import ALIGNMENT_NAME
from onesearch.tokenization_sid.sids.sid_folder import check_checkpoint

from .auto_search import served_arms
from .baseline_answers import RunBaselines
from .mappings import plain
from .recipe import EvaluationConfig, run_recipe_of
from .run_lock import writing

if TYPE_CHECKING:
    from onesearch.serving.searcher import Searcher

logger = logging.getLogger(__name__)


def evaluate_run(
    run: RunFolder,
    config: EvaluationConfig,
    search: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    overwrite: bool = False,
    baselines: bool = True,
    again: bool = False,
    progress: bool = True,
    show: Callable[[Report], object] | None = None,
) -> Report:
    """Measure a run's checkpoint beside the baselines on one split, and on judged queries if the market has any.

    Writes ``metrics.json`` and TREC files to ``evaluation/``, and the card of the checkpoint, unless somebody has edited it. The
    settings of the report are saved with it, and a report that was made with other settings is not replaced by accident.

    Args:
        run: run folder with a market, embeddings (for the baselines) and a checkpoint.
        config: requests that are measured.
        search: settings of `SearchConfig` that replace those of the checkpoint in this evaluation.
        name: write to ``evaluation/NAME/`` instead of ``evaluation/``.
        overwrite: replace a report that was made with other settings.
        baselines: measure the baselines as well.
        again: fit the baselines and ask them again; otherwise rankings that an earlier evaluation of the run has made are read from
            ``evaluation/baselines.parquet``, with the times that they took.
        progress: show progress bars.
        show: is called with the report before it is written, so that no figure is lost if the disk is full.

    Raises:
        BlockingIOError: another command is writing into the run folder.
        OSError: the folder cannot be written to; this is found before anything is measured.
        FileExistsError: the folder holds a report that was made with other settings.
        FileNotFoundError: an earlier step of the run is missing.
        ValueError: the checkpoint was trained on other codebooks than the run's SIDs, a cut-off is above the beams of the search, or there
            is nothing to measure.
        MissingExtraError: `baselines`, but the extra ``evaluation`` is not installed.
    """
    if baselines:
        require("evaluation", needed_by="an evaluation with baselines (--no-baselines leaves them out)")
    market_folder = run.require("market", "onesearch data")
    checkpoint = run.require("checkpoint", "onesearch train")
    check_checkpoint(run)
    search_config = replace(SearchConfig.from_pretrained(checkpoint), **(search or {}))
    check_beams(config.cutoffs or (), search_config.num_beams)
    settings = plain({**asdict(config), "baselines": baselines, "search": asdict(search_config)})
    folder = run.evaluation if name is None else run.evaluation / check_name(name)
    if not overwrite:
        check_settings(folder, settings)
    with writing(run, "onesearch evaluate"):
        check_writable(folder)
        market = Market.load(market_folder)
        known = RunBaselines(run, market, config, again) if baselines else None
        report = _measure(run, market, checkpoint, config, search_config, known, progress)
        report.settings = settings
        if show is not None:
            show(report)
        report.save(folder)
        if known is not None:
            known.save()
        if name is None:
            _card(run)
    return report


def _card(run: RunFolder) -> None:
    """Write the card of the checkpoint, or anew what it says of the results."""
    from onesearch.model_cards.card import CARD_NAME, refresh_card, write_card

    if (run.checkpoint / CARD_NAME).is_file():
        refresh_card(run)
    elif run.sids.is_dir():  # a card tells of the codes
        recipe = run_recipe_of(run)
        write_card(run, run.root.name if recipe is None else recipe.name)


def _measure(
    run: RunFolder,
    market: Market,
    checkpoint: Path,
    config: EvaluationConfig,
    search_config: SearchConfig,
    baselines: RunBaselines | None,
    progress: bool,
) -> Report:
    """The report of one split, with the judged queries if the market has any."""
    from onesearch.serving.searcher import Searcher

    requests = build_requests(market, config.split)
    left_out = why_left_out(market, config.relevant_grade)
    if not requests and left_out is not None:
        raise ValueError(
            f"nothing to measure: the {config.split} split has no request, and {left_out}; `onesearch data check` names the cause"
        )
    searcher = Searcher.from_pretrained(checkpoint, **asdict(search_config))
    arms = served_arms(searcher)
    retrievers: list[Retriever] = [*arms, *(baselines.retrievers() if baselines else ())]
    report = Report(market=str(market.info.get("name", "")), split=config.split)
    if requests:
        requests, sample = sample_requests(requests, config.sample or len(requests))
        report = evaluate(
            retrievers,
            requests,
            cutoffs=config.cutoffs,
            sid_of=_sids(searcher),
            reference=_reference(arms, search_config),
            market=report.market,
            split=config.split,
            split_rule=market.info.get("split"),
            sample=sample,
            progress=progress,
        )
    report.notes += _notes(run, market)
    if left_out is None:
        judged = evaluate_relevance(retrievers, market, relevant_grade=config.relevant_grade, progress=progress)
        report.relevance, report.judged = judged
    elif len(market.relevance):
        logger.warning("judged queries are left out: %s", left_out)
    return report


def _reference(arms: list[Searcher], search_config: SearchConfig) -> str:
    """Name of the arm that the others are compared with: the one that searches by the settings of the checkpoint."""
    return next(arm.name for arm in arms if arm.config == search_config)


def _notes(run: RunFolder, market: Market) -> list[str]:
    """Sentences about the market's split, its queries and the run's alignment that a reader of the figures must know."""
    notes = [RANDOM_NOTE] if market.info.get("split", {}).get("method") == "random" else []
    queries = str(market.info.get("queries", ""))
    if queries.startswith("artificial"):
        notes.append(f"The queries are {queries}; nobody typed them, so figures of real searches will differ.")
    if "clicks" in market.info:
        notes.append(f"The clicks are {market.info['clicks']}; nobody clicked them.")
    if (run.embeddings / ALIGNMENT_NAME).is_file():
        sentence = left_out_sentence(read_json(run.embeddings / ALIGNMENT_NAME))
        notes += [sentence] if sentence else []
    return notes


def _sids(searcher: Searcher) -> dict[str, tuple[int, ...]]:
    """SID of every item of the catalogue."""
    index = searcher.index
    return dict(zip(index.item_ids, map(tuple, index.codes.tolist())))


__all__ = ["evaluate_run"]
