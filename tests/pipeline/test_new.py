"""`onesearch new`: from the files of a shop to a search."""

from __future__ import annotations

import json

import pytest
from safetensors.numpy import load_file
from shops.files import write_shop
from shops.grid import TINY
from shops.shop import make_products

from onesearch import cli, new_run
from onesearch.data.market import Market
from onesearch.files import RunFolder, read_json
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.pipeline import auto_recipe, auto_training
from onesearch.pipeline.closing import example_request, hit_lines
from onesearch.pipeline.new import run_name
from onesearch.pipeline.recipe import load_recipe
from onesearch.pipeline.run import check_recipe


@pytest.fixture(autouse=True)
def seconds(monkeypatch):
    """Few passes, so that a run takes seconds."""
    monkeypatch.setattr(auto_training, "MOST_PASSES", 800)
    monkeypatch.setattr(auto_recipe, "REWARD_STEPS", 2)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_shop(TINY, tmp_path_factory.mktemp("export"))


def run_files(folder):
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_shop_is_searched_with_one_command(files, tmp_path, capsys):
    """The whole road: what was understood, what was chosen and why, figures, places, next commands, and a search with titles."""
    run = RunFolder(tmp_path / "shop")
    command = ["new", str(files.products), "--log", str(files.log), "--run", str(run.root)]
    assert cli.main(command) == 0
    out = capsys.readouterr().out
    assert "* targets: " in out and "* codes: " in out and "* order: " in out
    assert (
        "(served)" in out
        and "\nbm25 " in out
        and str(run.checkpoint / "README.md") in out
        and f"onesearch search {run.root}" in out
    )
    market = Market.load(run.market)
    assert len(market.items) == TINY.items, "the row without a title and the repeated one are left out"
    titles = set(market.items["title"])
    hits = [line for line in out.splitlines() if line[:4].strip().rstrip(".").isdigit() and line[2:3] == "."]
    assert len(hits) == 5 and all(any(title in line for title in titles) for line in hits)

    recipe = load_recipe(run.root / "recipe.yaml")
    assert recipe.codes is not None and recipe.market.importer == "export" and recipe.market.source == str(files.products)
    check_recipe(recipe, RunFolder(tmp_path / "again"))
    served = SearchConfig.from_pretrained(run.checkpoint)
    assert (served.rerank, served.candidates) == (recipe.search.rerank, recipe.search.candidates)
    decisions = json.loads((run.root / "auto.json").read_text())
    assert decisions["search"]["search"]["rerank"] == served.rerank and decisions["reasons"]

    before = run_files(run.root)
    assert cli.main(command) == 2
    assert "--resume continues it, --overwrite makes it anew" in capsys.readouterr().err
    assert run_files(run.root) == before
    assert cli.main([*command, "--resume"]) == 0
    assert (run.checkpoint / "model.safetensors").stat().st_mtime_ns == before["checkpoint/model.safetensors"]
    assert "search: " in capsys.readouterr().out


@pytest.mark.slow
def test_the_chosen_recipe_makes_the_same_run(files, tmp_path):
    """`onesearch run` accepts the file, and gives the same weights, codes and served order."""
    first, again = RunFolder(tmp_path / "first"), RunFolder(tmp_path / "again")
    new_run(files.products, first, files.log, progress=False, say=lambda text: None)
    assert cli.main(["run", "--recipe", str(first.root / "recipe.yaml"), "--run", str(again.root)]) == 0
    assert SearchConfig.from_pretrained(again.checkpoint) == SearchConfig.from_pretrained(first.checkpoint)
    weights, others = (load_file(run.checkpoint / "model.safetensors") for run in (first, again))
    assert weights.keys() == others.keys() and all((weights[name] == others[name]).all() for name in weights)
    index, other = (load_file(run.checkpoint / "sid_index.safetensors") for run in (first, again))
    assert all((index[name] == other[name]).all() for name in index)


def test_items_only_train_and_are_found(files, tmp_path, capsys):
    run = RunFolder(tmp_path / "items")
    said = []
    assert new_run(files.products, run.root, progress=False, say=said.append) is None
    text = "\n".join(said)
    assert "learns from the catalogue alone" in text and "text vectors: " in text and "next:" in text
    assert "Nothing was measured" in (run.checkpoint / "README.md").read_text()
    capsys.readouterr()
    assert cli.main(["search", str(run.root), "tent", "--top-k", "3"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_run_that_was_stopped_is_continued(files, tmp_path, monkeypatch, capsys):
    """Ctrl-C says how; the market is not read again, and what was chosen stays. Judged queries measure a catalogue without a log."""
    from onesearch.pipeline import new

    run = RunFolder(tmp_path / "stopped")
    judged = [
        f"{product.noun},{product.item_id},{3 if number % 2 else 0}" for number, product in enumerate(make_products(TINY))
    ]
    (tmp_path / "judged.csv").write_text("\n".join(["query,item,grade", "tent,not there,3", *judged]))
    command = ["new", str(files.products), "--log", str(tmp_path / "judged.csv"), "--run", str(run.root)]

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(new, "choose_codes", stop)
        assert cli.main(command) == 130
    assert f"the same command and --resume (the run is in {run.root})" in capsys.readouterr().err
    market = (run.market / "items.parquet").stat().st_mtime_ns
    assert cli.main([*command, "--resume"]) == 0
    report = read_json(run.evaluation / "metrics.json")["relevance"]
    assert report["queries"] > 1 and {"onesearch", "onesearch_text_dense", "bm25"} & set(report["retrievers"])
    assert report["retrievers"]["bm25"]["NDCG@10"]["value"] > 0.5
    assert (run.market / "items.parquet").stat().st_mtime_ns == market and run.checkpoint.is_dir()


def test_what_is_refused_changes_nothing(files, tmp_path, capsys):
    other = tmp_path / "letters"
    other.mkdir()
    (other / "letter.txt").write_text("mine")
    assert cli.main(["new", str(files.products), "--run", str(other), "--overwrite"]) == 2
    assert "holds no run" in capsys.readouterr().err and (other / "letter.txt").read_text() == "mine"
    assert cli.main(["new", str(tmp_path / "nowhere.csv"), "--run", str(tmp_path / "run")]) == 2
    assert "nowhere.csv" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize("columns", ["id", "id=", "=sku", "id=a,id=b"])
def test_columns_are_pairs(columns, capsys):
    with pytest.raises(SystemExit):
        cli.main(["new", "products.csv", "--columns", columns])
    assert ("given twice" if columns == "id=a,id=b" else "NAME=COLUMN, such as") in capsys.readouterr().err


def test_the_name_of_a_run_is_that_of_a_folder():
    assert run_name("my shop!") == "my-shop" and run_name("...") == "shop"


def test_the_example_is_what_people_ask_for(market):
    request = example_request(market)
    assert request.history and request.clicked + request.purchased
    titles = Market.from_rows(items=[{"item_id": "a", "title": "red running shoe with laces"}])
    assert example_request(titles).query == "red running shoe"
    branded = Market.from_rows(items=[{"item_id": "a", "title": "x", "brand": "Mo", "categories": ["Clothes", "Shoe"]}])
    assert example_request(branded).query == "Mo Shoe"


def test_hits_are_lines_for_people():
    from onesearch import Hit

    hits = [Hit("a", (0,), -1.0, title="red dress", brand="Mo", price=1234.5), Hit("b", (0,), -2.0)]
    assert list(hit_lines(hits, {"b": "was bought"})) == [" 1. red dress, Mo, 1,234.50", " 2. b  ← was bought"]
