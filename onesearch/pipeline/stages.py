"""The stages of a run: each reads what the earlier ones left in the run folder and adds its own part."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from onesearch.data.market import Market
from onesearch.files import RunFolder

from .recipe import RECIPE_NAME, MarketConfig, Recipe

if TYPE_CHECKING:
    from accelerate import Accelerator


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


def _importers() -> dict[str, Callable[..., Market]]:
    from onesearch.data.importers.amazon import import_amazon
    from onesearch.data.importers.chorus import import_chorus
    from onesearch.data.importers.kuaisearch import import_kuaisearch
    from onesearch.data.importers.tables import import_tables

    return {"amazon": import_amazon, "chorus": import_chorus, "kuaisearch": import_kuaisearch, "tables": import_tables}


def align_encoder(recipe: Recipe, run: RunFolder) -> None:
    """Train the text encoder on the training sessions, as `recipe.alignment` says."""
    from onesearch.tokenization_sid.embedding.alignment import align_run

    align_run(run, recipe.encoder, recipe.alignment)


def make_embeddings(recipe: Recipe, run: RunFolder) -> None:
    """Embed items and queries."""
    from onesearch.tokenization_sid.embedding.embeddings import embed_market

    embed_market(run, recipe.encoder)


def make_sids(recipe: Recipe, run: RunFolder, accelerator: Accelerator | None = None) -> None:
    """Build codebooks and the item index of a run; processes of `accelerator` share the encoding, and the main one writes."""
    from onesearch.modeling_onesearch.index_onesearch import SID_INDEX_NAME, SidIndex
    from onesearch.tokenization_sid.quantizers.configs import suggest_codebook_sizes
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


def make_checkpoint(recipe: Recipe, run: RunFolder, resume: bool, progress: bool) -> None:
    """Train the model, in this process or in `recipe.processes` of them."""
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


def make_card(recipe: Recipe, run: RunFolder) -> None:
    """Write the checkpoint's card."""
    from onesearch.model_cards.card import write_card

    write_card(run, name=recipe.name)
