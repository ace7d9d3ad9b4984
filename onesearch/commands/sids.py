"""`onesearch sids`: embeddings, codebooks and Semantic IDs of a run."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from onesearch.files import RunFolder, read_json

from . import align, inspection
from .arguments import StrictParser, add_command, add_run_folder, codebook_sizes, given, opq


def add(commands: Any) -> None:
    """Add `sids` to the command line."""
    parser = commands.add_parser("sids", help="embeddings, codebooks and Semantic IDs of a run", description="Semantic IDs.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=StrictParser)
    build = add_command(actions, "build", _build_sids, "embed items and queries, train codebooks, encode the catalogue")
    add_run_folder(build)
    build.add_argument("--encoder", help="a sentence-transformers model by name or folder (default: train a static one)")
    build.add_argument(
        "--residual-sizes",
        type=codebook_sizes,
        help="codes per residual level, for instance 256,128,64 (default: by catalogue size)",
    )
    build.add_argument("--opq", type=opq, help="sub-codes x codes each, for instance 2x64; 0x0 for none")
    build.add_argument(
        "--quantizer", default="rq-opq", help="what makes the codes (default: %(default)s); see docs/semantic_ids.md"
    )
    build.add_argument("--no-keywords", action="store_true", help="leave core keywords out of the embeddings")
    build.add_argument("--dictionary", help="a file of further keywords (json or parquet: type, text, page_views)")
    build.add_argument("--seed", type=int, default=0)
    build.add_argument(
        "--rebuild",
        action="store_true",
        help="embed again, as after `align`; under torchrun processes share this and the encoding",
    )
    align.add(actions)
    inspection.add(actions)
    append = add_command(
        actions, "append", _append_items, "encode new items with the frozen codebooks and make them searchable"
    )
    append.add_argument("--run", type=Path, required=True, help="folder of the run")
    append.add_argument("items", type=Path, help="new items as parquet, in the columns of the items table")
    append.add_argument(
        "--known", choices=("raise", "skip"), default="raise", help="what to do with items that are published already"
    )


def _build_sids(options: argparse.Namespace) -> None:
    from onesearch.data.market import Market
    from onesearch.pipeline.recipe import Recipe
    from onesearch.pipeline.stages import make_sids
    from onesearch.tokenization_sid.embedding.configs import TextEncoderConfig
    from onesearch.tokenization_sid.embedding.embeddings import aligned_from, embed_market

    run = RunFolder(options.run)
    market = Market.load(run.require("market", "onesearch data"))
    codes = _codes(options, len(market.items))
    encoder = TextEncoderConfig(model=options.encoder, seed=options.seed)
    if options.encoder is None:
        encoder = aligned_from(run) or encoder
    accelerator = _accelerator()
    if options.rebuild or options.encoder or not (run.embeddings / "embeddings.json").exists():
        embed_market(run, encoder, accelerator=accelerator)
    keywords = {"keywords": not options.no_keywords, "dictionary": options.dictionary}
    make_sids(Recipe(run.root.name, encoder=encoder, codes=codes, **keywords), run, accelerator)
    if accelerator is None or accelerator.is_main_process:
        print_values(read_json(run.sids / "diagnostics.json"))


def _codes(options: argparse.Namespace, items: int) -> Any:
    """Config of the quantizer that the flags name; what they leave open is as `suggest_codebook_sizes` has it."""
    from dataclasses import fields

    from onesearch.tokenization_sid.quantizers.configs import QUANTIZER_CONFIGS, suggest_codebook_sizes

    suggested, kind = suggest_codebook_sizes(items), options.quantizer
    if kind not in QUANTIZER_CONFIGS:
        raise ValueError(f"--quantizer {kind} is unknown; allowed are {', '.join(QUANTIZER_CONFIGS)}")
    config = QUANTIZER_CONFIGS[kind]
    if options.opq and "opq" not in {part.name for part in fields(config)}:
        raise ValueError(f"--opq: {kind} has no product codes; leave the flag out")
    opq = options.opq or (suggested.opq if kind == suggested.quantizer else None)
    return config(options.residual_sizes or suggested.residual_sizes, seed=options.seed, **given(opq=opq))


def _accelerator() -> Any:
    """The processes of torchrun, None if there is one alone. They wait for each other as long as codebooks may take to train."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    from datetime import timedelta

    from accelerate import Accelerator, InitProcessGroupKwargs

    return Accelerator(kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=1))])


def _append_items(options: argparse.Namespace) -> None:
    from onesearch.pipeline.appending import append_to_run

    print_values(append_to_run(RunFolder(options.run), options.items, options.known).to_dict())


def print_values(values: dict[str, Any], within: str = "") -> None:
    """One line per value, floats short; what lies deeper has its path before it."""
    for key, value in values.items():
        if isinstance(value, dict):
            print_values(value, f"{within}{key}.")
        else:
            print(f"{within}{key}: {_short(value)}")


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_short, value))}]"
    if isinstance(value, dict):
        return " ".join(f"{key} {_short(part)}" for key, part in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
