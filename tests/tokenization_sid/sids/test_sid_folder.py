"""The parts of ``sids/`` appear together, and a folder that mixes two builds is refused by every reader."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
from run_copies import copied
from safetensors import safe_open

from onesearch import SidIndex, cli
from onesearch.files import RunFolder, read_json
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME
from onesearch.pipeline.evaluation import evaluate_run
from onesearch.pipeline.steps import make_sids
from onesearch.tokenization_sid.embedding.embeddings import embed_market
from onesearch.tokenization_sid.sids import building, sid_folder
from onesearch.tokenization_sid.sids.appending import append_items, appended_codes
from onesearch.tokenization_sid.sids.code_files import StoredCodes, load_codes
from onesearch.tokenization_sid.sids.sid_encoder import SidEncoder
from onesearch.tokenization_sid.sids.sid_folder import ITEM_INDEX_NAME, check_parts, new_folder
from onesearch.trainers.run_inputs import load_inputs

MIXED = "mixes the parts of several builds.*onesearch sids build"


@pytest.fixture
def built(shared_run, tmp_path) -> RunFolder:
    """The tiny run without training and checkpoint."""
    return copied(shared_run, tmp_path / "run")


@pytest.fixture(scope="module")
def other_recipe(recipe):
    """Other codebooks."""
    return replace(recipe, codes=replace(recipe.codes, seed=1), keywords=None)


@pytest.fixture(scope="module")
def other_sids(shared_run, other_recipe, tmp_path_factory):
    """The tiny run's SIDs from other codebooks."""
    run = copied(shared_run, tmp_path_factory.mktemp("other") / "run", ("market", "embeddings"))
    make_sids(other_recipe, run)
    return run.sids


def content(run):
    return {path.relative_to(run.sids): path.read_bytes() for path in run.sids.rglob("*") if path.is_file()}


def meaning(run):
    """Content without the order of the metadata, which safetensors shuffles."""
    found = content(run)
    for path in run.sids.glob("*.safetensors"):
        with safe_open(path, framework="np") as file:
            found[path.relative_to(run.sids)] = file.metadata(), {name: file.get_tensor(name).tobytes() for name in file.keys()}
    return found


def test_the_name_of_the_item_index_is_that_of_the_model():
    assert ITEM_INDEX_NAME == SID_INDEX_NAME


STEPS = {
    "codebooks": (building, "save_keywords"),
    "keywords": (building, "encode_rows"),
    "codes": (StoredCodes, "save"),
    "page": (building, "draw_page"),
    "diagnostics": (building, "write_json"),
    "index": (SidIndex, "save"),
    "exchange": (sid_folder, "_exchange"),
}


@pytest.mark.parametrize(("owner", "name"), STEPS.values(), ids=STEPS)
def test_a_build_that_fails_leaves_the_old_sids(built, other_recipe, monkeypatch, owner, name):
    def fail(*_, **__):
        raise OSError("the disk is full")

    before = content(built)
    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(OSError, match="the disk is full"):
        make_sids(other_recipe, built)
    assert content(built) == before and not new_folder(built).exists()
    assert {path.name for path in built.root.iterdir()} <= {"market", "embeddings", "sids", ".append.lock"}


KILLED = """
import os, sys
from dataclasses import replace
from onesearch.files import RunFolder
from onesearch.pipeline.recipe import load_recipe
from onesearch.pipeline.steps import make_sids
from onesearch.tokenization_sid.sids import building, sid_folder
from onesearch.modeling_onesearch.catalogue_onesearch import SidIndex

def kill_before(owner, name):
    setattr(owner, name, lambda *_, **__: os._exit(9))

def kill_after(owner, name):
    original = getattr(owner, name)
    setattr(owner, name, lambda *values: (original(*values), os._exit(9)))

STEPS = [
    (kill_before, building, "save_keywords"),
    (kill_before, building, "write_json"),
    (kill_after, SidIndex, "save"),
    (kill_before, sid_folder, "_exchange"),
    (kill_after, sid_folder, "_exchange"),
]
recipe = load_recipe(sys.argv[2])
for number, (kill, owner, name) in enumerate(STEPS):
    if os.fork() == 0:
        kill(owner, name)
        make_sids(recipe, RunFolder(f"{sys.argv[1]}/{number}"))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == 9
"""


