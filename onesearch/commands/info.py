"""`onesearch info`: versions, and the contents of a run folder or checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from onesearch.files import read_json

from .arguments import add_command, checkpoint_folder


def add(commands: Any) -> None:
    """Add `info` to the command line."""
    parser = add_command(commands, "info", _info, "what a run folder or checkpoint holds, and which versions are installed")
    parser.add_argument("folder", type=Path, nargs="?", help="run folder or checkpoint")


def _info(options: argparse.Namespace) -> None:
    _print_versions()
    if options.folder is None:
        return
    from onesearch.modeling_onesearch.index_onesearch import SID_INDEX_NAME, SidIndex

    checkpoint = checkpoint_folder(options.folder)
    index = SidIndex.load(checkpoint / SID_INDEX_NAME)
    config = read_json(checkpoint / "config.json")
    print(
        f"\n{checkpoint}: {config['model_type']}, {len(index):,} items, {len(index.trie):,} SIDs of codebook sizes {index.codebook_sizes}"
    )
    layers = f"{config['encoder_layers']} + {config['decoder_layers']}" if "d_model" in config else config["num_hidden_layers"]
    width = config["d_model"] if "d_model" in config else config["hidden_size"]
    print(f"width {width}, {layers} layers, codebooks {index.fingerprint[:12]}…")


def _print_versions() -> None:
    """Versions of the package and of the libraries that results depend on; an extra may be absent."""
    from importlib.metadata import PackageNotFoundError, version

    for name in ("onesearch", "torch", "transformers", "trl", "datasets", "tokenizers", "faiss-cpu"):
        try:
            print(f"{name} {version(name)}")
        except PackageNotFoundError:
            print(f"{name} is not installed")
