"""From one's own files to the evaluation: what `data check` passes is trained on and measured."""

from __future__ import annotations

import csv
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

import onesearch.cli as cli
from onesearch import RunFolder
from onesearch.data.checking import check_market
from onesearch.data.importers.tables import import_tables
from onesearch.data.market import Market
from onesearch.data.requests import build_requests
from onesearch.pipeline.evaluation import evaluate_run
from onesearch.pipeline.recipe import MarketConfig
from onesearch.pipeline.run import run_recipe

KINDS, COLOURS = ("shoe", "coat", "lamp", "chair", "kettle", "tent"), ("red", "blue", "green", "black", "white")


def write_csv(path: Path, header: list[str], rows: list[list]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def source(tmp_path) -> Path:
    """Items, users and judgements with the grades 0 and 1 as CSV, sessions as JSON lines; nothing says which language they are in."""
    draw = random.Random(0)
    folder = tmp_path / "files"
    folder.mkdir()
    names = [(draw.choice(COLOURS), draw.choice(KINDS)) for _ in range(300)]
    titles = [f"{colour} {kind} {number}" for number, (colour, kind) in enumerate(names)]
    items = [[number, title, f"Home|{names[number][1]}", number / 2] for number, title in enumerate(titles)]
    write_csv(folder / "items.csv", ["item_id", "title", "categories", "price"], items)
    write_csv(folder / "users.csv", ["user_id"], [[f"u{number}"] for number in range(40)])
    judged = [[f"{colour} {kind}", number, number % 2] for number, (colour, kind) in enumerate(names[:20])]
    write_csv(folder / "relevance.csv", ["query", "item_id", "grade"], judged)
    with (folder / "sessions.jsonl").open("w") as file:
        for time in range(400):
            bought = draw.randrange(300)
            session = {"session_id": f"s{time}", "user_id": f"u{time % 40}", "time": time, "query": " ".join(names[bought])}
            file.write(json.dumps({**session, "clicked": [bought], "purchased": [bought]}) + "\n")
    return folder


def test_own_files_reach_the_evaluation(source, tmp_path, caplog, recipe):
    market = tmp_path / "market"
    assert cli.main(["data", "tables", str(source), str(market)]) == 0
    assert cli.main(["data", "check", str(market)]) == 0
    assert Market.load(market).info["language"] == "en"
    recipe = replace(recipe, market=MarketConfig("tables", str(source)), evaluation=replace(recipe.evaluation, sample=None))
    run = RunFolder(tmp_path / "run")
    report = run_recipe(recipe, run, progress=False)
    assert (
        set(report.retrievers) >= {"onesearch", "bm25", "dense", "popularity", "transitions", "cascade_linear"}
        and report.requests == 40
    )
    assert report.value("bm25", "HR@10") > 0.3 and report.relevance is None
    assert "judged queries are left out: none of its 20 judgements has a grade of at least 2, the highest is 1" in caplog.text
    config = replace(recipe.evaluation, relevant_grade=1)
    again = evaluate_run(run, config, name="judged", baselines=False, progress=False)
    assert again.relevance is not None and again.relevance["recall_grade"] == 1 and again.relevance["queries"] > 3


def test_few_sessions_without_a_validation_split_are_enough(source, tmp_path, caplog, recipe):
    lines = (source / "sessions.jsonl").read_text().splitlines(keepends=True)
    (source / "sessions.jsonl").write_text("".join(lines[:12]))
    assert not build_requests(import_tables(source), "validation")
    recipe = replace(
        recipe, market=MarketConfig("tables", str(source)), evaluation=replace(recipe.evaluation, relevant_grade=1)
    )
    report = run_recipe(recipe, RunFolder(tmp_path / "run"), progress=False)
    assert check_market(tmp_path / "run" / "market") == [] and report.requests == 2 and report.relevance is not None
    assert "no validation example, so that training is not measured" in caplog.text


def test_a_market_that_cannot_be_measured_is_found_before_training(run, capsys):
    """The split is lost: no session is in the test split."""
    info = json.loads((run.market / "market.json").read_text())
    del info["split"]
    (run.market / "market.json").write_text(json.dumps(info))
    (problem,) = check_market(run.market)
    assert problem.kind == "split" and "no session would be measured" in problem.message
    market = Market.load(run.market)
    empty = market.relevance.select([]).flatten_indices()
    Market(market.items, market.users, market.sessions, empty, info).save(run.market, overwrite=True)
    assert cli.main(["evaluate", str(run.root), "--no-baselines", "--name", "other"]) == 2
    assert "nothing to measure: the test split has no request" in capsys.readouterr().err


def test_a_market_whose_language_is_null_is_measured(run, recipe):
    info = json.loads((run.market / "market.json").read_text())
    (run.market / "market.json").write_text(json.dumps({**info, "language": None}))
    assert check_market(run.market) == []
    config = replace(recipe.evaluation, sample=5)
    assert "bm25" in evaluate_run(run, config, name="null", progress=False).retrievers
