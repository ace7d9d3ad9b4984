"""Studies: cells share what they may, resume, and the table says what the runs say."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import asdict, replace

import numpy as np
import pytest
import yaml
from test_architecture import ROOT

from onesearch import RunFolder
from onesearch.files import locked, read_json, write_json
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.pipeline import run as run_module
from onesearch.pipeline.recipe import save_recipe
from onesearch.pipeline.study import Study, folder_name, load_study, recipe_of
from onesearch.pipeline.study_cells import part_keys, run_study
from onesearch.pipeline.study_summary import VALUES_NAME, summarise, to_table
from onesearch.trainers.configs import StageConfig

SHORT = "training.prompt.items"


@pytest.fixture(scope="module")
def base(recipe, tmp_path_factory):
    """The tiny recipe with one stage of four steps: studies are about their cells, of which there are four here."""
    arguments = {**recipe.training.arguments, "max_steps": 4, "eval_strategy": "no", "save_strategy": "no"}
    training = replace(recipe.training, stages=(StageConfig("personalised"),), arguments=arguments)
    path = tmp_path_factory.mktemp("base") / "base.yaml"
    save_recipe(replace(recipe, training=training), path)
    return str(path)


@pytest.fixture(scope="module")
def finished(base, tmp_path_factory):
    runs = tmp_path_factory.mktemp("study")
    variants = {"no history": {SHORT: 0}, "no keywords": {"keywords": False}}
    study = Study(name="tiny", base=base, variants=variants, seeds=[1, 2], reference="no history")
    return study, runs, run_study(study, runs, progress=False)


def cell(runs, variant, seed):
    return RunFolder(runs / folder_name(variant) / f"seed-{seed}")


def test_cells_differ_in_what_is_varied_and_in_their_seeds(finished):
    study, _, _ = finished
    recipes = {(variant, seed): recipe_of(study, variant, seed) for variant in study.variants for seed in study.seeds}
    assert recipes["no history", 1].training.prompt.items == 0
    assert recipes["no keywords", 1].training.prompt.items == 5 and not recipes["no keywords", 2].keywords
    for (_, seed), recipe in recipes.items():
        assert recipe.encoder.seed == recipe.codes.seed == recipe.training.arguments["seed"] == seed
    assert len({recipe.name for recipe in recipes.values()}) == 4
    assert recipes["no history", 1].market == recipes["no keywords", 2].market


def test_a_variant_changes_its_own_cells_alone(base):
    """A mapping in `common` is changed by the dotted keys of one variant, and the other variants still get it as it was given."""
    layout = {"items": 5, "queries": 5, "user": True}
    variants = {"all": {}, "no items": {SHORT: 0}, "no queries": {"training.prompt.queries": 0}}
    study = Study(name="x", base=base, common={"training.prompt": dict(layout)}, variants=variants)
    for _ in range(2):
        prompts = [recipe_of(study, variant, 0).training.prompt for variant in variants]
        assert [(prompt.items, prompt.queries) for prompt in prompts] == [(5, 5), (0, 5), (5, 0)]
    assert study.common == {"training.prompt": layout}


def test_parts_that_do_not_depend_on_the_variant_are_made_once(finished):
    _, runs, _ = finished

    def inode(variant, seed, part):
        return (cell(runs, variant, seed).root / part).stat().st_ino

    market, vectors = "market/items.parquet", "embeddings/embeddings.json"
    cells = [(variant, seed) for variant in ("no history", "no keywords") for seed in (1, 2)]
    assert len({inode(*one, market) for one in cells}) == 1
    for seed in (1, 2):
        assert len({inode(variant, seed, vectors) for variant in ("no history", "no keywords")}) == 1
    assert inode("no history", 1, vectors) != inode("no history", 2, vectors)
    assert inode("no history", 1, "sids/sid_index.safetensors") != inode("no keywords", 1, "sids/sid_index.safetensors")


def test_cells_that_differ_in_the_search_alone_share_one_training(finished, tmp_path):
    study, runs, _ = finished
    copy = shutil.copytree(runs, tmp_path / "study")
    variants = {"no history": {SHORT: 0}, "more beams": {SHORT: 0, "search.num_beams": 20}}
    run_study(replace(study, variants=variants, seeds=[1], reference="no history"), copy, progress=False)
    trained, found = (cell(copy, variant, 1) for variant in variants)
    weights = "training/1-personalised/model/model.safetensors"
    assert (trained.root / weights).stat().st_ino == (found.root / weights).stat().st_ino
    beams = [SearchConfig.from_pretrained(run.checkpoint).num_beams for run in (trained, found)]
    assert beams == [10, 20] and read_json(found.training / "log.json") == read_json(trained.training / "log.json")


def test_quantizers_with_the_same_fields_share_no_codes(finished):
    study, _, _ = finished
    variants = {kind: {"codes": {"quantizer": kind, "residual_sizes": [8, 4]}} for kind in ("rq-vae", "sim-vq")}
    found = [part_keys(recipe_of(replace(study, variants=variants, reference="rq-vae"), kind, 1)) for kind in variants]
    assert found[0]["embeddings"] == found[1]["embeddings"]
    assert found[0]["sids"] != found[1]["sids"] and found[0]["training"] != found[1]["training"]


def test_trainings_of_unisearch_share_no_codes():
    variants = {"joint": {}, "gradient": {"training.unisearch.refit": 0}, "more beams": {"search.num_beams": 200}}
    study = Study("codes", base="unisearch-spo", variants=variants, reference="joint")
    joint, gradient, more_beams = (part_keys(recipe_of(study, kind, 1)) for kind in variants)
    assert joint == more_beams
    assert {part for part in joint if joint[part] != gradient[part]} == {"sids", "training"}


def test_the_table_holds_the_means_of_the_runs(finished):
    study, runs, summary = finished
    for variant in study.variants:
        per_seed = [
            read_json(cell(runs, variant, seed).evaluation / "metrics.json")["retrievers"]["onesearch"]["targets"]["purchase"]
            for seed in study.seeds
        ]
        expected = [found["item"]["HR@10"]["value"] for found in per_seed]
        row = summary["variants"][variant]
        assert row["HR@10"]["seeds"] == pytest.approx(expected) and row["HR@10"]["mean"] == pytest.approx(np.mean(expected))
        assert row["HR@10"]["low"] <= row["HR@10"]["mean"] <= row["HR@10"]["high"]
        lead = np.mean(expected) - summary["variants"]["no history"]["HR@10"]["mean"]
        assert row["HR@10"]["lead"]["mean"] == pytest.approx(lead)
    assert summary["variants"]["no history"]["HR@10"]["lead"] == {"mean": 0, "low": 0, "high": 0}
    table = to_table(summary).splitlines()
    assert all(row["orders"] == {} for row in summary["variants"].values())
    assert len(table) == 4 and table[0].startswith("| variant | HR@10 | HR@10 − no history | MRR@10")
    assert read_json(runs / "study.json") == summary


def test_a_cell_of_another_recipe_is_refused(finished, tmp_path):
    """The variant keeps its name and its folder, and its changes are others: its old figures must not stand for them."""
    study, runs, _ = finished
    copy = shutil.copytree(runs, tmp_path / "study")
    changed = replace(study, variants={**study.variants, "no keywords": {"keywords": False, SHORT: 3}})
    with pytest.raises(ValueError, match=r"no-keywords/seed-1 was made from another recipe \(training differ\)"):
        run_study(changed, copy, progress=False)
    assert run_study(replace(study, name="other"), copy, progress=False)["reference"] == "no history"


def test_a_finished_cell_is_not_run_again(finished, base, tmp_path):
    study, runs, summary = finished
    path = cell(runs, "no keywords", 1).evaluation / VALUES_NAME
    values = read_json(path)
    hits = {metric: [1.0] * len(found) for metric, found in values["orders"]["onesearch"].items()}
    write_json(path, {**values, "orders": {"onesearch": hits}})
    again = run_study(study, runs, progress=False)
    assert again["variants"]["no keywords"]["HR@10"]["seeds"] == [1.0, summary["variants"]["no keywords"]["HR@10"]["seeds"][1]]
    write_json(path, values)


def test_intervals_widen_with_the_spread_of_the_seeds(tmp_path):
    def cells(name, rates):
        runs = []
        for seed, rate in enumerate(rates):
            run = RunFolder(tmp_path / name / str(seed))
            run.evaluation.mkdir(parents=True)
            run.sids.mkdir()
            draws = np.random.default_rng(seed).random(400) < rate
            cold = (np.arange(400) % 4 == 0).tolist()
            orders = {"served": {"HR@10": draws.astype(float).tolist()}, "worse": {"HR@10": (draws * 0.5).tolist()}}
            write_json(run.evaluation / VALUES_NAME, {"served": "served", "orders": orders, "cold": cold})
            write_json(run.sids / "diagnostics.json", {"icr_items": 0.5})
            runs.append(run)
        return runs

    variants = {"steady": {}, "unsteady": {}}
    study = Study(name="x", variants=variants, metrics=["HR@10"], diagnostics=["icr_items"])
    found = summarise(study, {"steady": cells("a", (0.3, 0.3, 0.3)), "unsteady": cells("b", (0.1, 0.3, 0.5))})["variants"]
    spread = {name: row["HR@10"]["high"] - row["HR@10"]["low"] for name, row in found.items()}
    assert spread["unsteady"] > 2 * spread["steady"] > 0.03
    assert found["unsteady"]["HR@10"]["lead"]["low"] < 0 < found["unsteady"]["HR@10"]["lead"]["high"]
    for row in found.values():
        worse = row["orders"]["worse"]["HR@10"]
        assert list(row["orders"]) == ["worse"] and worse["mean"] == pytest.approx(row["HR@10"]["mean"] / 2)
        assert worse["lead"]["mean"] == pytest.approx(-row["HR@10"]["mean"] / 2) and worse["lead"]["high"] < 0
        assert worse["gain"]["mean"] == pytest.approx(worse["mean"] - found["steady"]["orders"]["worse"]["HR@10"]["mean"])
        assert worse["gain"]["low"] <= worse["gain"]["mean"] <= worse["gain"]["high"]
    table = to_table({"study": asdict(study), "reference": "steady", "variants": found})
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line]
    assert ["variant", "order", "HR@10", "HR@10 − served", "HR@10 − steady"] in rows
    of_worse = {row[0]: row[-1] for row in rows if row[1] == "worse"}
    assert of_worse["steady"] == "" and "[" in of_worse["unsteady"]
    for row in found.values():  # three quarters of the requests are of warm users
        of_group = {group: row["users"][group]["HR@10"]["mean"] for group in ("cold", "warm")}
        assert 0.25 * of_group["cold"] + 0.75 * of_group["warm"] == pytest.approx(row["HR@10"]["mean"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "x", "variant": {}}, "unknown key 'variant'"),
        ({"name": "x", "variants": {}}, "at least one variant"),
        ({"name": "x", "variants": {"a": {}}, "reference": "b"}, "'b' is no variant; the variants are a"),
        ({"name": "x", "variants": {"a b": {}, "a-b": {}}}, "must differ"),
        (
            {"name": "x", "variants": {"a": {}}, "measured": "encoder", "metrics": ["recall@10"], "baselines": True},
            "'encoder' has no baselines",
        ),
    ],
)
def test_a_study_that_does_not_fit_is_refused(tmp_path, values, message):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_study(path)


def test_variants_can_add_up(base):
    variants = {"a": {SHORT: 1}, "b": {"keywords": False}, "c": {SHORT: 2}}
    apart, together = (Study(name="x", base=base, variants=variants, cumulative=flag) for flag in (False, True))
    assert [recipe_of(together, name, 0).training.prompt.items for name in variants] == [1, 1, 2]
    assert [recipe_of(together, name, 0).keywords is not None for name in variants] == [True, False, False]
    assert recipe_of(apart, "b", 0).training.prompt.items == 5


def test_variants_of_the_search_settings(base):
    study = Study(name="x", base=base, variants={"a": {"search.num_beams": 3}, "b": {"search": {"rank_by": "item"}}})
    assert recipe_of(study, "a", 0).search == SearchConfig(num_beams=3)
    assert recipe_of(study, "b", 0).search == SearchConfig(rank_by="item")  # a whole part is replaced: the base's 10 beams, too


def test_an_unknown_field_of_the_recipe_is_named(base):
    study = Study(name="x", base=base, variants={"a": {"training.model.d_modell": 8}, "b": {"trainin.model": 8}})
    with pytest.raises(ValueError, match="'d_modell'"):
        recipe_of(study, "a", 0)
    with pytest.raises(ValueError, match="variant 'b'.*'trainin.model'"):
        recipe_of(study, "b", 0)


def test_a_study_survives_its_file(tmp_path):
    study = Study(name="x", variants={"a": {SHORT: 3}}, seeds=[4])
    path = tmp_path / "study.yaml"
    path.write_text(
        yaml.safe_dump({**asdict(study), **{key: list(asdict(study)[key]) for key in ("seeds", "metrics", "diagnostics")}})
    )
    loaded = load_study(path)
    assert (loaded.variants, loaded.seeds) == (study.variants, study.seeds)


def test_workers_share_the_cells(finished):
    """A worker leaves a cell that another is at, makes those that nobody is at, waits, and tells the same."""
    study, runs, summary = finished
    theirs, free = (cell(runs, "no keywords", seed).evaluation / VALUES_NAME for seed in (1, 2))
    values, done = theirs.read_bytes(), []
    with locked(runs / "no-keywords" / ".seed-1.lock", "test"):
        theirs.unlink()
        free.unlink()
        worker = threading.Thread(target=lambda: done.append(run_study(study, runs, progress=False)))
        worker.start()
        while not free.exists():
            assert worker.is_alive()
            time.sleep(0.05)
        assert worker.is_alive() and not theirs.exists()
        theirs.write_bytes(values)
    worker.join()
    assert done == [summary]


@pytest.mark.parametrize("path", sorted((ROOT / "trainers" / "recipes" / "studies").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_study_fits_its_base(path):
    study = load_study(path)
    recipes = [recipe_of(study, variant, 1, "somewhere") for variant in study.variants]
    assert study.name == path.stem and len({repr(replace(recipe, name="x")) for recipe in recipes}) == len(recipes)


def test_every_variant_is_checked_before_the_first_cell_runs(base, tmp_path):
    wrong = (
        {"training.arguments.learning_rate": float("nan")},
        {"training.arguments.warmup_step": 3},
        {"market.options.items": 3},
    )
    for changes in wrong:
        study = Study(name="x", base=base, variants={"sound": {}, "wrong": changes}, seeds=[0])
        with pytest.raises((ValueError, TypeError), match=next(iter(changes)).rpartition(".")[2]):
            run_study(study, tmp_path / "study", progress=False)
    assert not (tmp_path / "study").exists()


def test_a_study_with_baselines_compares_every_order(finished, tmp_path):
    study, runs, summary = finished
    copy = shutil.copytree(runs, tmp_path / "study")
    shutil.rmtree(cell(copy, "no history", 1).evaluation)
    alone = replace(study, variants={"no history": {SHORT: 0}}, seeds=[1], baselines=True)
    row = run_study(alone, copy, progress=False)["variants"]["no history"]
    report = read_json(cell(copy, "no history", 1).evaluation / "metrics.json")["retrievers"]
    assert {"bm25", "popularity", "transitions"} <= set(row["orders"]) == set(report) - {"onesearch"}
    for name, order in row["orders"].items():
        expected = report[name]["targets"]["purchase"]["item"]["HR@10"]["value"]
        assert order["HR@10"]["mean"] == pytest.approx(expected)
        assert order["HR@10"]["lead"]["mean"] == pytest.approx(expected - row["HR@10"]["mean"])
    assert row["HR@10"]["seeds"] == summary["variants"]["no history"]["HR@10"]["seeds"][:1]
    table = to_table(read_json(copy / "study.json"))
    assert "| no history | served | " in table and "| no history | bm25 | " in table


def test_a_seed_reaches_everything_that_is_trained(base):
    parts = {"training.soft_targets": {"weight": 0.5}, "reward": {}, "dense": {}}
    recipe = recipe_of(Study(name="x", base=base, variants={"all": parts}), "all", 7)
    trained = (
        recipe.encoder,
        recipe.codes,
        recipe.training.soft_targets,
        recipe.training.soft_targets.reward,
        recipe.dense,
        recipe.reward,
    )
    assert [part.seed for part in trained] == [7] * 6 and recipe.training.arguments["seed"] == 7


def test_arms_of_preference_training_share_their_first_stages(base, tmp_path, monkeypatch):
    """Each arm begins with the reward model and the stages of the arm before it, and trains its last stage alone."""
    common = {"max_steps": 2, "per_device_train_batch_size": 4, "use_cpu": True, "save_strategy": "no", "eval_strategy": "no"}
    common["logging_steps"] = 1
    first, second = ({"name": name, "lists": {"num_beams": 6}, "arguments": common} for name in ("dpo-1", "dpo-2"))
    grpo = {"name": "grpo", "arguments": {**common, "num_generations": 4, "per_device_train_batch_size": 8}}
    shared = {"requests": 40, "validation_requests": 4}
    variants = {
        "supervised": {},
        "one": {"preference": {"stages": [first], **shared}},
        "two": {"preference": {"stages": [first, second], **shared}},
        "other": {"preference": {"stages": [grpo], **shared}},
    }
    reward = {"epochs": 1, "warm_up": 0.5, "searches": 20, "text_index": False}
    study = Study(name="arms", base=base, common={"reward": reward}, variants=variants, seeds=[1])
    seeds = [stage.arguments["seed"] for name in ("two", "other") for stage in recipe_of(study, name, 1).preference.stages]
    assert seeds == [1, 1, 1]
    trained = []

    def counted(name):
        own = getattr(run_module, name)

        def make(recipe, run, *more):
            trained.append((run.root.parent.name, name, *more[:1]))
            return own(recipe, run, *more)

        return make

    for name in ("make_reward", "make_preference_stage"):
        monkeypatch.setattr(run_module, name, counted(name))
    runs = tmp_path / "arms"
    run_study(study, runs, progress=False)
    stage = "make_preference_stage"
    assert trained == [("supervised", "make_reward"), ("one", stage, 0), ("two", stage, 1), ("other", stage, 0)]
    weights = "training/dpo-1/model/model.safetensors"
    one, two, before = (cell(runs, name, 1).root for name in ("one", "two", "supervised"))
    assert (one / weights).read_bytes() == (two / weights).read_bytes()
    policies = [(root / "checkpoint" / "model.safetensors").read_bytes() for root in (before, one, two)]
    assert len(set(policies)) == 3  # a later arm changes a copy
    reports = [read_json(root / "evaluation" / "dpo-1" / "metrics.json") for root in (one, two)]
    assert reports[0] == reports[1] and (two / "evaluation" / "dpo-2" / "metrics.json").exists()
