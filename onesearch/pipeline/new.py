"""`onesearch new`: from the export of a shop to a search, with settings that follow from its data."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from onesearch.data.market import Market
from onesearch.data.splits import with_split
from onesearch.evaluation.reports import Report
from onesearch.extras import require
from onesearch.files import RunFolder, read_json, write_json
from onesearch.serving.text_index import TEXT_INDEX_NAME
from onesearch.tokenization_sid.embedding.embeddings import EMBEDDINGS_NAME

from .auto_codes import choose_codes
from .auto_encoder import choose_encoder
from .auto_recipe import auto_recipe, auto_split
from .auto_search import choose_search, serve
from .baselines import text_baselines
from .closing import closing, figures
from .evaluation import evaluate_run
from .market_facts import MarketFacts
from .preconditions import possible
from .recipe import RECIPE_NAME, MarketConfig, Recipe, load_recipe, save_recipe
from .run import make_parts
from .run_lock import LOCK_NAME, NOTE_NAME, writing
from .steps import make_card, make_text_index

logger = logging.getLogger(__name__)

DECISIONS_NAME = "auto.json"
"""File of a run whose recipe was chosen: the reasons, and the figures that codes and order were chosen by."""

OWN_PARTS = ("market", "embeddings", "sids", "training", "evaluation", "checkpoint")
"""Folders of a run, which `overwrite` makes anew."""


class Export(NamedTuple):
    """The files of a shop and how they are read; see `onesearch.data.exports.read_shop`.

    Attributes:
        products: file of the products.
        log: files of the events; empty for a catalogue alone.
        columns: our name → column of the products' file, for columns that are not recognised.
        log_columns: the same for the log.
        language: language of the texts; None recognises it.
        session_minutes: minutes without an event after which a new session of a user begins.
        made_queries: whether sessions without a query get one that is made of their item.
    """

    products: Path
    log: tuple[Path, ...] = ()
    columns: Mapping[str, str] | None = None
    log_columns: Mapping[str, str] | None = None
    language: str | None = None
    session_minutes: int = 30
    made_queries: bool = True

    def config(self, split: Any) -> MarketConfig:
        """The part ``market:`` of a recipe that reads the same files in the same way."""
        options = {
            "log": [str(path) for path in self.log],
            "columns": None if self.columns is None else dict(self.columns),
            "log_columns": None if self.log_columns is None else dict(self.log_columns),
            "language": self.language,
            "session_minutes": self.session_minutes,
            "made_queries": self.made_queries,
        }
        default = {**Export(self.products)._asdict(), "log": []}
        changed = {name: value for name, value in options.items() if value != default[name]}
        return MarketConfig("export", str(self.products), changed, split)


def new_run(
    products: str | Path,
    run: RunFolder | str | Path,
    log: str | Path | Sequence[str | Path] | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    log_columns: Mapping[str, str] | None = None,
    language: str | None = None,
    session_minutes: int = 30,
    made_queries: bool = True,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    say: Callable[[str], object] = print,
) -> Report | None:
    """Read a shop's export, choose a recipe for it, and run every step of it: train, choose the served order, measure.

    Steps:
        1. Read the files, and say what was understood.
        2. Check everything that later steps need, and choose all settings by the counts of the market.
        3. Choose the text encoder, embed the texts, and choose the codebooks by the vectors.
        4. Train the model, and, if there is behaviour to learn from, the dense term and the reward model.
        5. Choose the served order on the validation requests.
        6. Measure on the test requests beside BM25 and the other baselines, and write the card.

    The chosen recipe is written to ``recipe.yaml``, a plain recipe that `onesearch run` accepts; ``auto.json`` holds the reasons.

    Args:
        products: file of the products; see `onesearch.data.exports.read_shop` for the formats.
        run: folder of the run.
        log: file of the events, or several files, which are joined by user and time; None for a catalogue alone.
        columns: our name → column of the products' file, for columns that are not recognised.
        log_columns: the same for the log.
        language: language of the texts, for example ``de``; None recognises it.
        session_minutes: minutes without an event after which a new session of a user begins.
        made_queries: give sessions without a query one that is made of their item's category, brand, attributes and tags, so that orders
            are learned from, too; see `onesearch.data.made_queries.with_made_queries`. False: they are part of histories alone.
        resume: go on with a run that was stopped; its files are not read again once its market is there.
        overwrite: make the run anew. The old parts are removed when the new files have been read and checked.
        progress: show progress bars.
        say: is called with each part of what a person should read.

    Returns:
        The report of the evaluation; None for a catalogue without requests and judgements, which nothing can be measured on.

    Raises:
        FileExistsError: the folder holds a run and neither `resume` nor `overwrite` is set, or it holds other files.
        ValueError: the files cannot be read as a shop's, or something would stop the run later.
        MissingExtraError: the extra ``train`` or ``evaluation`` is not installed.
    """
    require("train", needed_by="onesearch new")
    require("evaluation", needed_by="onesearch new")
    run = run if isinstance(run, RunFolder) else RunFolder(run)
    logs = () if log is None else (log,) if isinstance(log, str | Path) else tuple(log)
    export = Export(Path(products), tuple(map(Path, logs)), columns, log_columns, language, session_minutes, made_queries)
    check_folder(run, resume, overwrite)
    if overwrite or not _is_chosen(run):
        _begin(export, run, overwrite, say)
    with writing(run, "onesearch new"):
        _with_encoder(run, say)
        recipe = _with_codes(run, progress, say)
        make_parts(recipe, run, resume=True, progress=progress)
        market = Market.load(run.market)
        recipe = _with_search(run, recipe, market, say)
        report = _evaluated(run, recipe, market, progress, say)
        say(f"\n{closing(run, market)}")
    return report


def check_folder(run: RunFolder, resume: bool, overwrite: bool) -> None:
    """Refuse a folder that must not be written, before anything is read."""
    if run.root.exists() and not run.root.is_dir():
        raise FileExistsError(f"{run.root} is a file; choose another folder")
    names = {path.name for path in run.root.iterdir()} if run.root.is_dir() else set()
    names -= {LOCK_NAME, NOTE_NAME}
    if not names:
        return
    if RECIPE_NAME not in names:
        raise FileExistsError(f"{run.root} is not empty and holds no run; choose another folder with --run")
    if not resume and not overwrite:
        raise FileExistsError(
            f"{run.root} already holds a run; --resume continues it, --overwrite makes it anew, --run names another"
        )
    if resume and not overwrite and DECISIONS_NAME not in names:
        raise FileExistsError(f"{run.root} holds a run that `onesearch run` made; continue it with `onesearch run --resume`")
    foreign = _foreign_files(run) if overwrite else []
    if foreign:
        raise FileExistsError(
            f"{run.root} holds files that no run made ({', '.join(foreign[:3])}); move them away, or choose another folder"
        )


def _is_chosen(run: RunFolder) -> bool:
    """Whether the recipe of a run was chosen and its market is there."""
    return (run.root / DECISIONS_NAME).is_file() and (run.root / RECIPE_NAME).is_file() and run.market.is_dir()


def _foreign_files(run: RunFolder) -> list[str]:
    """Files in a run's checkpoint that its training did not write, and edited cards: they are somebody's work."""
    from onesearch.trainers.checkpoint_folder import replaced_files

    patterns = [*replaced_files(run.checkpoint), "text_index.safetensors", "*.lock"]
    held = [path.name for path in run.checkpoint.iterdir()] if run.checkpoint.is_dir() else []
    return [f"checkpoint/{name}" for name in sorted(held) if not any(fnmatch(name, pattern) for pattern in patterns)]


def _begin(export: Export, run: RunFolder, overwrite: bool, say: Callable[[str], object]) -> None:
    """Read the export, choose the recipe, and write both into the folder, once everything has been checked."""
    from onesearch.data.exports import read_shop

    shop = read_shop(
        export.products,
        export.log or None,
        columns=export.columns,
        log_columns=export.log_columns,
        language=export.language,
        session_minutes=export.session_minutes,
        made_queries=export.made_queries,
    )
    say(shop.report.to_table())
    market = shop.market
    unsplit = MarketFacts.of(replace(market, info={**market.info, "split": {"method": "none"}}))
    split = auto_split(unsplit.train.requests)
    market = market if split is None else with_split(market, split)
    facts = MarketFacts.of(market)
    chosen = auto_recipe(facts, run_name(run.root.name), export.config(split))
    found = possible(chosen.recipe, facts, run)
    if split is not None:
        counts = {name: part.requests for name, part in facts.splits.items()}
        say(
            f"* split by time: {counts['train']:,} answered searches train, {counts['validation']:,} validate, {counts['test']:,} test"
        )
    for sentence in (*chosen.reasons, *found.left_out):
        say(f"* {sentence}")
    if not facts.train.requests:
        say(f"* {ITEMS_ONLY}; {'the judged queries measure it' if len(market.relevance) else 'nothing can be measured'}")
    run.root.mkdir(parents=True, exist_ok=True)
    with writing(run, "onesearch new"):
        if overwrite:
            _remove_parts(run)
        save_recipe(found.recipe, run.root / RECIPE_NAME)
        undecided = {"encoder": None, "codes": None, "search": None}
        write_json(run.root / DECISIONS_NAME, {"schema": 1, "reasons": chosen.reasons, **undecided})
        write_json(run.root / "understood.json", shop.report.to_dict())
        market.save(run.market)


ITEMS_ONLY = (
    "no search was answered with a click or purchase, so the model learns from the catalogue alone: it finds items by their words, "
    "category, brand and attributes, and knows no user"
)


def run_name(folder: str) -> str:
    """A name for a recipe from the name of a folder."""
    return re.sub(r"[^\w.-]", "-", folder).strip("-._") or "shop"


def _remove_parts(run: RunFolder) -> None:
    """Remove what an earlier run has made in the folder."""
    for name in OWN_PARTS:
        shutil.rmtree(run.root / name, ignore_errors=True)


def _with_encoder(run: RunFolder, say: Callable[[str], object]) -> None:
    """Choose the text encoder of a run by its texts and its validation requests."""
    recipe, decisions = load_recipe(run.root / RECIPE_NAME), read_json(run.root / DECISIONS_NAME)
    if decisions["encoder"] is not None:
        return
    market = Market.load(run.market)
    choice = choose_encoder(market, MarketFacts.of(market), recipe)
    say(f"* {choice}")
    save_recipe(replace(recipe, encoder=choice.config), run.root / RECIPE_NAME)
    write_json(run.root / DECISIONS_NAME, {**decisions, "encoder": str(choice)})


def _with_codes(run: RunFolder, progress: bool, say: Callable[[str], object]) -> Recipe:
    """The recipe of a run with codebooks that were chosen by the vectors of its items."""
    recipe, decisions = load_recipe(run.root / RECIPE_NAME), read_json(run.root / DECISIONS_NAME)
    if decisions["codes"] is not None:
        return recipe
    make_parts(recipe, run, resume=True, progress=progress, last="embeddings")
    if not (run.embeddings / EMBEDDINGS_NAME).exists():
        raise FileNotFoundError(f"{run.embeddings} has no embeddings; run `onesearch new` with --overwrite")
    choice = choose_codes(run)
    say(f"* {choice}")
    recipe = replace(recipe, codes=choice.config)
    save_recipe(recipe, run.root / RECIPE_NAME)
    write_json(run.root / DECISIONS_NAME, {**decisions, "codes": str(choice)})
    return recipe


def _with_search(run: RunFolder, recipe: Recipe, market: Market, say: Callable[[str], object]) -> Recipe:
    """The recipe of a run with the order that its validation requests ask for, which its checkpoint then serves."""
    decisions = read_json(run.root / DECISIONS_NAME)
    if decisions["search"] is not None:
        return recipe
    if not (run.checkpoint / TEXT_INDEX_NAME).is_file():
        make_text_index(run)
    choice = choose_search(run, market, text_baselines(run, market))
    say(f"* {choice}")
    serve(run, choice.search)
    has_dense = choice.search.with_dense or choice.search.dense_weight > 0
    recipe = replace(
        recipe,
        search=choice.search,
        reward=recipe.reward if choice.search.rerank else None,
        dense=recipe.dense if has_dense else None,
    )
    save_recipe(recipe, run.root / RECIPE_NAME)
    write_json(run.root / DECISIONS_NAME, {**decisions, "search": choice.to_dict()})
    return recipe


def _evaluated(run: RunFolder, recipe: Recipe, market: Market, progress: bool, say: Callable[[str], object]) -> Report | None:
    """Measure the checkpoint and write its card, where there is anything to measure."""
    from onesearch.data.requests import build_requests

    if not build_requests(market, recipe.evaluation.split) and not len(market.relevance):
        make_card(recipe, run)
        return None

    def show(report: Report) -> None:
        say(f"\n{figures(report) if report.requests else report.to_table()}")

    report = evaluate_run(run, recipe.evaluation, overwrite=True, progress=progress, show=show)
    make_card(recipe, run)
    return report


__all__ = ["DECISIONS_NAME", "check_folder", "new_run", "run_name"]