@pytest.mark.slow
def test_a_build_that_is_killed_leaves_the_old_or_the_new_sids(built, other_recipe, tmp_path):
    from onesearch.pipeline.recipe import save_recipe

    save_recipe(other_recipe, tmp_path / "recipe.yaml")
    runs = [RunFolder(tmp_path / "killed" / str(number)) for number in range(5)]
    for run in runs:
        shutil.copytree(built.root, run.root)
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(tmp_path / "recipe.yaml")], check=True)
    old, names = check_parts(built), content(built).keys()
    make_sids(other_recipe, built)
    new = check_parts(built)
    assert old != new
    for run, expected in zip(runs, [old, old, old, old, new]):
        assert check_parts(run) == expected and content(run).keys() == names
        assert SidIndex.load(run.sids / SID_INDEX_NAME).fingerprint == expected
        assert SidEncoder.load(run).quantizer.fingerprint == read_json(run.sids / "diagnostics.json")["fingerprint"] == expected
        make_sids(other_recipe, run)
        assert meaning(run) == meaning(built) and not new_folder(run).exists()


def test_a_system_without_an_exchange_moves_twice(built, other_recipe, monkeypatch):
    monkeypatch.setattr(sid_folder, "exchange", lambda *_: False)
    old = check_parts(built)
    make_sids(other_recipe, built)
    assert check_parts(built) not in (old, None)
    new = meaning(built)
    built.sids.rename(built.root / ".sids.old")  # a stop between the two moves
    make_sids(other_recipe, built)
    names = {path.name for path in built.root.iterdir()}
    assert meaning(built) == new and names == {"market", "embeddings", "sids", ".append.lock"}


def test_appended_items_and_files_of_others_survive_a_build(built, market, recipe, other_recipe, caplog):
    rows = market.items.with_format("arrow")[[3, 7]]
    append_items(built, rows.set_column(0, "item_id", [["new-3", "new-7"]]))
    (built.sids / "notes.txt").write_text("mine")
    appended = (built.sids / "appended" / "00000.parquet").read_bytes()
    make_sids(other_recipe, built)
    assert "appended to the SIDs before" in caplog.text
    assert (built.sids / "notes.txt").read_text() == "mine"
    assert (built.sids / "appended" / "00000.parquet").read_bytes() == appended
    with pytest.raises(ValueError, match="belongs to codebooks"):
        appended_codes(built)
    make_sids(recipe, built)
    assert appended_codes(built).item_ids == ["new-3", "new-7"]


@pytest.mark.parametrize("name", ["codebooks.safetensors", "item_codes.safetensors", "query_codes.safetensors", SID_INDEX_NAME])
def test_every_reader_refuses_parts_of_two_builds(run, recipe, other_sids, capsys, name):
    shutil.copy2(other_sids / name, run.sids)
    readers = [
        lambda: SidEncoder.load(run),
        lambda: load_codes(run, "items"),
        lambda: load_codes(run, "queries"),
        lambda: load_inputs(run, recipe.training),
        lambda: evaluate_run(run, recipe.evaluation, baselines=False, overwrite=True, progress=False),
    ]
    for read in readers:
        with pytest.raises(ValueError, match=MIXED):
            read()
    for command in (
        ["search", str(run.root), "red shoe"],
        ["train", str(run.root), "--overwrite"],
        ["sids", "inspect", "red", "--run", str(run.root)],
    ):
        assert cli.main(command) != 0
        assert "mixes the parts of several builds" in capsys.readouterr().err


def test_a_checkpoint_of_earlier_sids_is_not_measured(run, recipe, other_recipe, capsys):
    make_sids(other_recipe, run)
    with pytest.raises(ValueError, match="trained on other codebooks .* train again with `onesearch train"):
        evaluate_run(run, recipe.evaluation, baselines=False, overwrite=True, progress=False)
    assert cli.main(["search", str(run.root), "red shoe"]) != 0
    assert "trained on other codebooks" in capsys.readouterr().err
    assert cli.main(["search", str(run.checkpoint), "red shoe"]) == 0  # alone it is whole


def test_codes_of_another_number_of_queries_are_refused(built, recipe):
    stored = load_codes(built, "queries")
    replace(stored, codes=stored.codes[1:], known=stored.known[1:]).save(built.sids / "query_codes.safetensors")
    with pytest.raises(ValueError, match="codes of .* queries.* build the SIDs again"):
        load_inputs(built, recipe.training)


def test_embeddings_of_another_encoder_are_refused(built, recipe):
    """As after `sids build --rebuild` that was killed between the embeddings and the SIDs."""
    embed_market(built, recipe.encoder)
    SidEncoder.load(built)  # the same embeddings, made again
    embed_market(built, replace(recipe.encoder, seed=7))
    for read in (lambda: SidEncoder.load(built), lambda: load_inputs(built, recipe.training)):
        with pytest.raises(ValueError, match="the encoder, .* have changed since the SIDs were built.*build the SIDs again"):
            read()
    make_sids(recipe, built)
    SidEncoder.load(built)
