"""`onesearch info`: versions, and the contents of a run folder or checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from onesearch.files import read_json

from .arguments import Commands, add_command, checkpoint_folder


def add(commands: Commands) -> None:
    """Add `info` to the command line."""
    parser = add_command(commands, "info", _info, "print versions, and the contents of a run folder or checkpoint")
    parser.add_argument("folder", type=Path, nargs="?", help="run folder or checkpoint; also --run RUN")
    parser.takes_run = True


def _info(options: argparse.Namespace) -> None:
    _print_versions()
    if options.folder is not None:
        _print_checkpoint(checkpoint_folder(options.folder))


def _print_versions() -> None:
    """Versions of the package and of the libraries that results depend on; an extra may be absent."""
    from importlib.metadata import PackageNotFoundError, version

    for name in ("onesearch", "torch", "transformers", "trl", "datasets", "tokenizers", "faiss-cpu"):
        try:
            print(f"{name} {version(name)}")
        except PackageNotFoundError:
            print(f"{name} is not installed")


def _print_checkpoint(checkpoint: Path) -> None:
    """Sizes, codebooks and search settings."""
    from dataclasses import asdict

    from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME, SidIndex
    from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig

    index = SidIndex.load(checkpoint / SID_INDEX_NAME)
    config = read_json(checkpoint / "config.json")
    if "d_model" in config:
        width, layers = config["d_model"], f"{config['encoder_layers']} + {config['decoder_layers']}"
    else:
        width, layers = config["hidden_size"], config["num_hidden_layers"]
    counts = f"{len(index):,} items, {len(index.trie):,} SIDs of codebook sizes {index.codebook_sizes}"
    print(f"\n{checkpoint}: {config['model_type']}, {counts}")
    print(f"width {width}, {layers} layers, codebooks {index.fingerprint[:12]}…")
    settings = asdict(SearchConfig.from_pretrained(checkpoint))
    print(f"search settings: {', '.join(f'{name} {value}' for name, value in settings.items())}")
