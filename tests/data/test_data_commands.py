"""`onesearch data`: nothing but an older market is ever replaced, and that only on request."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from importer_files import write_jsonl

import onesearch.cli as cli
from onesearch.data.market import MARKET_FOLDER, Market
from onesearch.files import check_target
from onesearch.simulator import SimulatorConfig, simulate

ITEMS = [{"item_id": "a", "title": "red dress"}]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(capsys, *arguments) -> str:
    assert cli.main([str(argument) for argument in arguments]) == 2
    return capsys.readouterr().err


@pytest.fixture
def source(tmp_path) -> Path:
    write_jsonl(tmp_path / "mine" / "items.jsonl", ITEMS)
    return tmp_path / "mine"


@pytest.fixture
def run_folder(tmp_path) -> Path:
    """A run with a market and a checkpoint."""
    folder = tmp_path / "runs" / "mine"
    Market.from_rows(items=ITEMS).save(folder / "market")
    (folder / "checkpoint").mkdir()
    (folder / "checkpoint" / "model.safetensors").write_bytes(b"weights")
    (folder / "recipe.yaml").write_text("name: mine\n")
    return folder


def test_a_target_that_is_the_source_is_refused(source, tmp_path, capsys):
    before = contents(tmp_path)
    (tmp_path / "link").symlink_to(source)
    for target in (source, source / "market", tmp_path, tmp_path / "link", source / ".." / "mine"):
        for flags in ([], ["--overwrite"]):
            words = "is, holds or lies inside the source|holds the current folder"
            assert any(word in refused(capsys, "data", "tables", source, target, *flags) for word in words.split("|"))
    assert contents(tmp_path).keys() >= before.keys() and not (source / "market").exists()


def test_a_market_folder_as_source_and_target_is_refused(run_folder, capsys):
    before = contents(run_folder)
    market = run_folder / "market"
    assert "source" in refused(capsys, "data", "tables", market, market, "--overwrite")
    assert contents(run_folder) == before


@pytest.mark.parametrize("command", ["simulate", "tables"])
@pytest.mark.parametrize("flags", [[], ["--overwrite"]])
def test_a_run_is_never_replaced(source, run_folder, command, flags, capsys):
    before = contents(run_folder)
    given = {"simulate": [run_folder, "--items", "60", "--sessions", "200"], "tables": [source, run_folder]}[command]
    assert "is not only a market folder (it holds checkpoint, market, recipe.yaml)" in refused(
        capsys, "data", command, *given, *flags
    )
    assert contents(run_folder) == before


def test_every_writer_of_a_market_refuses(run_folder, tmp_path):
    before = contents(run_folder)
    config = SimulatorConfig(items=60, sessions=200, oracle_requests=0)
    for overwrite in (False, True):
        with pytest.raises(FileExistsError, match="not only a market folder"):
            Market.from_rows(items=ITEMS).save(run_folder, overwrite=overwrite)
        with pytest.raises(FileExistsError, match="not only a market folder"):
            simulate(config, run_folder, overwrite=overwrite)
        with pytest.raises(FileExistsError, match="is a file"):
            Market.from_rows(items=ITEMS).save(run_folder / "recipe.yaml", overwrite=overwrite)
    with pytest.raises(FileExistsError, match="overwrite"):
        simulate(config, run_folder / "market")
    assert contents(run_folder) == before


def test_a_market_with_a_file_of_the_user_is_not_replaced(tmp_path):
    folder = Market.from_rows(items=ITEMS).save(tmp_path / "market")
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="it holds notes.txt"):
        Market.from_rows(items=ITEMS).save(folder, overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine" and len(Market.load(folder).items) == 1


def test_a_market_is_replaced_on_request(source, tmp_path, capsys):
    market = tmp_path / "market"
    assert cli.main(["data", "tables", str(source), str(market)]) == 0
    write_jsonl(source / "items.jsonl", [*ITEMS, {"item_id": "b", "title": "blue hat"}])
    assert "--overwrite" in refused(capsys, "data", "tables", source, market)
    assert len(Market.load(market).items) == 1
    assert cli.main(["data", "tables", str(source), str(market), "--overwrite"]) == 0
    assert len(Market.load(market).items) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["market", "mine"]


def test_an_empty_folder_is_free_and_the_current_one_is_not(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    check_target(tmp_path / "empty", MARKET_FOLDER)
    monkeypatch.chdir(tmp_path / "empty")
    for target in (".", os.pardir):
        with pytest.raises(ValueError, match="holds the current folder"):
            check_target(target, MARKET_FOLDER)


def test_what_was_dropped_is_printed(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "items.csv").write_text('item_id,title,price\n1,red dress,"3,980円"\n2,,5\n')
    assert "price must be a number" in refused(capsys, "data", "tables", tmp_path / "mine", tmp_path / "market")
    assert not (tmp_path / "market").exists()
    assert cli.main(["data", "tables", str(tmp_path / "mine"), str(tmp_path / "market"), "--bad-rows", "drop"]) == 0
    out = capsys.readouterr().out
    assert "1 items" in out and "dropped: 1 × items.csv: price must be a number (drop leaves out the value" in out
    assert Market.load(tmp_path / "market").items[:]["item_id"] == ["1"]


def test_name_language_split_and_format_reach_the_market(source, tmp_path, capsys):
    (source / "items.csv").write_text("item_id,title\n1,hat\n2,coat\n")
    assert "--format" in refused(capsys, "data", "tables", source, tmp_path / "market")
    flags = ["--name", "shop", "--language", "zh", "--split", "leave_last_out", "--format", "csv"]
    assert cli.main(["data", "tables", str(source), str(tmp_path / "market"), *flags]) == 0
    market = Market.load(tmp_path / "market")
    assert len(market.items) == 2 and market.info["name"] == "shop" and market.info["language"] == "zh"
    assert market.info["split"] == {"method": "leave_last_out"}
