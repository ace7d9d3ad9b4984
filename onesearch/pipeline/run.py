"""The whole road: market → embeddings → SIDs → checkpoint → evaluation → card. The one place that knows every room.

Each stage reads the run folder and adds its part to it. A stage whose part exists is done, so a stopped run goes on where it was.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onesearch.data.market import Market
from onesearch.data.requests import build_requests
from onesearch.evaluation.evaluator import evaluate, evaluate_relevance, sample_requests
from onesearch.evaluation.reports import Report
from onesearch.evaluation.retrievers import Retriever
from onesearch.files import RunFolder, index_lock, locked
from onesearch.serving.searcher import Searcher
from onesearch.tokenization_sid.embedding.embeddings import ALIGNMENT_NAME

from .recipe import EvaluationConfig, MarketConfig, Recipe, load_recipe, save_recipe

if TYPE_CHECKING:
    from accelerate import Accelerator

    from onesearch.tokenization_sid.sids.appending import AppendReport

logger = logging.getLogger(__name__)

RECIPE_NAME = "recipe.yaml"


def run_recipe(recipe: Recipe, run: RunFolder, resume: bool = False, progress: bool = True, baselines: bool = True) -> Report:
    """Go the whole road in one run folder.

    Args:
        resume: continue a run of the same recipe; without it an existing folder is refused.
        progress: show progress bars.
        baselines: measure the baselines beside the checkpoint.

    Raises:
        FileExistsError: the folder holds a run and `resume` is False.
        ValueError: `resume`, but the folder was made from another recipe.
    """
    claim(recipe, run, resume)
    stages: dict[str, tuple[Path, Callable[[], object]]] = {
        "market": (run.market, lambda: make_market(recipe.market, run.market)),
        **({"alignment": (run.embeddings / ALIGNMENT_NAME, lambda: _align(recipe, run))} if recipe.alignment else {}),
        "embeddings": (run.embeddings / "embeddings.json", lambda: _embed(recipe, run)),
        "SIDs": (run.sids / "sid_index.safetensors", lambda: make_sids(recipe, run)),
        "checkpoint": (run.checkpoint, lambda: _train(recipe, run, resume, progress)),
    }
    for name, (product, make) in stages.items():
        if product.exists():
            logger.info("%s: done before", name)
        else:
            logger.info("%s: started", name)
            make()
    report = evaluate_run(run, recipe.evaluation, progress=progress, baselines=baselines)
    _write_card(recipe, run)
    return report


def claim(recipe: Recipe, run: RunFolder, resume: bool) -> None:
    """Note the recipe in the run folder, or check that the folder is this recipe's; see `run_recipe` for what it raises."""
    path = run.root / RECIPE_NAME
    if not path.exists():
        if run.root.exists() and any(run.root.iterdir()):
            raise FileExistsError(f"{run.root} is not empty and holds no run; choose another folder")
        save_recipe(recipe, path)
        return
    if not resume:
        raise FileExistsError(f"{run.root} already holds a run; pass --resume to continue it, or choose another folder")
    recorded = load_recipe(path)
    changed = [part.name for part in fields(recipe) if getattr(recipe, part.name) != getattr(recorded, part.name)]
    if changed:
        raise ValueError(f"{run.root} was made from another recipe ({', '.join(changed)} differ); choose another folder")


def make_market(plan: MarketConfig, folder: Path) -> Market:
    """Import or simulate the tables of a market into `folder`."""
    if plan.importer == "simulate":
        from onesearch.simulator import SimulatorConfig, simulate

        return simulate(SimulatorConfig(**plan.options), folder)
    importers = _importers()
    if plan.importer not in importers:
        raise ValueError(f"importer {plan.importer!r} is unknown; allowed are simulate, {', '.join(importers)}")
    if plan.source is None:
        raise ValueError(f"importer {plan.importer} needs a source: the folder with the published files (--source)")
    market = importers[plan.importer](plan.source, **plan.options)
    market.save(folder)
    return market


def make_sids(recipe: Recipe, run: RunFolder, accelerator: Accelerator | None = None) -> None:
    """Build codebooks and the item index of a run; processes of `accelerator` share the encoding, and the main one writes."""
    from onesearch.modeling_onesearch.index_onesearch import SID_INDEX_NAME, SidIndex
    from onesearch.tokenization_sid.quantizers.rq_opq import suggest_codebook_sizes
    from onesearch.tokenization_sid.sids.building import build_sids

    items = Market.load(run.market).items
    built = build_sids(
        run,
        recipe.codes or suggest_codebook_sizes(len(items)),
        recipe.keywords,
        recipe.fit_on,
        dictionary=recipe.dictionary,
        accelerator=accelerator,
    )
    if built is None:
        return
    index = SidIndex(built.item_ids, built.codes, built.popularity, built.codebook_sizes, built.fingerprint, built.categories)
    index.save(run.sids / SID_INDEX_NAME)


def append_to_run(run: RunFolder, table: Path, known: str = "raise") -> AppendReport:
    """Encode new items with what the run has frozen and make them searchable, in ``sids/`` and in ``checkpoint/`` if there is one.

    Of several processes that append to one run, one at a time does; the others wait for it.

    Args:
        table: parquet file with the columns of the items table; known: see `onesearch.tokenization_sid.sids.appending.append_items`.

    Raises:
        ValueError: the table does not fit, or an index belongs to other codebooks than the run.
        TimeoutError: another process has been appending for `onesearch.files.LOCK_TIMEOUT` seconds.
    """
    from onesearch.tokenization_sid.sids.appending import append_items, read_items

    items = read_items(table)
    run.require("sids", "onesearch sids build")
    with locked(run.append_lock, f"appending to {run.root}"):
        report = append_items(run, items, known)
        _index_appended(run)
    return report


