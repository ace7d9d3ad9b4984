"""The `onesearch` command: one strict parser, one function per command. Work starts after every flag has been understood."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from onesearch.files import RunFolder, read_json

FAILED, REFUSED = 1, 2
"""Exit codes: the work found problems; the input was refused."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. A refused input prints one line, not a traceback."""
    options = build_parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S"
    )
    logging.getLogger("onesearch").setLevel(logging.INFO)
    try:
        return options.command(options) or 0
    except (ValueError, TypeError, KeyError, OSError) as error:
        if options.traceback:
            raise
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        print(f"onesearch: {' '.join(str(message).split())}", file=sys.stderr)
        return REFUSED


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = _StrictParser(prog="onesearch", description="Open generative search.")
    parser.add_argument("--verbose", action="store_true", help="log what every library does")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND", parser_class=_StrictParser)
    _add_demo(commands)
    _add_run(commands)
    _add_study(commands)
    _add_data(commands)
    _add_sids(commands)
    _add_train(commands)
    _add_evaluate(commands)
    _add_search(commands)
    _add_items(commands)
    _add_info(commands)
    return parser


class _StrictParser(argparse.ArgumentParser):
    """No guessing of abbreviated flags, on any level."""

    def __init__(self, *args: Any, **kwargs: Any):
        kwargs["allow_abbrev"] = False
        super().__init__(*args, **kwargs)


def _command(commands: Any, name: str, run: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.set_defaults(command=run)
    return parser


def _run_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="folder of the run")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} must be at least 1")
    return value


def _widths(text: str) -> tuple[int, ...]:
    return tuple(_positive(part) for part in text.split(","))


def _opq(text: str) -> tuple[int, int]:
    parts, _, codes = text.partition("x")
    return int(parts), int(codes or 0)


# demo and run


