"""`onesearch reward`: train the reward model that ranks the hits of a run's checkpoint, measure it, or let it count new sessions."""

from __future__ import annotations

import argparse
from pathlib import Path

from onesearch.extras import require
from onesearch.files import RunFolder

from .arguments import Commands, add_command, add_run_folder, positive, quiet_libraries


def add(commands: Commands) -> None:
    """Add `reward` to the command line."""
    text = (
        "train a reward model on a run's sessions and on its checkpoint's beams; it ranks the hits of later searches. With --report or "
        "--update, measure or update the one that is there"
    )
    parser = add_command(commands, "reward", _reward, text)
    add_run_folder(parser)
    parser.add_argument(
        "--recipe", help="recipe whose `reward` part is used (default: the run's own recipe.yaml, or the defaults without one)"
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--report",
        action="store_true",
        help="train nothing; report how true the probabilities are and what re-ranking changes for whom (evaluation/reward/)",
    )
    instead.add_argument(
        "--update",
        metavar="SESSIONS",
        help="train nothing; count sessions in the memory: `events`, or the path of the log, counts those sessions of the server's event "
        "log that are not counted yet; the path of a parquet file counts its sessions, sorted by time, each time that it is given",
    )
    parser.add_argument(
        "--split", choices=("validation", "test"), default="test", help="split that --report measures (default: %(default)s)"
    )
    parser.add_argument(
        "--sample", type=positive, default=2000, metavar="N", help="requests that --report draws (default: %(default)s)"
    )


def _reward(options: argparse.Namespace) -> None:
    if options.report:
        _report(options)
    elif options.update is not None:
        _update(options)
    else:
        _train(options)


def _report(options: argparse.Namespace) -> None:
    from onesearch.pipeline.reward_report import report_reward, report_table

    print(report_table(report_reward(RunFolder(options.run), options.split, options.sample)), end="")


def _update(options: argparse.Namespace) -> None:
    from onesearch.parquet_files import read_given_table
    from onesearch.pipeline.run_lock import writing
    from onesearch.serving.http.served import event_log
    from onesearch.views.reward.reward_folder import FOLDER_NAME, counted_log_end, update_memory

    run = RunFolder(options.run)
    checkpoint = run.require("checkpoint", "onesearch train")
    folder, log, given = checkpoint / FOLDER_NAME, event_log(checkpoint), Path(options.update)
    is_log = options.update == "events" or given.resolve() == log.path.resolve()
    if is_log and not log.path.is_file():
        raise FileNotFoundError(
            f"{log.path} does not exist; a server of this run writes it when it accepts events (`onesearch serve`)"
        )
    if given.suffix == ".jsonl" and not is_log:
        raise ValueError(
            f"{given} is not the event log of this run, which is {log.path}; give that, `events`, or a parquet file"
        )
    table = None if is_log else read_given_table(given)
    with writing(run, "onesearch reward --update"):
        sessions, end = log.since(counted_log_end(folder)) if table is None else (table, None)
        queries = update_memory(folder, sessions, str(log.path if is_log else given), end)
    print(f"{len(sessions):,} sessions counted; the memory knows {queries:,} queries now")


def _train(options: argparse.Namespace) -> None:
    require("train", needed_by="training a reward model")
    from onesearch.pipeline.recipe import run_recipe_of
    from onesearch.pipeline.run_lock import writing
    from onesearch.trainers.reward.reward_config import RewardConfig
    from onesearch.trainers.reward.training import train_reward_run

    quiet_libraries()
    run = RunFolder(options.run)
    recipe = run_recipe_of(run, options.recipe)
    config = None if recipe is None else recipe.reward
    run.require("checkpoint", "onesearch train")
    with writing(run, "onesearch reward"):
        train_reward_run(run, config or RewardConfig())
