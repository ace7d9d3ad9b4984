"""The command line, in this process: strict before any work, one line for what it refuses, exit codes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, replace

import pytest
from safetensors.numpy import load_file

import onesearch
import onesearch.cli as cli
from onesearch.data.arrow_tables import as_dataset, table_from_rows
from onesearch.data.market import Market
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.pipeline.recipe import save_recipe
from onesearch.tokenization_sid.sids.appending import appended_codes
from onesearch.tokenization_sid.sids.code_files import load_codes


def refused(capsys, *arguments) -> str:
    """The one line that a refused command leaves on stderr."""
    assert cli.main([str(argument) for argument in arguments]) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("onesearch: ") and "Traceback" not in captured.err, captured.err
    return lines[0]


# Strict before any work


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo", "--runs", "x"],
        ["demo", "--res"],  # abbreviated
        ["run", "--recipe", "demo", "--run", "x", "--learning-rate", "1"],
        ["run", "--rec", "demo", "--run", "x"],
        ["run"],
        ["train", "x", "--epoch", "1"],
        ["train", "x", "--batch-size", "0"],
        ["train", "x", "--learning-rate", "fast"],
        ["train", "x", "--epochs", "-1"],
        ["train", "x", "--epochs", "nan"],
        ["train", "x", "--run", "y"],
        ["train", "--run"],
        ["data", "simulate", "x", "--item", "60"],
        ["data", "simulate", "x", "--items", "-1"],
        ["data", "amazon", "only-one"],
        ["data", "amazon", "a", "b", "--bad-rows", "ignore"],
        ["data", "ebay", "a", "b"],
        ["data"],
        ["sids", "build", "x", "--residual-sizes", "8,x"],
        ["sids", "build", "x", "--residual-sizes", "8,0"],
        ["sids", "build", "x", "--opq", "2y4"],
        ["sids", "build", "x", "--opq", "a"],
        ["sids", "build", "x", "--core", "0"],
        ["sids", "build", "x", "--fusion", "maybe"],
        ["sids", "inspect", "shoe"],
        ["sids", "inspect", "--run", "x"],
        ["sids", "inspect", "shoe", "--run", "x", "--checkpoint", "y"],
        ["sids", "inspect", "shoe", "--run", "x", "--as", "user"],
        ["sids", "append", "items.parquet"],
        ["sids", "append", "--run", "x"],
        ["sids", "append", "--run", "x", "items.parquet", "--known", "move"],
        ["evaluate", "x", "--split", "train"],
        ["evaluate", "x", "--sample", "1.5"],
        ["evaluate", "x", "--sample", "0"],
        ["evaluate", "x", "--rank-by", "share"],
        ["search", "x", "query", "--beams", "0"],
        ["search", "x", "query", "--rank-by", "popularity"],
        ["items", "remove", "x"],
        ["search", "x"],
        ["search", "x", "query", "--top-k", "0"],
        ["info", "--al"],
        ["fly"],
        ["--verbos", "info"],
        [],
    ],
    ids=" ".join,
)
def test_what_is_not_understood_fails_before_any_work(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert "usage: onesearch" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"onesearch {onesearch.__version__}\n"


def test_every_command_takes_the_run_as_a_flag():
    """Beside the first argument, at any place and in both spellings."""
    parser = cli.build_parser()
    for command in (["train"], ["evaluate"], ["reward"], ["sids", "build"], ["sids", "align"], ["sids", "levels"]):
        for flags in (["--run", "x"], ["--run=x"]):
            assert str(parser.parse_args([*command, *flags]).run) == "x" == str(parser.parse_args([*command, "x"]).run)
    assert (
        str(parser.parse_args(["info", "--run", "x"]).folder)
        == "x"
        == str(parser.parse_args(["data", "check", "--run", "x"]).folder)
    )
    found = parser.parse_args(["search", "--beams", "3", "red shoe", "--run", "x"])
    assert (str(found.checkpoint), found.query, found.beams) == ("x", "red shoe", 3)


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(f"    {name} " in text for name in ("demo", "run", "data", "sids", "train", "evaluate", "search", "info"))


IMPORTS = """
import contextlib, sys
from onesearch import cli
with contextlib.suppress(SystemExit):
    cli.main(sys.argv[1:])
