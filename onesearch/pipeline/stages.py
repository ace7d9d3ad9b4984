"""The stages of a run. Each reads the parts that earlier stages wrote to the run folder, and adds its own."""

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


def make_market(config: MarketConfig, folder: Path) -> Market:
    """Import or simulate the tables of a market into `folder`.

    Raises:
        ValueError: the importer is unknown, or has no source.
    """
    if config.importer == "simulate":
        from onesearch.simulator import SimulatorConfig, simulate

        return simulate(SimulatorConfig(**config.options), folder)
    importers = _importers()
    if config.importer not in importers:
        raise ValueError(f"importer {config.importer!r} is unknown; allowed are simulate, {', '.join(importers)}")
    if config.source is None:
        raise ValueError(f"importer {config.importer} needs a source: the folder with the published files (--source)")
    market = importers[config.importer](config.source, **config.options)
    market.save(folder)
    return market


def _importers() -> dict[str, Callable[..., Market]]:
    from onesearch.data.importers.amazon import import_amazon
    from onesearch.data.importers.chorus import import_chorus
    from onesearch.data.importers.kuaisearch import import_kuaisearch
    from onesearch.data.importers.tables import import_tables

    return {"amazon": import_amazon, "chorus": import_chorus, "kuaisearch": import_kuaisearch, "tables": import_tables}


def align_encoder(recipe: Recipe, run: RunFolder) -> None:
    """Train the text encoder on the training sessions with the settings in `recipe.alignment`."""
    from onesearch.tokenization_sid.embedding.alignment import align_run

    if recipe.alignment is not None:
        align_run(run, recipe.encoder, recipe.alignment)


def make_embeddings(recipe: Recipe, run: RunFolder) -> None:
    """Embed the items and the distinct queries of the market."""
    from onesearch.tokenization_sid.embedding.embeddings import embed_market

    embed_market(run, recipe.encoder)


def make_sids(recipe: Recipe, run: RunFolder, accelerator: Accelerator | None = None) -> None:
    """Train the codebooks of a run, encode items and queries, and write the item index.

    Args:
        recipe: its `codes`, `keywords`, `fit_on` and `dictionary` are used.
        run: run folder with a market and embeddings.
        accelerator: processes that share the encoding; the main one writes. None for one process.
    """
    from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME, SidIndex
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
    index = SidIndex.build(
        built.item_ids, built.codes, built.popularity, built.codebook_sizes, built.fingerprint, built.categories
    )
    index.save(run.sids / SID_INDEX_NAME)


def make_checkpoint(recipe: Recipe, run: RunFolder, resume: bool, progress: bool) -> None:
    """Train the model, in this process or in `recipe.processes` processes of torchrun.

    Raises:
        ChildProcessError: a process of torchrun ended with an error.
    """
    if recipe.processes == 1:
        from onesearch.trainers.training import train_run

        train_run(run, recipe.training, recipe.search, resume=resume, progress=progress)
        return
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(recipe.processes)]
    command = [*launcher, "-m", "onesearch.cli", "train", str(run.root), "--recipe", str(run.root / RECIPE_NAME)]
    finished = subprocess.run([*command, *(["--resume"] if resume else [])], check=False)
    if finished.returncode:
        raise ChildProcessError(
            f"training on {recipe.processes} processes ended with exit code {finished.returncode}; its messages are above"
        )


def make_card(recipe: Recipe, run: RunFolder) -> None:
    """Write the card of the checkpoint."""
    from onesearch.model_cards.card import write_card

    write_card(run, name=recipe.name)


__all__ = ["align_encoder", "make_card", "make_checkpoint", "make_embeddings", "make_market", "make_sids"]