def _add_demo(commands: Any) -> None:
    parser = _command(commands, "demo", _demo, "simulate a market, train on it, evaluate beside baselines and search")
    parser.add_argument("--run", type=Path, default=Path("runs/demo"), help="folder of the run (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="continue a stopped demo")


def _demo(options: argparse.Namespace) -> None:
    from onesearch.pipeline.recipe import load_recipe

    _go("demo", load_recipe("demo"), options)
    run = RunFolder(options.run)
    _print_oracle(run)
    _print_example(run)


def _add_run(commands: Any) -> None:
    parser = _command(commands, "run", _run, "go the whole road of a recipe in one folder")
    parser.add_argument("--recipe", required=True, help="name of a shipped recipe, or a .yaml file")
    parser.add_argument("--run", type=Path, help="folder of the run (default: runs/RECIPE)")
    parser.add_argument("--source", help="where the recipe's importer reads from, instead of the recipe's own")
    parser.add_argument("--resume", action="store_true", help="continue a stopped run")


def _run(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from onesearch.pipeline.recipe import load_recipe

    recipe = load_recipe(options.recipe)
    if options.source is not None:
        recipe = replace(recipe, market=replace(recipe.market, source=options.source))
    options.run = options.run or Path("runs") / recipe.name
    _go(recipe.name, recipe, options)


def _go(name: str, recipe: Any, options: argparse.Namespace) -> None:
    from onesearch.pipeline.run import run_recipe

    report = run_recipe(recipe, RunFolder(options.run), resume=options.resume)
    print(f"\n{name}: {options.run}\n\n{report.to_table()}")


def _print_oracle(run: RunFolder) -> None:
    oracle = read_json(run.market / "market.json").get("oracle", {}).get("purchase", {}).get("HR@10")
    measured = read_json(run.evaluation / "metrics.json")["retrievers"]["onesearch"]["targets"]["purchase"]["item"]["HR@10"][
        "value"
    ]
    if oracle:
        print(
            f"purchase HR@10 {measured:.3f}; the best any model could reach is {oracle:.3f}; share of it: {100 * measured / oracle:.0f} %"
        )


def _print_example(run: RunFolder) -> None:
    from onesearch.data.market import Market
    from onesearch.data.requests import build_requests
    from onesearch.serving.searcher import Searcher

    market = Market.load(run.market)
    request = next(request for request in reversed(build_requests(market, "test")) if request.history and request.purchased)
    titles = dict(zip(market.items.data.column("item_id").to_pylist(), market.items.data.column("title").to_pylist()))
    print(f'\nsearch: "{request.query}", after {len(request.history)} items, the last: {titles[request.history[-1]]}')
    searcher = Searcher.from_pretrained(run.checkpoint)
    for rank, hit in enumerate(searcher.search(request.query, request.history, top_k=5, context=request.context), start=1):
        bought = "  ← was bought" if hit.item_id in request.purchased else ""
        print(f"{rank}. {hit.score:6.2f}  {searcher.tokenizer.sid_string(hit.sid)}  {titles[hit.item_id]}{bought}")


# data


def _add_study(commands: Any) -> None:
    parser = _command(commands, "study", _study, "measure variants of a recipe, with several seeds and intervals")
    parser.add_argument("study", type=Path, help="a .yaml file; see onesearch/pipeline/study.py")
    parser.add_argument("--runs", type=Path, help="folder of the runs (default: runs/NAME); a stopped study goes on there")
    parser.add_argument("--source", help="where the base recipe's importer reads from")


def _study(options: argparse.Namespace) -> None:
    from onesearch.pipeline.study import load_study, run_study, to_table

    study = load_study(options.study)
    runs = options.runs or Path("runs") / study.name
    print(to_table(run_study(study, runs, options.source, progress=sys.stderr.isatty())))


def _add_data(commands: Any) -> None:
    parser = commands.add_parser("data", help="import, simulate and check market tables", description="Market tables.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=_StrictParser)
    check = _command(actions, "check", _check, "name every problem of a market folder; exit code 1 if there is one")
    check.add_argument("folder", type=Path)
    check.add_argument("--limit", type=_positive, default=20, help="rows shown per kind of problem (default: %(default)s)")
    simulate = _command(actions, "simulate", _simulate, "simulate a marketplace")
    simulate.add_argument("folder", type=Path, help="market folder to write")
    simulate.add_argument("--items", type=_positive, default=2000)
    simulate.add_argument("--users", type=_positive)
    simulate.add_argument("--sessions", type=_positive)
    simulate.add_argument("--seed", type=int, default=0)
    for name, source in (
        ("kuaisearch", "folder or Hub dataset id with the published files"),
        ("amazon", "folder with items.jsonl and sequences.jsonl"),
        ("chorus", "folder with products.jsonl.gz and the rated queries"),
        ("tables", "folder with items (and users, sessions, relevance) as .parquet, .jsonl or .csv"),
    ):
        importer = _command(actions, name, _import, f"import {name}: {source}")
        importer.add_argument("source", help=source)
        importer.add_argument("folder", type=Path, help="market folder to write")
        importer.add_argument(
            "--bad-rows", choices=("raise", "drop"), default="raise", help="what to do with rows that do not fit"
        )
        if name == "amazon":
            asked = "what sessions ask: the bought item's category path, or nothing (next-item protocol) (default: %(default)s)"
            importer.add_argument("--queries", choices=("category", "none"), default="category", help=asked)


def _check(options: argparse.Namespace) -> int:
    from onesearch.data.checking import check_market, report

    problems = check_market(options.folder)
    print(report(problems, options.limit))
    return FAILED if problems else 0


def _simulate(options: argparse.Namespace) -> None:
    from onesearch.simulator import SimulatorConfig, simulate

    config = SimulatorConfig(items=options.items, users=options.users, sessions=options.sessions, seed=options.seed)
    _print_market(simulate(config, options.folder), options.folder)


def _import(options: argparse.Namespace) -> None:
    from onesearch.pipeline.recipe import MarketConfig
    from onesearch.pipeline.run import make_market

    chosen = {name: getattr(options, name) for name in ("bad_rows", "queries") if hasattr(options, name)}
    plan = MarketConfig(options.action, options.source, chosen)
    _print_market(make_market(plan, options.folder), options.folder)


def _print_market(market: Any, folder: Path) -> None:
    counts = ", ".join(f"{len(getattr(market, name)):,} {name}" for name in ("items", "users", "sessions"))
    print(f"{folder}: {counts}, {len(market.relevance):,} judgements")
    for key in ("dropped", "oracle"):
        if market.info.get(key):
            print(f"{key}: {market.info[key]}")


# sids, train, evaluate, search, info


def _add_sids(commands: Any) -> None:
    parser = commands.add_parser("sids", help="embeddings, codebooks and Semantic IDs of a run", description="Semantic IDs.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", parser_class=_StrictParser)
    build = _command(actions, "build", _build_sids, "embed items and queries, train codebooks, encode the catalogue")
    _run_folder(build)
    build.add_argument("--encoder", help="a sentence-transformers model by name or folder (default: train a static one)")
    build.add_argument(
        "--residual-sizes", type=_widths, help="codes per residual level, for instance 256,128,64 (default: by catalogue size)"
    )
    build.add_argument("--opq", type=_opq, help="sub-codes x codes each, for instance 2x64; 0x0 for none")
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
    _add_align(actions)
    _add_inspect(actions)
    append = _command(actions, "append", _append_items, "encode new items with the frozen codebooks and make them searchable")
    append.add_argument("--run", type=Path, required=True, help="folder of the run")
    append.add_argument("items", type=Path, help="new items as parquet, in the columns of the items table")
    append.add_argument(
        "--known", choices=("raise", "skip"), default="raise", help="what to do with items that are published already"
    )


def _add_align(actions: Any) -> None:
    align = _command(
        actions, "align", _align, "train the text encoder on what users did in the training sessions; build follows"
    )
    _run_folder(align)
    align.add_argument("--recipe", help="recipe whose `encoder` and `alignment` parts are used (default: the defaults of both)")
    align.add_argument("--encoder", help="a sentence-transformers model by name or folder (default: the static encoder)")
    align.add_argument("--frozen", action="store_true", default=None, help="learn a linear projection after the encoder alone")
    align.add_argument("--dimension", type=_positive, help="of the projected vectors (default: the encoder's own)")
    align.add_argument("--min-cosine", type=float, help="pairs below it under the base encoder are dropped; -1 keeps all")
    align.add_argument("--epochs", type=_positive)
    align.add_argument("--batch-size", type=_positive, help="pairs of each kind per step")
    align.add_argument("--learning-rate", type=float)
    align.add_argument("--seed", type=int)


def _add_inspect(actions: Any) -> None:
    inspect = _command(actions, "inspect", _inspect_sid, "the codes of a query or an item, and what lies under each prefix")
    inspect.add_argument("text", help="an item's id or title, or a query")
    place = inspect.add_mutually_exclusive_group(required=True)
    place.add_argument("--run", type=Path, help="folder of the run")
    place.add_argument("--checkpoint", type=Path, help="checkpoint folder; outside of its run it knows item ids alone")
    inspect.add_argument("--as", dest="kind", choices=("auto", "item", "query"), default="auto", help="how to read the text")
    inspect.add_argument("--titles", type=_positive, default=3, help="typical titles per level (default: %(default)s)")


def _build_sids(options: argparse.Namespace) -> None:
    from onesearch.data.market import Market
    from onesearch.pipeline.recipe import Recipe
    from onesearch.pipeline.run import make_sids
    from onesearch.tokenization_sid.embedding.embeddings import aligned_from, embed_market
    from onesearch.tokenization_sid.embedding.text_encoder import TextEncoderConfig

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
        _print_values(read_json(run.sids / "diagnostics.json"))


def _codes(options: argparse.Namespace, items: int) -> Any:
    """Config of the quantizer that the flags name; what they leave open is as `suggest_codebook_sizes` has it."""
    from dataclasses import fields

    from onesearch.tokenization_sid.quantizers.loading import QUANTIZERS
    from onesearch.tokenization_sid.quantizers.rq_opq import suggest_codebook_sizes

    suggested, kind = suggest_codebook_sizes(items), options.quantizer
    if kind not in QUANTIZERS:
        raise ValueError(f"--quantizer {kind} is unknown; allowed are {', '.join(QUANTIZERS)}")
    config = QUANTIZERS[kind].config_class
    if options.opq and "opq" not in {part.name for part in fields(config)}:
        raise ValueError(f"--opq: {kind} has no product codes; leave the flag out")
    opq = options.opq or (suggested.opq if kind == suggested.quantizer else None)
    return config(options.residual_sizes or suggested.residual_sizes, seed=options.seed, **_given(opq=opq))


def _accelerator() -> Any:
    """The processes of torchrun, None if there is one alone. They wait for each other as long as codebooks may take to train."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return None
    from datetime import timedelta

    from accelerate import Accelerator, InitProcessGroupKwargs

    return Accelerator(kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(days=1))])


def _align(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from onesearch.pipeline.recipe import load_recipe
    from onesearch.tokenization_sid.embedding.alignment import AlignmentConfig, align_run
    from onesearch.tokenization_sid.embedding.alignment_measures import table
    from onesearch.tokenization_sid.embedding.text_encoder import TextEncoderConfig

    recipe = None if options.recipe is None else load_recipe(options.recipe)
    config = (recipe and recipe.alignment) or AlignmentConfig()
    encoder = recipe.encoder if recipe else TextEncoderConfig()
    encoder = replace(encoder, **_given(model=options.encoder, seed=options.seed))
    mining = replace(config.mining, **_given(min_cosine=options.min_cosine))
    names = ("frozen", "dimension", "epochs", "batch_size", "learning_rate", "seed")
    config = replace(config, mining=mining, **_given(**{name: getattr(options, name) for name in names}))
    report = align_run(RunFolder(options.run), encoder, config)
    for kind, counts in report["examples"].items():
        print(f"{kind}: {counts['kept']:,} of {counts['mined']:,} mined examples kept")
    print(table(report["before"], report["after"]))


def _given(**flags: Any) -> dict[str, Any]:
    """The flags that were given."""
    return {name: value for name, value in flags.items() if value is not None}


def _print_values(values: dict[str, Any], within: str = "") -> None:
    """One line per value, floats short; what lies deeper has its path before it."""
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


def _inspect_sid(options: argparse.Namespace) -> None:
    from onesearch.tokenization_sid.sids.inspection import inspect
    from onesearch.tokenization_sid.tokenization_sid import sid_token

    found = inspect(_catalogue(options), options.text, options.kind, options.titles)
    name = f'item {found.item_id} "{found.text}"' if found.kind == "item" else f'query "{found.text}"'
    print(name + (f", {found.same_title} more with this title" if found.same_title else ""))
    if found.kind == "query":
        print(f"keywords: {', '.join(found.keywords) or 'none'}")
    for branch in found.branches:
        token = "  " * branch.level + sid_token(branch.level, branch.code)
        category = f"{branch.category} ({branch.share:.0%})" if branch.category else "no category"
        print(f"{token}\t{branch.items:,} items\t{category}\t{' | '.join(branch.titles)}")


def _catalogue(options: argparse.Namespace) -> Any:
    """Items of a run; of a checkpoint's run if it lies in one, else of the checkpoint's own index."""
    from onesearch.tokenization_sid.sids.inspection import Catalogue

    if options.run is not None:
        return Catalogue.of_run(RunFolder(options.run))
    from onesearch.modeling_onesearch.index_onesearch import SID_INDEX_NAME, SidIndex
    from onesearch.tokenization_sid.sids.code_files import load_codes

    checkpoint = _checkpoint(options.checkpoint)
    index = SidIndex.load(checkpoint / SID_INDEX_NAME)
    run = RunFolder(checkpoint.resolve().parent)
    if not run.sids.is_dir():
        return Catalogue.of_index(index.item_ids, index.codes)
    if load_codes(run, "items").fingerprint != index.fingerprint:
        raise ValueError(
            f"{checkpoint} was trained on other codebooks than {run.sids} holds; train again, or inspect with --run"
        )
    return Catalogue.of_run(run)


def _append_items(options: argparse.Namespace) -> None:
    from onesearch.pipeline.run import append_to_run

    _print_values(append_to_run(RunFolder(options.run), options.items, options.known).to_dict())


def _add_train(commands: Any) -> None:
    parser = _command(commands, "train", _train, "train on a run's market and SIDs; works under torchrun as it is")
    _run_folder(parser)
    parser.add_argument("--recipe", default="default", help="recipe whose `training` part is used (default: %(default)s)")
    parser.add_argument("--epochs", type=float, help="instead of the recipe's")
    parser.add_argument("--batch-size", type=_positive, help="per process, instead of the recipe's")
    parser.add_argument("--learning-rate", type=float, help="instead of the recipe's")
    parser.add_argument("--report-to", help="a tracker that transformers knows")
    parser.add_argument("--resume", action="store_true", help="go on from the last saved state")


def _train(options: argparse.Namespace) -> None:
    from dataclasses import replace

    from onesearch.pipeline.recipe import load_recipe
    from onesearch.trainers.training import train_run

    plan = load_recipe(options.recipe).training
    given = {
        "num_train_epochs": options.epochs,
        "per_device_train_batch_size": options.batch_size,
        "learning_rate": options.learning_rate,
        "report_to": options.report_to,
    }
    plan = replace(plan, arguments={**plan.arguments, **{key: value for key, value in given.items() if value is not None}})
    train_run(RunFolder(options.run), plan, resume=options.resume)


def _add_evaluate(commands: Any) -> None:
    parser = _command(commands, "evaluate", _evaluate, "measure a run's checkpoint beside the baselines")
    _run_folder(parser)
    parser.add_argument("--split", choices=("validation", "test"), default="test")
    parser.add_argument("--sample", type=_positive, help="so many requests, drawn with seed 0 (default: all)")
    parser.add_argument("--beams", type=_positive, default=50, help="beams of the search (default: %(default)s)")
    parser.add_argument("--exclude-history", action="store_true", help="never find an item of the user's own history")
    parser.add_argument(
        "--rank-by", choices=("sid", "item"), default="sid", help="probability of the SID, or of the item in it"
    )
    parser.add_argument("--no-baselines", action="store_true", help="the checkpoint alone")


def _evaluate(options: argparse.Namespace) -> None:
    from onesearch.pipeline.recipe import EvaluationConfig
    from onesearch.pipeline.run import evaluate_run

    plan = EvaluationConfig(
        split=options.split,
        sample=options.sample,
        num_beams=options.beams,
        exclude_history=options.exclude_history,
        rank_by=options.rank_by,
    )
    print(evaluate_run(RunFolder(options.run), plan, baselines=not options.no_baselines).to_table())


def _add_search(commands: Any) -> None:
    parser = _command(commands, "search", _search, "search with a checkpoint")
    parser.add_argument("checkpoint", type=Path, help="checkpoint folder, or a run that has one")
    parser.add_argument("query")
    parser.add_argument("--history", nargs="*", default=[], metavar="ITEM", help="item ids, oldest first")
    parser.add_argument(
        "--purchased", nargs="*", default=[], metavar="ITEM", help="those of them (and older ones) that were bought"
    )
    parser.add_argument("--queries", nargs="*", default=[], metavar="TEXT", help="earlier queries, oldest first")
    parser.add_argument("--profile", nargs="*", default=[], metavar="WORD", help="for instance: female 25-34")
    parser.add_argument("--top-k", type=_positive, default=10)
    parser.add_argument("--beams", type=_positive, default=50)
    parser.add_argument("--category", nargs="+", metavar="NAME", help="only items with one of these on their category path")
    parser.add_argument("--exclude", nargs="+", metavar="ITEM", help="items that must not be found")
    parser.add_argument("--items-per-sid", type=_positive, default=5, help="items shown of one SID (default: %(default)s)")
    parser.add_argument("--explain", action="store_true", help="show the probability of each code")


def _search(options: argparse.Namespace) -> None:
    from onesearch.data.requests import UserContext
    from onesearch.serving.searcher import Searcher

    searcher = Searcher.from_pretrained(_checkpoint(options.checkpoint))
    history = options.history
    context = UserContext(options.queries, history, options.purchased, profile=tuple(options.profile))
    hits = searcher.search(
        options.query,
        history,
        options.top_k,
        options.beams,
        context=context,
        exclude=options.exclude,
        categories=options.category,
        items_per_sid=options.items_per_sid,
        explain=options.explain,
    )
    for rank, hit in enumerate(hits, start=1):
        parts = "".join(f"\t{math.exp(part):.3f}" for part in hit.level_scores or ())
        print(f"{rank}\t{hit.item_id}\t{searcher.tokenizer.sid_string(hit.sid)}\t{hit.score:.4f}{parts}")


def _add_items(commands: Any) -> None:
    parser = commands.add_parser("items", help="add items to a checkpoint's catalogue, or take some out, without training")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    add = _command(actions, "add", _items_add, "add encoded items; a SID that is published never moves")
    add.add_argument("checkpoint", type=Path, help="checkpoint folder, or a run that has one")
    add.add_argument("table", type=Path, help="parquet: item_id, codes, optionally popularity and categories")
    remove = _command(actions, "remove", _items_remove, "take items out")
    remove.add_argument("checkpoint", type=Path, help="checkpoint folder, or a run that has one")
    remove.add_argument("items", nargs="+", metavar="ITEM")


def _items_add(options: argparse.Namespace) -> None:
    from onesearch.serving.catalogue import add_from_table

    print(f"{add_from_table(_checkpoint(options.checkpoint), options.table):,} items in the catalogue now")


def _items_remove(options: argparse.Namespace) -> None:
    from onesearch.serving.catalogue import remove

    print(f"{remove(_checkpoint(options.checkpoint), options.items):,} items in the catalogue now")


def _add_info(commands: Any) -> None:
    parser = _command(commands, "info", _info, "what a run folder or checkpoint holds, and which versions are installed")
    parser.add_argument("folder", type=Path, nargs="?", help="run folder or checkpoint")


def _info(options: argparse.Namespace) -> None:
    from importlib.metadata import version

    names = ("onesearch", "torch", "transformers", "trl", "datasets", "tokenizers", "faiss-cpu")
    print("\n".join(f"{name} {version(name)}" for name in names))
    if options.folder is None:
        return
    from onesearch.modeling_onesearch.index_onesearch import SID_INDEX_NAME, SidIndex

    checkpoint = _checkpoint(options.folder)
    index = SidIndex.load(checkpoint / SID_INDEX_NAME)
    config = read_json(checkpoint / "config.json")
    print(
        f"\n{checkpoint}: {config['model_type']}, {len(index):,} items, {len(index.trie):,} SIDs of codebook sizes {index.codebook_sizes}"
    )
    layers = f"{config['encoder_layers']} + {config['decoder_layers']}" if "d_model" in config else config["num_hidden_layers"]
    width = config["d_model"] if "d_model" in config else config["hidden_size"]
    print(f"width {width}, {layers} layers, codebooks {index.fingerprint[:12]}…")


def _checkpoint(folder: Path) -> Path:
    run = RunFolder(folder)
    if run.checkpoint.is_dir():
        return run.checkpoint
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder} holds no checkpoint (no config.json); train one with `onesearch train` or `onesearch run`"
        )
    return folder


if __name__ == "__main__":
    sys.exit(main())