heavy = {"torch", "transformers", "trl", "sentence_transformers"} & set(sys.modules)
assert not heavy, heavy
"""


def test_help_and_tables_import_neither_torch_nor_transformers(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "items.jsonl").write_text('{"item_id": "1", "title": "red shoe"}\n')
    tables, market = str(tmp_path / "mine"), str(tmp_path / "market")
    for command in (["--help"], ["evaluate", "--help"], ["data", "tables", tables, market], ["data", "check", market]):
        subprocess.run([sys.executable, "-c", IMPORTS, *command], check=True, capture_output=True)
    assert len(Market.load(market).items) == 1


# Tables


def test_simulate_then_check(tmp_path, capsys):
    folder = tmp_path / "market"
    assert cli.main(["data", "simulate", str(folder), "--items", "60", "--sessions", "200", "--seed", "1"]) == 0
    assert "60 items" in capsys.readouterr().out
    assert cli.main(["data", "check", str(folder)]) == 0
    assert capsys.readouterr().out == "no problems\n"


def test_check_names_problems_and_fails(tmp_path, capsys):
    empty = Market.from_rows(items=[], info={"split": {"method": "none"}})
    items = table_from_rows("items", [{"item_id": "a", "title": "x"}, {"item_id": "a", "title": " "}])
    replace(empty, items=as_dataset(items)).save(tmp_path / "market")
    assert cli.main(["data", "check", str(tmp_path / "market")]) == 1
    out = capsys.readouterr().out
    assert "duplicate_id" in out and "empty_title" in out and "row 1" in out
    assert "is not a folder" in refused(capsys, "data", "check", tmp_path / "nowhere")


def test_own_tables_are_imported(tmp_path, capsys):
    source = tmp_path / "mine"
    source.mkdir()
    (source / "items.jsonl").write_text('{"item_id": "1", "title": "red shoe"}\n{"item_id": "2", "title": "coat"}\n')
    assert cli.main(["data", "tables", str(source), str(tmp_path / "market")]) == 0
    assert "2 items" in capsys.readouterr().out
    assert len(Market.load(tmp_path / "market").items) == 2
    assert "nowhere" in refused(capsys, "data", "tables", tmp_path / "nowhere", tmp_path / "other")
    assert not (tmp_path / "other").exists()


# Stages


def test_each_stage_names_the_one_that_is_missing(tmp_path, capsys):
    (tmp_path / "run").mkdir()
    for arguments, words in (
        (["sids", "build"], "onesearch data"),
        (["train"], "onesearch data"),
        (["evaluate"], "onesearch data"),
        (["info"], "no config.json"),
    ):
        assert words in refused(capsys, *arguments, tmp_path / "run")
    assert "no config.json" in refused(capsys, "search", tmp_path / "run", "shoe")


def test_sids_are_built_with_own_widths(run, capsys):
    assert cli.main(["sids", "build", str(run.root), "--residual-sizes", "8,4", "--opq", "0x0", "--no-keywords"]) == 0
    assert "codebook_sizes: [8, 4]" in capsys.readouterr().out
    assert "distinct vectors" in refused(capsys, "sids", "build", run.root, "--residual-sizes", "5000")
    for flags in (["--core", "3"], ["--fusion", "always"]):
        assert f"{flags[0]}: without keywords" in refused(capsys, "sids", "build", run.root, "--no-keywords", *flags)


def test_sids_of_a_query_and_of_an_item_are_inspected(shared_run, market, capsys):
    item = market.items[5]
    for place in (["--run", str(shared_run.root)], ["--checkpoint", str(shared_run.checkpoint)]):
        assert cli.main(["sids", "inspect", item["item_id"], *place]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == f'item {item["item_id"]} "{item["title"]}"' and len(lines) == 6
        assert lines[1].startswith("<a_") and lines[5].strip().startswith("<e_") and " > ".join(item["categories"]) in lines[5]
    assert cli.main(["sids", "inspect", "red jacket", "--run", str(shared_run.root), "--titles", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'query "red jacket"' and lines[1] == "keywords: jacket" or "red" in lines[1]
    assert "none of its words" in refused(capsys, "sids", "inspect", "☃", "--run", shared_run.root)
    assert "no item has the id" in refused(capsys, "sids", "inspect", "shoe", "--as", "item", "--run", shared_run.root)


def test_a_checkpoint_alone_is_inspected_by_item_id(checkpoint, capsys):
    assert cli.main(["sids", "inspect", "item-0000005", "--checkpoint", str(checkpoint)]) == 0
    assert "item-0000005" in capsys.readouterr().out
    assert "pass --run" in refused(capsys, "sids", "inspect", "red jacket", "--checkpoint", checkpoint)


def test_a_checkpoint_of_other_codebooks_is_not_inspected(run, recipe, capsys):
    from onesearch.tokenization_sid.sids.building import build_sids

    build_sids(run, recipe.codes, keywords=None, page=False)
    assert "other codebooks" in refused(capsys, "sids", "inspect", "shoe", "--checkpoint", run.checkpoint)


def test_items_are_appended(run, market, tmp_path, capsys):
    rows = [{**market.items[row], "item_id": f"new-{row}"} for row in range(3)]
    Market.from_rows(items=rows).save(tmp_path / "more")
    table = tmp_path / "more" / "items.parquet"
    index = (run.sids / "sid_index.safetensors").read_bytes()
    assert cli.main(["sids", "append", "--run", str(run.root), str(table)]) == 0
    out = capsys.readouterr().out
    assert "00000.parquet" in out and "drift.far_share: " in out
    published = {tuple(sid) for sid in load_codes(run, "items").codes.tolist()}
    shared = sum(tuple(sid) in published for sid in appended_codes(run).codes.tolist())
    assert f"collisions.with_published: {shared}\n" in out and "collisions.items: 3\n" in out
    assert (run.sids / "sid_index.safetensors").read_bytes() == index
    assert "'new-0' (row 0)" in refused(capsys, "sids", "append", "--run", run.root, table)
    assert cli.main(["sids", "append", "--run", str(run.root), str(table), "--known", "skip"]) == 0
    assert "skipped: 3" in capsys.readouterr().out
    assert "does not exist" in refused(capsys, "sids", "append", "--run", run.root, tmp_path / "nowhere.parquet")


def test_training_anew_with_flags(run, recipe, tmp_path, capsys):
    other = replace(recipe, search=SearchConfig(num_beams=4, rank_by="item"))
    save_recipe(other, tmp_path / "mine.yaml")
    before = (run.checkpoint / "model.safetensors").read_bytes()
    shutil.rmtree(run.training)
    flags = ["--recipe", str(tmp_path / "mine.yaml"), "--epochs", "0.1", "--batch-size", "32", "--learning-rate", "0.01"]
    assert "--overwrite replaces it" in refused(capsys, "train", run.root, *flags)
    assert "pip install dvclive" in refused(capsys, "train", run.root, "--overwrite", "--report-to", "dvclive")
    assert (run.checkpoint / "model.safetensors").read_bytes() == before
    assert cli.main(["train", str(run.root), *flags, "--overwrite"]) == 0
    assert (run.checkpoint / "model.safetensors").read_bytes() != before
    log = json.loads((run.training / "log.json").read_text())
    assert log[-1]["epoch"] == pytest.approx(0.1, abs=0.05)
    assert SearchConfig.from_pretrained(run.checkpoint) == other.search


def test_training_takes_the_run_s_own_recipe(run):
    """So training again gives the same checkpoint, search settings included."""
    files = {name: (run.checkpoint / name).read_bytes() for name in ("model.safetensors", "search_config.json")}
    shutil.rmtree(run.checkpoint)
    assert cli.main(["train", str(run.root)]) == 0
    assert {name: (run.checkpoint / name).read_bytes() for name in files} == files


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text())


def test_evaluate_writes_and_prints(run, capsys):
    shutil.rmtree(run.evaluation)
    flags = ["--split", "validation", "--sample", "5", "--no-baselines"]
    search = ["--beams", "5", "--rank-by", "item", "--items-per-sid", "2", "--exclude-history"]
    assert cli.main(["evaluate", str(run.root), *flags, *search]) == 0
    out = capsys.readouterr().out
    assert "| HR@5 |" in out and "| HR@10 |" not in out and "bm25" not in out
    assert "onesearch has no HR@10" in out and "5 beams" in out
    metrics = metrics_of(run.evaluation)
    assert metrics["split"] == "validation" and list(metrics["retrievers"]) == ["onesearch"]
    assert metrics["sample"]["count"] == 5 and metrics["retrievers"]["onesearch"]["invalid_sid_rate"] == 0
    settings = metrics["settings"]
    search_settings = SearchConfig(num_beams=5, rank_by="item", items_per_sid=2, exclude_history=True)
    assert settings["search"] == json.loads(json.dumps(asdict(search_settings)))
    assert (settings["split"], settings["sample"], settings["baselines"]) == ("validation", 5, False)
    assert settings["cutoffs"] is None and metrics["split_rule"]["method"] == "time"
    cutoffs = [*flags, "--beams", "30", "--name", "deep", "--cutoffs", "10", "30"]
    assert cli.main(["evaluate", str(run.root), *cutoffs]) == 0
    assert "| HR@30 |" in capsys.readouterr().out and metrics_of(run.evaluation / "deep")["settings"]["cutoffs"] == [10, 30]
    assert cli.main(["evaluate", str(run.root), *cutoffs]) == 0  # the same settings again
    capsys.readouterr()
    assert "num_beams=350 (--beams 350)" in refused(capsys, "evaluate", run.root, *flags, "--cutoffs", "350")
    assert "from 1 to 350" in refused(capsys, "evaluate", run.root, *flags, "--beams", "400", "--cutoffs", "400")


def test_evaluate_takes_the_settings_of_the_run_s_recipe_and_of_its_checkpoint(run, recipe):
    """So a report is repeated without flags: same requests, same beams, same figures."""
    before = metrics_of(run.evaluation)
    assert cli.main(["evaluate", str(run.root)]) == 0
    after = metrics_of(run.evaluation)
    assert after["settings"] == before["settings"] and after["sample"] == before["sample"]
    assert after["settings"]["search"]["num_beams"] == recipe.search.num_beams == 10
    for name, found in before["retrievers"].items():
        assert after["retrievers"][name]["targets"] == found["targets"]


def test_a_report_with_other_settings_is_not_overwritten(run, capsys):
    before = (run.evaluation / "metrics.json").read_bytes()
    command = ["evaluate", run.root, "--no-baselines", "--beams", "5", "--sample", "3"]
    line = refused(capsys, *command)
    assert "search.num_beams 10 → 5" in line and "sample 40 → 3" in line and "baselines True → False" in line
    assert "split" not in line and "--name NAME" in line and "--overwrite" in line
    assert "must consist of" in refused(capsys, *command, "--name", "../other")
    assert (run.evaluation / "metrics.json").read_bytes() == before
    words = [*map(str, command), "--name", "few"]
    assert cli.main(words) == 0 == cli.main(words)
    assert metrics_of(run.evaluation / "few")["settings"]["sample"] == 3
    assert (run.evaluation / "metrics.json").read_bytes() == before
    assert cli.main([*map(str, command), "--overwrite"]) == 0
    assert metrics_of(run.evaluation)["settings"]["search"]["num_beams"] == 5
    assert cli.main(["evaluate", str(run.root), "--no-baselines", "--sample", "all", "--overwrite"]) == 0
    assert metrics_of(run.evaluation)["sample"] is None and metrics_of(run.evaluation)["requests"] > 40


def test_search_prints_one_item_per_line(shared_run, market, capsys):
    items = market.items["item_id"][:2]
    for folder in (shared_run.root, shared_run.checkpoint):
        flags = ["--history", *items, "--top-k", "3", "--beams", "8"]
        assert cli.main(["search", str(folder), "red shoe", *flags]) == 0
        lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
        assert [line[0] for line in lines] == ["1", "2", "3"]
        rows = dict(zip(market.items["item_id"], market.items))
        assert [line[4:6] for line in lines] == [[rows[line[1]]["title"], rows[line[1]]["brand"]] for line in lines]
        assert [line[6] for line in lines] == [f"{rows[line[1]]['price']:.2f}" for line in lines]
        assert all(line[1].startswith("item-") and line[2].startswith("<a_") and float(line[3]) <= 0 for line in lines)


def test_search_uses_the_checkpoint_s_settings_and_flags_replace_them(checkpoint, market, capsys):
    def found(*flags):
        assert cli.main(["search", str(checkpoint), "red shoe", "--top-k", "100", *flags]) == 0
        return [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()]

    plain = found()
    SearchConfig(num_beams=3, items_per_sid=1, exclude_history=True).save_pretrained(checkpoint)
    assert found() == found("--beams", "3") != plain and len(found()) == 3
    assert found("--beams", "10", "--items-per-sid", "5", "--rank-by", "sid") == plain
    seen = ["--history", plain[0]]
    assert plain[0] not in found("--beams", "10", *seen)
    assert plain[0] in found("--beams", "30", "--no-exclude-history", *seen)


def test_searches_that_are_refused(shared_run, tmp_path, capsys):
    assert "'nowhere' is not in the catalogue" in refused(capsys, "search", shared_run.root, "shoe", "--history", "nowhere")
    assert "the query is empty" in refused(capsys, "search", shared_run.root, "  ")
    assert "nowhere" in refused(capsys, "search", tmp_path / "nowhere", "shoe")


def test_a_damaged_checkpoint_is_one_line(checkpoint, capsys):
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert "damaged" in refused(capsys, "search", checkpoint, "shoe")
    path = checkpoint / "sid_index.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    assert "damaged" in refused(capsys, "info", checkpoint)


def test_traceback_on_demand(tmp_path):
    with pytest.raises(FileNotFoundError):
        cli.main(["--traceback", "info", str(tmp_path)])


def test_info_tells_versions_and_what_a_checkpoint_holds(shared_run, capsys):
    assert cli.main(["info"]) == 0
    assert "transformers 5." in capsys.readouterr().out
    for folder in (shared_run.root, shared_run.checkpoint):
        assert cli.main(["info", str(folder)]) == 0
        out = capsys.readouterr().out
        assert "450 items" in out and "(16, 8, 8, 4, 4)" in out and "width 32, 1 + 1 layers" in out
        assert "search settings: num_beams 10, rank_by sid, items_per_sid 5, exclude_history False" in out


# Every stage


def stamps(run):
    """When each product of a run was written, the evaluation and the card left out."""
    return {
        path: path.stat().st_mtime_ns
        for part in (run.market, run.embeddings, run.sids, run.training, run.checkpoint)
        for path in part.rglob("*")
        if path.is_file() and path.name != "README.md"
    }


def test_a_finished_run_resumes_without_doing_anything_twice(run, recipe, tmp_path, capsys):
    save_recipe(recipe, tmp_path / "tiny.yaml")
    command = ["run", "--recipe", tmp_path / "tiny.yaml", "--run", run.root]
    assert "pass --resume" in refused(capsys, *command)
    before = stamps(run)
    metrics = json.loads((run.evaluation / "metrics.json").read_text())
    assert cli.main([*map(str, command), "--resume"]) == 0
    assert "tiny: " in capsys.readouterr().out
    assert stamps(run) == before
    again = json.loads((run.evaluation / "metrics.json").read_text())
    for name, found in metrics["retrievers"].items():
        assert again["retrievers"][name]["targets"] == found["targets"]


def test_the_demo_prints_its_share_of_the_oracle_and_a_search(run, recipe, monkeypatch, capsys):
    monkeypatch.setattr("onesearch.pipeline.recipe.load_recipe", {"demo": recipe}.__getitem__)
    info = json.loads((run.market / "market.json").read_text())
    (run.market / "market.json").write_text(json.dumps({**info, "oracle": {"purchase": {"HR@10": 0.8}}}))
    assert cli.main(["demo", "--run", str(run.root), "--resume"]) == 0
    out = capsys.readouterr().out
    measured = json.loads((run.evaluation / "metrics.json").read_text())["retrievers"]["onesearch"]
    share = measured["targets"]["purchase"]["item"]["HR@10"]["value"] / 0.8
    assert f"share of it: {100 * share:.0f} %" in out
    example = out.splitlines()[-5:]
    assert "search: " in out and [line[:3] for line in example] == [f" {rank}." for rank in range(1, 6)]
    titles = set(Market.load(run.market).items["title"])
    assert all(any(title in line for title in titles) for line in example), "a person can judge the hits"
    assert f"onesearch search {run.root}" in out and str(run.checkpoint / "README.md") in out


def test_a_stopped_run_resumes_where_it_was(run, recipe, tmp_path):
    """Stopped while it trained: the market, the embeddings and the SIDs stay, training goes on from its last state."""
    save_recipe(recipe, tmp_path / "tiny.yaml")
    weights = (run.checkpoint / "model.safetensors").read_bytes()
    shutil.rmtree(run.checkpoint)
    shutil.rmtree(run.evaluation)
    before = {path: stamp for path, stamp in stamps(run).items() if run.training not in path.parents}
    assert cli.main(["run", "--recipe", str(tmp_path / "tiny.yaml"), "--run", str(run.root), "--resume"]) == 0
    after = stamps(run)
    assert all(after[path] == stamp for path, stamp in before.items())
    assert (run.checkpoint / "model.safetensors").read_bytes() == weights
    assert (run.checkpoint / "README.md").is_file() and (run.evaluation / "metrics.json").is_file()


@pytest.mark.slow
def test_the_same_recipe_gives_the_same_run(shared_run, recipe, tmp_path):
    save_recipe(recipe, tmp_path / "tiny.yaml")
    assert cli.main(["run", "--recipe", str(tmp_path / "tiny.yaml"), "--run", str(tmp_path / "again")]) == 0
    for part in ("market/sessions.parquet", "embeddings/items-00000.safetensors", "checkpoint/model.safetensors"):
        assert (tmp_path / "again" / part).read_bytes() == (shared_run.root / part).read_bytes(), part
    # Its metadata lie in the file in any order.
    index, other = (load_file(folder / "sids" / "sid_index.safetensors") for folder in (shared_run.root, tmp_path / "again"))
    assert all((index[name] == other[name]).all() for name in index) and set(index) == set(other)


def test_a_run_folder_of_something_else_is_refused(run, recipe, tmp_path, capsys):
    save_recipe(replace(recipe, keywords=None), tmp_path / "other.yaml")
    line = refused(capsys, "run", "--recipe", tmp_path / "other.yaml", "--run", run.root, "--resume")
    assert "another recipe (keywords differ)" in line
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    line = refused(capsys, "run", "--recipe", tmp_path / "other.yaml", "--run", tmp_path / "full")
    assert "is not empty and holds no run" in line
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["letter.txt"]


def test_unusable_recipes_are_refused(tmp_path, capsys):
    assert "shipped are" in refused(capsys, "run", "--recipe", "nothing", "--run", tmp_path / "run")
    (tmp_path / "bad.yaml").write_text("name: x\nmarket: {importer: simulate, optoins: {}}\n")
    assert "unknown key 'optoins'" in refused(capsys, "run", "--recipe", tmp_path / "bad.yaml", "--run", tmp_path / "run")
    (tmp_path / "broken.yaml").write_text("name: [x\n")
    assert "not valid YAML" in refused(capsys, "run", "--recipe", tmp_path / "broken.yaml", "--run", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_quantizer_is_a_flag(run, capsys):
    from onesearch.tokenization_sid.quantizers.loading import load_quantizer

    build = ["sids", "build", str(run.root), "--residual-sizes", "8,4"]
    assert cli.main([*build, "--quantizer", "rq-k-means"]) == 0
    capsys.readouterr()
    assert load_quantizer(run.sids).kind == "rq-k-means" and load_quantizer(run.sids).config.codebook_sizes == (8, 4)
    assert "--quantizer vq is unknown; allowed are rq-opq" in refused(capsys, *build, "--quantizer", "vq")
    assert "--opq: sim-vq has no product codes" in refused(capsys, *build, "--quantizer", "sim-vq", "--opq", "1x4")
