"""`onesearch sids`: embeddings, codebooks and Semantic IDs of a run."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onesearch.files import RunFolder, read_json
from onesearch.tokenization_sid.keywords.configs import FUSION, KeywordConfig

from . import align, inspection, levels
from .arguments import Commands, add_command, add_group, add_run_folder, codebook_sizes, given, opq, positive

if TYPE_CHECKING:
    from accelerate import Accelerator

    from onesearch.tokenization_sid.quantizers.configs import QuantizerConfig


def add(commands: Commands) -> None:
    """Add `sids` to the command line."""
    actions = add_group(commands, "sids", "embeddings, codebooks and Semantic IDs of a run")
    _add_build(actions)
    align.add(actions)
    inspection.add(actions)
    levels.add(actions)
    text = "encode new items with the frozen codebooks and make them searchable"
    append = add_command(actions, "append", _append_items, text)
    append.add_argument("--run", type=Path, required=True, help="folder of the run")
    append.add_argument("items", type=Path, help="new items as a parquet file with the columns of the items table")
    append.add_argument(
        "--known",
        choices=("raise", "skip"),
        default="raise",
        help="items that the run has already: refuse the table, or leave them out (default: %(default)s)",
    )


def _add_build(actions: Commands) -> None:
    build = add_command(actions, "build", _build_sids, "embed items and queries, train codebooks, encode the catalogue")
    add_run_folder(build)
    build.add_argument(
        "--encoder",
        metavar="MODEL",
        help="english, minilm, or a name or folder of a sentence-transformers model or of static vectors (default: train a static encoder)",
    )
    build.add_argument(
        "--quantizer", default="rq-opq", help="method that makes the codes; see docs/semantic_ids.md (default: %(default)s)"
    )
    build.add_argument(
        "--residual-sizes",
        type=codebook_sizes,
        metavar="N,N,N",
        help="codebook size of each residual level, for example 256,128,64; larger codebooks give more items a SID of their own "
        "(default: by the size of the catalogue)",
    )
    build.add_argument(
        "--opq",
        type=opq,
        metavar="CODESxSIZE",
        help="number of product codes and codebook size of each, for example 2x64; 0x0 makes none (default: by catalogue size)",
    )
    build.add_argument("--no-keywords", action="store_true", help="mine no core keywords")
    build.add_argument(
        "--fusion",
        choices=FUSION,
        help="whether core keywords are fused into the embeddings; auto: unless that lowers ICR or purity (default: auto)",
    )
    build.add_argument(
        "--core",
        type=positive,
        metavar="N",
        help="fuse at most N keywords into a text, those that queries ask for (default: all)",
    )
    build.add_argument(
        "--recogniser", action="store_true", help="train a recogniser of keywords on the market's titles and queries (minutes)"
    )
    build.add_argument("--dictionary", help="file of additional keywords (json or parquet: type, text, page_views)")
    build.add_argument("--seed", type=int, default=0, help="seed of the encoder and the codebooks (default: %(default)s)")
    build.add_argument(
        "--rebuild",
        action="store_true",
        help="embed again, for example after the market has changed; under torchrun the processes share the work",
    )


def _build_sids(options: argparse.Namespace) -> None:
    from onesearch.data.market import Market
    from onesearch.pipeline.processes import leave_group
    from onesearch.pipeline.recipe import Recipe
    from onesearch.pipeline.run_lock import writing
    from onesearch.pipeline.steps import make_sids
    from onesearch.tokenization_sid.embedding.configs import TextEncoderConfig
    from onesearch.tokenization_sid.embedding.embeddings import EMBEDDINGS_NAME, aligned_from, embed_market

    run = RunFolder(options.run)
    codes = partial(_codes, options)
    codes(len(Market.load(run.require("market", "onesearch data")).items))  # refuses wrong flags before anything is embedded
    encoder = TextEncoderConfig(model=options.encoder, seed=options.seed)
    keywords = _keywords(options)
    recipe = Recipe("sids", encoder=encoder, keywords=keywords, dictionary=options.dictionary)
    accelerator = _accelerator()
    with writing(run, "onesearch sids build"):
        base = aligned_from(run)
        if base is not None and options.encoder in (None, base.model):
            encoder = base
        if options.rebuild or options.encoder or not (run.embeddings / EMBEDDINGS_NAME).exists():
            embed_market(run, encoder, accelerator=accelerator)
        make_sids(recipe, run, accelerator, codes)
    if accelerator is None or accelerator.is_main_process:
        _print_values(read_json(run.sids / "diagnostics.json"))
    if accelerator is not None:
        leave_group()


def _keywords(options: argparse.Namespace) -> KeywordConfig | None:
    """Config of the keywords that the flags name; None without keywords."""
    if not options.no_keywords:
        return KeywordConfig(**given(fusion=options.fusion, core=options.core, recogniser=options.recogniser))
    useless = [f"--{name}" for name in ("fusion", "core", "recogniser", "dictionary") if getattr(options, name)]
    if useless:
        raise ValueError(f"{' and '.join(useless)}: without keywords this has no effect; leave --no-keywords out")
    return None


def _codes(options: argparse.Namespace, vectors: int) -> QuantizerConfig:
    """Config of the quantizer that the flags name; sizes that are not given are those of `suggest_codebook_sizes` for that many vectors."""
    from dataclasses import fields

    from onesearch.tokenization_sid.quantizers.configs import QUANTIZER_CONFIGS, suggest_codebook_sizes

    suggested, kind = suggest_codebook_sizes(vectors), options.quantizer
    if kind not in QUANTIZER_CONFIGS:
        raise ValueError(f"--quantizer {kind} is unknown; allowed are {', '.join(QUANTIZER_CONFIGS)}")
    config: Any = QUANTIZER_CONFIGS[kind]
    if options.opq and "opq" not in {part.name for part in fields(config)}:
        raise ValueError(f"--opq: {kind} has no product codes; leave the flag out")
    product = options.opq or (suggested.opq if kind == suggested.quantizer else None)
    sizes = options.residual_sizes or suggested.residual_sizes
    return config(residual_sizes=sizes, seed=options.seed, **given(opq=product))


def _accelerator() -> Accelerator | None:
    """The processes of torchrun; None for a single process. They wait up to a day for each other, as codebooks take long to train."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    from datetime import timedelta

    from accelerate import Accelerator, InitProcessGroupKwargs

    return Accelerator(kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=1))])


def _append_items(options: argparse.Namespace) -> None:
    from onesearch.pipeline.appending import append_to_run

    _print_values(append_to_run(RunFolder(options.run), options.items, options.known).to_dict())


def _print_values(values: dict[str, Any], within: str = "") -> None:
    """Print one line per value, with dotted keys and rounded numbers."""
    for key, value in values.items():
        if isinstance(value, dict):
            _print_values(value, f"{within}{key}.")
        else:
            print(f"{within}{key}: {_short(value)}")


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_short, value))}]"
    if isinstance(value, dict):
        return " ".join(f"{key} {_short(part)}" for key, part in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
