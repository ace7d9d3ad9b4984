"""`onesearch sids align`: train the text encoder of a run."""

from __future__ import annotations

import argparse

from onesearch.files import RunFolder

from .arguments import Commands, add_command, add_run_folder, given, positive


def add(actions: Commands) -> None:
    """Add `align` to the actions of `sids`."""
    text = "train the text encoder on the clicks and purchases of the training sessions; `sids build` embeds with it"
    align = add_command(actions, "align", _align, text)
    add_run_folder(align)
    align.add_argument("--recipe", help="recipe whose `encoder` and `alignment` parts are used (default: the defaults of both)")
    align.add_argument(
        "--encoder",
        metavar="MODEL",
        help="english, minilm, or a name or folder of a sentence-transformers model or of static vectors (default: the static encoder)",
    )
    align.add_argument(
        "--frozen",
        action="store_true",
        default=None,
        help="train only a linear projection of the encoder's vectors, which is faster",
    )
    align.add_argument(
        "--dimension", type=positive, metavar="N", help="size of the projected vectors (default: the encoder's own)"
    )
    align.add_argument(
        "--min-cosine",
        type=float,
        metavar="COSINE",
        help="leave out pairs that are less similar under the untrained encoder; a higher value keeps fewer pairs, -1 keeps all",
    )
    align.add_argument("--epochs", type=positive, metavar="N", help="passes over the pairs, instead of the recipe's")
    align.add_argument(
        "--batch-size",
        type=positive,
        metavar="N",
        help="pairs of each kind per step; a larger batch gives each pair more negatives and needs more memory",
    )
    align.add_argument("--learning-rate", type=float, metavar="RATE", help="learning rate, instead of the recipe's")
    align.add_argument("--seed", type=int, help="seed of the encoder and of the order of the pairs")


def _align(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from onesearch.pipeline.recipe import load_recipe
    from onesearch.pipeline.run_lock import writing
    from onesearch.tokenization_sid.embedding.alignment import align_run
    from onesearch.tokenization_sid.embedding.alignment_gaps import left_out_sentence
    from onesearch.tokenization_sid.embedding.alignment_measures import table
    from onesearch.tokenization_sid.embedding.configs import AlignmentConfig, TextEncoderConfig

    encoder, config = TextEncoderConfig(), AlignmentConfig()
    if options.recipe is not None:
        recipe = load_recipe(options.recipe)
        encoder, config = recipe.encoder, recipe.alignment or config
    encoder = replace(encoder, **given(model=options.encoder, seed=options.seed))
    mining = replace(config.mining, **given(min_cosine=options.min_cosine))
    names = ("frozen", "dimension", "epochs", "batch_size", "learning_rate", "seed")
    config = replace(config, mining=mining, **given(**{name: getattr(options, name) for name in names}))
    run = RunFolder(options.run)
    run.require("market", "onesearch data")
    with writing(run, "onesearch sids align"):
        report = align_run(run, encoder, config)
    for kind, counts in report["examples"].items():
        print(f"{kind}: {counts['kept']:,} of {counts['mined']:,} mined examples kept")
    sentence = left_out_sentence(report)
    if sentence is not None:
        print(sentence)
    print(table(report["before"], report["after"]))
