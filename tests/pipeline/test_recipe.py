"""Recipes: what ships loads, and a recipe that does not fit says where."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from onesearch.pipeline.mappings import build
from onesearch.pipeline.recipe import load_recipe, recipe_names

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_are_short_and_load_strictly(name, tmp_path):
    path = ROOT / "trainers" / "recipes" / f"{name}.yaml"
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 25
    recipe = load_recipe(name)
    assert recipe.name == name == load_recipe(path).name
    from onesearch.trainers.sft.sft_config import SidSFTConfig

    SidSFTConfig(**{"output_dir": str(tmp_path), **recipe.training.arguments})
    other = tmp_path / "other.yaml"
    other.write_text(f"{text}\nlearning_rates: 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="unknown key 'learning_rates'.*training"):
        load_recipe(other)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": "x", "training": {"model": {"d_modell": 8}}}, "recipe.training.model: unknown key 'd_modell'.*d_model"),
        ({"name": "x", "market": ["simulate"]}, "recipe.market must be a mapping"),
        ({"market": {}}, "recipe: .*name"),
        ({"name": "x", "codes": {"residual_sizes": [4, 0]}}, r"residual_sizes=\(4, 0\)"),
        (
            {"name": "x", "codes": {"quantizer": "vq"}},
            "recipe.codes.quantizer: 'vq' is unknown; allowed are rq-opq, rq-k-means",
        ),
        ({"name": "x", "codes": {"quantizer": ["rq-opq"]}}, "recipe.codes.quantizer: .* is unknown"),
        (
            {"name": "x", "codes": {"top_k": 3}},
            r"recipe.codes \(rq-opq\): unknown key 'top_k'; allowed are residual_sizes, opq",
        ),
        ({"name": "x", "codes": {"quantizer": "sim-vq", "opq": [2, 4]}}, r"recipe.codes \(sim-vq\): unknown key 'opq'"),
        ({"name": "x", "codes": {"quantizer": "rq-vae", "residual_sizes": 5}}, r"recipe.codes \(rq-vae\): 'int' object"),
        ({"name": "x", "codes": ["rq-opq"]}, "recipe.codes must be a mapping"),
        ({"name": "x", "search": {"rank_by": "share"}}, "rank_by='share' is unknown; allowed are 'sid', 'item'"),
        ({"name": "x", "search": {"num_beams": 1.5}}, "recipe.search: num_beams=1.5 must be a whole number"),
        (
            {"name": "x", "evaluation": {"num_beams": 5}},
            "recipe.evaluation: unknown key 'num_beams'; allowed are split, sample",
        ),
        ({"name": "x", "training": {"stages": {"name": "a"}}}, "recipe.training.stages must be a list of mappings"),
        ({"name": "x", "training": {"stages": [{"nam": "a"}]}}, r"recipe.training.stages\[0\]: unknown key 'nam'"),
    ],
)
def test_a_recipe_that_does_not_fit_says_where(values, words):
    from onesearch.pipeline.recipe import Recipe

    with pytest.raises(ValueError, match=words):
        build(Recipe, values, "recipe")


def test_a_recipe_survives_its_file(recipe, tmp_path):
    from onesearch.pipeline.recipe import save_recipe

    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize(
    ("codes", "kind"),
    [
        ({"residual_sizes": [4, 2]}, "rq-opq"),  # as before there was a choice
        ({"quantizer": "rq-opq", "residual_sizes": [4, 2], "opq": [1, 2]}, "rq-opq"),
        ({"quantizer": "rq-k-means", "residual_sizes": [4, 2]}, "rq-k-means"),
        ({"quantizer": "prq-k-means", "top_k": 2}, "prq-k-means"),
        ({"quantizer": "rq-vae", "hidden": [8], "steps": 3}, "rq-vae"),
        ({"quantizer": "sim-vq", "hidden": []}, "sim-vq"),
    ],
)
def test_a_recipe_chooses_its_quantizer(codes, kind, tmp_path):
    from onesearch.pipeline.recipe import Recipe, save_recipe
    from onesearch.tokenization_sid.quantizers.loading import QUANTIZERS

    recipe = build(Recipe, {"name": "x", "codes": codes}, "recipe")
    assert type(recipe.codes) is QUANTIZERS[kind].config_class and recipe.codes.quantizer == kind
    save_recipe(recipe, tmp_path / "recipe.yaml")
    again = load_recipe(tmp_path / "recipe.yaml")
    assert again == recipe and type(again.codes) is type(recipe.codes)


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(FileNotFoundError, match="'demoo'.*demo"):
        load_recipe("demoo")


def test_reading_a_recipe_imports_no_heavy_library():
    code = """
import sys
from onesearch.pipeline.recipe import load_recipe, recipe_names
from onesearch.pipeline.study import load_study
for name in recipe_names():
    load_recipe(name)
load_study(sys.argv[1])
heavy = {"torch", "transformers", "trl", "peft", "sentence_transformers", "datasets"} & set(sys.modules)
assert not heavy, heavy
"""
    study = str(ROOT / "trainers" / "recipes" / "studies" / "views.yaml")
    subprocess.run([sys.executable, "-c", code, study], check=True)
