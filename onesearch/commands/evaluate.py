"""`onesearch evaluate`: measure the checkpoint of a run."""

from __future__ import annotations

import argparse

from onesearch.files import RunFolder

from .arguments import (
    Commands,
    add_command,
    add_run_folder,
    add_search_settings,
    given,
    positive,
    quiet_libraries,
    search_settings,
)

ALL = 0
"""Value of ``--sample all``."""


def add(commands: Commands) -> None:
    """Add `evaluate` to the command line."""
    text = "measure a run's checkpoint beside the baselines, with the settings of the run's own recipe.yaml"
    parser = add_command(commands, "evaluate", _evaluate, text)
    add_run_folder(parser)
    parser.add_argument(
        "--split", choices=("validation", "test"), help="split that is measured (default: the recipe's, or test without one)"
    )
    parser.add_argument(
        "--sample",
        type=_sample,
        metavar="N",
        help="number of requests to draw (seed 0), or `all`; fewer are faster and give wider intervals (default: the recipe's)",
    )
    parser.add_argument(
        "--relevant-grade",
        type=int,
        choices=(1, 2, 3),
        help="lowest grade of a judgement from which an item counts as relevant; 1 for the grades 0 and 1 (default: the recipe's, or 2)",
    )
    parser.add_argument(
        "--cutoffs",
        type=positive,
        nargs="+",
        metavar="K",
        help="cut-offs k of HR@k, MRR@k and so on, up to 350; each needs as many beams (--beams) (default: the recipe's, or those of 5, 10 "
        "and 50 that the beams reach)",
    )
    parser.add_argument("--no-baselines", action="store_true", help="measure the checkpoint alone")
    parser.add_argument(
        "--again",
        action="store_true",
        help="fit the baselines and ask them again, rather than read the rankings that they gave in an earlier evaluation of the run",
    )
    parser.add_argument("--name", help="write to evaluation/NAME/ instead of evaluation/")
    parser.add_argument("--overwrite", action="store_true", help="replace a report that was made with other settings")
    add_search_settings(parser)


def _sample(text: str) -> int:
    return ALL if text == "all" else positive(text)


def _evaluate(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from onesearch.pipeline.evaluation import evaluate_run
    from onesearch.pipeline.recipe import EvaluationConfig, run_recipe_of

    quiet_libraries()
    run = RunFolder(options.run)
    recipe = run_recipe_of(run)
    config = EvaluationConfig() if recipe is None else recipe.evaluation
    sample = config.sample if options.sample is None else options.sample
    config = replace(
        config,
        sample=None if sample == ALL else sample,
        **given(
            split=options.split,
            relevant_grade=options.relevant_grade,
            cutoffs=tuple(options.cutoffs) if options.cutoffs else None,
        ),
    )
    evaluate_run(
        run,
        config,
        search_settings(options),
        name=options.name,
        overwrite=options.overwrite,
        baselines=not options.no_baselines,
        again=options.again,
        show=lambda report: print(report.to_table(), flush=True),
    )
    if options.name is None and (run.checkpoint / "README.md").is_file():
        print(f"card: {run.checkpoint / 'README.md'}")
