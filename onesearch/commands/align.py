"""`onesearch sids align`: train the text encoder of a run."""

from __future__ import annotations

import argparse
from typing import Any

from onesearch.files import RunFolder

from .arguments import add_command, add_run_folder, given, positive


def add(actions: Any) -> None:
    """Add `sids align` to the actions of `sids`."""
    align = add_command(
        actions, "align", _align, "train the text encoder on what users did in the training sessions; build follows"
    )
    add_run_folder(align)
    align.add_argument("--recipe", help="recipe whose `encoder` and `alignment` parts are used (default: the defaults of both)")
    align.add_argument("--encoder", help="a sentence-transformers model by name or folder (default: the static encoder)")
    align.add_argument("--frozen", action="store_true", default=None, help="learn a linear projection after the encoder alone")
    align.add_argument("--dimension", type=positive, help="of the projected vectors (default: the encoder's own)")
    align.add_argument("--min-cosine", type=float, help="pairs below it under the base encoder are dropped; -1 keeps all")
    align.add_argument("--epochs", type=positive)
    align.add_argument("--batch-size", type=positive, help="pairs of each kind per step")
    align.add_argument("--learning-rate", type=float)
    align.add_argument("--seed", type=int)


def _align(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from onesearch.pipeline.recipe import load_recipe
    from onesearch.tokenization_sid.embedding.alignment import align_run
    from onesearch.tokenization_sid.embedding.alignment_measures import table
    from onesearch.tokenization_sid.embedding.configs import AlignmentConfig, TextEncoderConfig

    recipe = None if options.recipe is None else load_recipe(options.recipe)
    config = (recipe and recipe.alignment) or AlignmentConfig()
    encoder = recipe.encoder if recipe else TextEncoderConfig()
    encoder = replace(encoder, **given(model=options.encoder, seed=options.seed))
    mining = replace(config.mining, **given(min_cosine=options.min_cosine))
    names = ("frozen", "dimension", "epochs", "batch_size", "learning_rate", "seed")
    config = replace(config, mining=mining, **given(**{name: getattr(options, name) for name in names}))
    report = align_run(RunFolder(options.run), encoder, config)
    for kind, counts in report["examples"].items():
        print(f"{kind}: {counts['kept']:,} of {counts['mined']:,} mined examples kept")
    print(table(report["before"], report["after"]))
