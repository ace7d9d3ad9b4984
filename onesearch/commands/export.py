"""`onesearch export`: a checkpoint for programs that do not run this package's classes."""

from __future__ import annotations

import argparse
from pathlib import Path

from .arguments import Commands, add_checkpoint, add_command, checkpoint_folder


def add(commands: Commands) -> None:
    """Add `export` to the command line."""
    text = "write a checkpoint for other programs: a plain BART or Qwen3 with its tokenizer and the items of each SID, or ONNX graphs"
    parser = add_command(commands, "export", _export, text)
    add_checkpoint(parser)
    parser.add_argument("folder", type=Path, help="new or empty folder")
    parser.add_argument(
        "--format",
        choices=("backbone", "onnx"),
        default="backbone",
        help="backbone: stock transformers loads it; onnx: encoder and decoder step for onnxruntime (default: %(default)s)",
    )
    parser.add_argument(
        "--drop-long-view", action="store_true", help="leave out the long view, which a plain backbone cannot have"
    )


def _export(options: argparse.Namespace) -> None:
    from onesearch.serving.loading import load_parts

    folder = options.folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists and is not empty; nothing was changed, choose a new folder")
    parts = load_parts(checkpoint_folder(options.checkpoint), {})
    if options.format == "onnx":
        from onesearch.serving.graph_export import export_graphs

        export_graphs(parts.model, folder)  # type: ignore[arg-type]  # it refuses the decoder-only model itself
    else:
        parts.model.export_backbone(folder, parts.tokenizer, options.drop_long_view)
    print(f"{folder}: {', '.join(sorted(path.name for path in folder.iterdir()))}")
