"""The steps of a run. Each reads the parts that earlier steps wrote to the run folder, and adds its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from onesearch.data.market import Market
from onesearch.data.splits import with_split
from onesearch.devices import processes_here
from onesearch.files import RunFolder

from .market_options import SIMULATION, importer_of
from .recipe import RECIPE_NAME, MarketConfig, Recipe
from .run_lock import held_environment

if TYPE_CHECKING:
    from accelerate import Accelerator

    from onesearch.tokenization_sid.quantizers.configs import QuantizerConfig
    from onesearch.tokenization_sid.sids.item_codes import ItemCodes
    from onesearch.trainers.configs import TrainingConfig


def make_market(config: MarketConfig, folder: Path) -> Market:
    """Import or simulate the tables of a market into `folder`.

    Raises:
        ValueError: the importer has no source.
    """
    if config.importer == SIMULATION:
        from onesearch.simulator import SimulatorConfig, simulate

        market = simulate(SimulatorConfig(**config.options), folder)
        if config.split is not None:
            market = with_split(market, config.split)
            market.save(folder, overwrite=True)
        return market
    if config.source is None:
        raise ValueError(f"importer {config.importer} needs a source: the folder with the published files (--source)")
    market = importer_of(config.importer)(config.source, **config.options)
    if config.split is not None:
        market = with_split(market, config.split)
    market.save(folder)
    return market


def align_encoder(recipe: Recipe, run: RunFolder) -> None:
    """Train the text encoder on the training sessions with the settings in `recipe.alignment`."""
    from onesearch.tokenization_sid.embedding.alignment import align_run
    from onesearch.trainers.linear_layers import fast_linear_layers

    if recipe.alignment is not None:
        with fast_linear_layers():
            align_run(run, recipe.encoder, recipe.alignment)


def make_embeddings(recipe: Recipe, run: RunFolder) -> None:
    """Embed the items and the distinct queries of the market."""
    from onesearch.tokenization_sid.embedding.embeddings import embed_market
    from onesearch.trainers.linear_layers import fast_linear_layers

    with fast_linear_layers():
        embed_market(run, recipe.encoder)


def make_sids(
    recipe: Recipe,
    run: RunFolder,
    accelerator: Accelerator | None = None,
    codes: Callable[[int], QuantizerConfig] | None = None,
) -> None:
    """Train the codebooks of a run, encode items and queries, and write the item index.

    Args:
        recipe: its `codes`, `keywords`, `fit_on` and `dictionary` are used.
        run: run folder with a market and embeddings.
        accelerator: processes that share the encoding; the main one writes. None for one process.
        codes: returns the config of the quantizer for a number of distinct item vectors. None takes the config in `recipe`, or
            `suggest_codebook_sizes` if it has none.
    """
    from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME, SidIndex
    from onesearch.tokenization_sid.quantizers.configs import suggest_codebook_sizes
    from onesearch.tokenization_sid.sids.building import build_sids

    def add_index(folder: Path, built: ItemCodes) -> None:
        parts = built.item_ids, built.codes, built.popularity, built.codebook_sizes, built.fingerprint, built.categories
        SidIndex.build(*parts).save(folder / SID_INDEX_NAME)

    build_sids(
        run,
        codes or recipe.codes or suggest_codebook_sizes,
        recipe.keywords,
        recipe.fit_on,
        dictionary=recipe.dictionary,
        accelerator=accelerator,
        add_parts=add_index,
    )


def make_checkpoint(recipe: Recipe, run: RunFolder, resume: bool, progress: bool) -> None:
    """Train the model, in this process or in `recipe.processes` processes of torchrun. On a machine with fewer GPUs than processes, this
    process trains alone (`processes_here`).

    Raises:
        ChildProcessError: a process of torchrun ended with an error.
    """
    processes, factor = processes_here(recipe.processes, bool(recipe.training.arguments.get("use_cpu")))
    if processes == 1:
        from onesearch.trainers.training import train_run

        train_run(run, _with_larger_batches(recipe.training, factor), recipe.search, resume=resume, progress=progress)
        return
    if recipe.training.soft_targets is not None:
        from onesearch.trainers.training import prepare_teacher

        prepare_teacher(run, recipe.training)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [*launcher, "-m", "onesearch.cli", "train", str(run.root), "--recipe", str(run.root / RECIPE_NAME)]
    command += ["--resume"] if resume else []
    environment = {"OMP_NUM_THREADS": "1", **held_environment(run)}  # torchrun's own default, which it would announce
    finished = subprocess.run(command, check=False, env=environment)
    if finished.returncode:
        raise ChildProcessError(
            f"training on {processes} processes ended with exit code {finished.returncode}; its messages are above"
        )


def _with_larger_batches(training: TrainingConfig, factor: int) -> TrainingConfig:
    """The training with `factor` times as many examples in each batch of a process."""
    from onesearch.trainers.sft.sft_config import SidSFTConfig

    if factor == 1:
        return training
    name = "per_device_train_batch_size"
    default = SidSFTConfig.per_device_train_batch_size
    stages = [
        replace(stage, arguments={**stage.arguments, name: factor * stage.arguments[name]})
        if name in stage.arguments
        else stage
        for stage in training.stages
    ]
    arguments = {**training.arguments, name: factor * training.arguments.get(name, default)}
    return replace(training, arguments=arguments, stages=tuple(stages))


def make_reward(recipe: Recipe, run: RunFolder) -> None:
    """Train the reward model of the checkpoint with the settings in `recipe.reward`."""
    from onesearch.trainers.reward.training import train_reward_run

    if recipe.reward is not None:
        train_reward_run(run, recipe.reward)


def make_dense(recipe: Recipe, run: RunFolder) -> None:
    """Make the dense index of the checkpoint with the settings in `recipe.dense`."""
    from onesearch.trainers.dense.training import train_dense_run

    if recipe.dense is not None:
        train_dense_run(run, recipe.dense)


def make_text_index(run: RunFolder) -> None:
    """Write the text index of a run's items into its checkpoint.

    Raises:
        MissingExtraError: the extra ``evaluation`` is not installed.
        ValueError: no item has a text.
    """
    from onesearch.serving.text_index import TEXT_INDEX_NAME, TextIndex, require_text_search

    require_text_search("the text index of the checkpoint")
    TextIndex.of(Market.load(run.market)).save(run.checkpoint / TEXT_INDEX_NAME)


def make_preference_stage(recipe: Recipe, run: RunFolder, number: int, resume: bool, progress: bool) -> None:
    """Train one stage of `recipe.preference` and measure the checkpoint that it leaves, in ``evaluation/`` under the stage's name."""
    from onesearch.trainers.dpo.training import train_preference_stage
    from onesearch.trainers.grpo.training import train_grpo_stage

    if recipe.preference is None:
        raise ValueError("the recipe has no part `preference`")
    stage = recipe.preference.stages[number]
    train = train_grpo_stage if stage.method == "grpo" else train_preference_stage
    train(run, recipe.training, recipe.preference, number, recipe.reward, resume, progress)
    measure_arms(recipe, run, stage.name, progress)


def measure_arms(recipe: Recipe, run: RunFolder, name: str, progress: bool) -> None:
    """Measure the checkpoint with and without its reward model, beside no baselines, and write the report to ``evaluation/name/``."""
    from .evaluation import evaluate_run

    evaluate_run(run, recipe.evaluation, name=name, overwrite=True, baselines=False, progress=progress)


def make_card(recipe: Recipe, run: RunFolder) -> None:
    """Write the card of the checkpoint."""
    from onesearch.model_cards.card import write_card

    write_card(run, name=recipe.name)


__all__ = [
    "align_encoder",
    "make_card",
    "make_checkpoint",
    "make_dense",
    "make_embeddings",
    "make_market",
    "make_preference_stage",
    "make_reward",
    "make_sids",
    "make_text_index",
    "measure_arms",
]