def _index_appended(run: RunFolder) -> None:
    """Bring the item indexes of a run up to what was appended to it."""
    from onesearch.modeling_onesearch.index_onesearch import SID_INDEX_NAME, SidIndex
    from onesearch.tokenization_sid.sids.appending import appended_codes

    added = appended_codes(run)
    for path in (run.sids / SID_INDEX_NAME, run.checkpoint / SID_INDEX_NAME):
        if not path.is_file():
            continue
        with locked(index_lock(path), f"changing {path}"):
            index = SidIndex.load(path)
            if index.fingerprint != added.fingerprint:
                raise ValueError(
                    f"{path} belongs to other codebooks than {run.sids}; train again, or copy the checkpoint again"
                )
            new = np.flatnonzero(~index.contains(added.item_ids))  # all of them, unless an earlier append died between the two
            if len(new):
                ids, paths = ([column[row] for row in new] for column in (added.item_ids, added.categories))
                index.add_items(ids, added.codes[new], added.popularity[new], [names or () for names in paths])
                index.save_updates(path)


def evaluate_run(run: RunFolder, plan: EvaluationConfig, progress: bool = True, baselines: bool = True) -> Report:
    """Measure a run's checkpoint beside the baselines on one split, and on judged queries if the market has any.

    Writes ``metrics.json`` and TREC files to ``evaluation/``.
    """
    market = Market.load(run.require("market", "onesearch data"))
    checkpoint = run.require("checkpoint", "onesearch train")
    searcher = Searcher.from_pretrained(
        checkpoint, num_beams=plan.num_beams, exclude_history=plan.exclude_history, rank_by=plan.rank_by
    )
    retrievers: list[Retriever] = [searcher, *(_baselines(run, market, plan) if baselines else ())]
    requests = build_requests(market, plan.split)
    index = searcher.model.sid_index
    if requests:
        requests, sample = sample_requests(requests, plan.sample or len(requests))
        report = evaluate(
            retrievers,
            requests,
            sid_of=dict(zip(index.item_ids, map(tuple, index.codes.tolist()))),
            reference=searcher.name,
            market=str(market.info.get("name", "")),
            split=plan.split,
            sample=sample,
            progress=progress,
        )
    else:
        report = Report(market=str(market.info.get("name", "")), split=plan.split)
    if max(market.relevance.data.column("grade").to_pylist(), default=0) >= 2:  # otherwise recall has nothing to find
        report.relevance = evaluate_relevance(retrievers, market, progress=progress)
    report.save(run.evaluation)
    return report


def _baselines(run: RunFolder, market: Market, plan: EvaluationConfig) -> list[Retriever]:
    from onesearch.evaluation.baselines.cascade import CascadeRetriever
    from onesearch.evaluation.baselines.dense import DenseRetriever
    from onesearch.evaluation.baselines.popularity import PopularityInCategoryRetriever, PopularityRetriever
    from onesearch.evaluation.baselines.text import BM25Retriever
    from onesearch.evaluation.baselines.training import read_training_log
    from onesearch.tokenization_sid.embedding.embeddings import load_embeddings, load_encoder
    from onesearch.tokenization_sid.embedding.text_encoder import embed_texts

    encoder = load_encoder(run)
    item_ids = market.items.data.column("item_id").to_pylist()
    text, log = BM25Retriever(market), read_training_log(market)
    found: list[Retriever] = [
        text,
        DenseRetriever(item_ids, load_embeddings(run, "items"), lambda queries: embed_texts(encoder, queries)),
    ]
    if not build_requests(market, "train"):
        return found
    cascade = CascadeRetriever(market, text=text, log=log)
    held_out = build_requests(market, "validation")
    if plan.tune_cascade and held_out:
        cascade.tune(sample_requests(held_out, 2000)[0])
    return [*found, PopularityRetriever(market, log=log), PopularityInCategoryRetriever(market, text=text, log=log), cascade]


def _importers() -> dict[str, Callable[..., Market]]:
    from onesearch.data.importers.amazon import import_amazon
    from onesearch.data.importers.chorus import import_chorus
    from onesearch.data.importers.kuaisearch import import_kuaisearch
    from onesearch.data.importers.tables import import_tables

    return {"amazon": import_amazon, "chorus": import_chorus, "kuaisearch": import_kuaisearch, "tables": import_tables}


def _align(recipe: Recipe, run: RunFolder) -> None:
    from onesearch.tokenization_sid.embedding.alignment import align_run

    align_run(run, recipe.encoder, recipe.alignment)


def _embed(recipe: Recipe, run: RunFolder) -> None:
    from onesearch.tokenization_sid.embedding.embeddings import embed_market

    embed_market(run, recipe.encoder)


def _train(recipe: Recipe, run: RunFolder, resume: bool, progress: bool) -> None:
    from onesearch.trainers.training import train_run

    if recipe.processes == 1:
        train_run(run, recipe.training, resume=resume, progress=progress)
        return
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(recipe.processes)]
    command = [*launcher, "-m", "onesearch.cli", "train", str(run.root), "--recipe", str(run.root / RECIPE_NAME)]
    finished = subprocess.run([*command, *(["--resume"] if resume else [])], check=False)
    if finished.returncode:
        raise ChildProcessError(
            f"training on {recipe.processes} processes ended with exit code {finished.returncode}; its messages are above"
        )


def _write_card(recipe: Recipe, run: RunFolder) -> None:
    from onesearch.model_cards.card import write_card

    write_card(run, name=recipe.name)
