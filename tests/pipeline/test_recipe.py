"""Recipes: what ships loads, and a recipe that does not fit says where."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from onesearch.pipeline.mappings import build
from onesearch.pipeline.recipe import load_recipe, recipe_names
from onesearch.pipeline.study import load_study
from onesearch.tokenization_sid.keywords.configs import KeywordConfig, RecogniserConfig

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
        (
            {"name": "x", "search": {"dense_weight": 5.0}},
            "ask for a dense index, which the recipe does not make; add `dense: {}`",
        ),
        ({"name": "x", "search": {"candidates": "beam+dense"}}, "ask for a dense index"),
        ({"name": "x", "dense": {"temperature": 0}}, "dense.temperature=0 is invalid"),
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
        (
            {"name": "x", "codes": {"quantizer": "rq-vae", "residual_sizes": 5}},
            r"recipe.codes \(rq-vae\).residual_sizes must be a list, got 5",
        ),
        ({"name": "x", "codes": ["rq-opq"]}, "recipe.codes must be a mapping"),
        ({"name": "x", "search": {"rank_by": "share"}}, "rank_by='share' is unknown; allowed are 'sid', 'item'"),
        ({"name": "x", "search": {"num_beams": 1.5}}, "recipe.search.num_beams must be a whole number, got 1.5"),
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


WRONG = {
    "name: 5": "recipe.name must be text, got 5",
    "name: ../../x": "name='../../x' is no name of a folder; use letters",
    "name: a/b": "name='a/b' is no name of a folder",
    "name: ''": "name='' is no name of a folder",
    "keywords: maybe": "recipe.keywords must be true, false or a mapping, got 'maybe'",
    "keywords: {cores: 6}": "recipe.keywords: unknown key 'cores'; allowed are fusion, core, recogniser, training",
    "keywords: {core: 0}": "recipe.keywords: core=0 is invalid; give at least 1",
    "keywords: {training: {open_types: [brnd]}}": "recipe.keywords.training: open_types holds 'brnd'; allowed are entity, modifier",
    "keywords: {recogniser: own}": "recipe.keywords.recogniser must be true or false, got 'own'",
    "keywords: {training: {steps: few}}": "recipe.keywords.training.steps must be a whole number, got 'few'",
    "dictionary: [x]": "recipe.dictionary must be text, got ['x']",
    "fit_on: queries": "fit_on='queries': allowed are items, both",
    "processes: 0": "processes=0 must be at least 1",
    "processes: '2'": "recipe.processes must be a whole number, got '2'",
    "market: {importer: simulat}": "importer 'simulat' is unknown; allowed are simulate, amazon",
    "market: {source: 3}": "recipe.market.source must be text, got 3",
    "market: {options: [1]}": "recipe.market.options must be a mapping, got [1]",
    "encoder: null": "recipe.encoder must be a mapping, got None",
    "encoder: {dimension: -1}": "encoder.dimension=-1 is invalid; give at least 1",
    "encoder: {epochs: 1.5}": "recipe.encoder.epochs must be a whole number, got 1.5",
    "encoder: {learning_rate: .nan}": "recipe.encoder.learning_rate must be a finite number, got nan",
    "encoder: {learning_rate: 1e-3}": "must be a finite number, got '1e-3'; YAML takes 1e-3 for text, write 0.001",
    "alignment: {temperature: .inf}": "recipe.alignment.temperature must be a finite number, got inf",
    "alignment: {q2q: true}": "recipe.alignment.q2q must be a finite number, got True",
    "codes: {residual_sizes: [a]}": "residual_sizes[0] must be a whole number, got 'a'",
    "codes: {opq: [2]}": "opq must be a list of 2 values, got [2]",
    "codes: {slack: .nan}": "slack must be a finite number, got nan",
    "search: {num_beams: fifty}": "recipe.search.num_beams must be a whole number, got 'fifty'",
    "search: {exclude_history: 1}": "recipe.search.exclude_history must be true or false, got 1",
    "evaluation: {split: tset}": "split='tset': allowed are validation, test",
    "evaluation: {sample: all}": "recipe.evaluation.sample must be a whole number, got 'all'",
    "evaluation: {relevant_grade: 0}": "relevant_grade=0 is no grade",
    "evaluation: {sample: 0}": "sample=0 must be at least 1",
    "training: {arguments: [a]}": "recipe.training.arguments must be a mapping, got ['a']",
    "training: {arguments: {learning_rate: .nan}}": "recipe.training.arguments.learning_rate must be finite, got nan",
    "training: {arguments: {output_dir: .}}": "output_dir='.'",
    "training: {streaming: maybe}": "recipe.training.streaming must be true or false, got 'maybe'",
    "training: {validation_beams: 9}": "validation_beams=9 must be at least 10",
    "training: {model: {d_model: 30}}": "d_model=30 must be divisible by attention_heads=4",
    "training: {model: {encoder_layers: -1}}": "encoder_layers=-1 must be at least 1",
    "training: {model: {dropout: 1.5}}": "dropout=1.5 must be below 1",
    "training: {prompt: {items: '5'}}": "recipe.training.prompt.items must be a whole number, got '5'",
    "training: {prompt: {name: serch}}": "prompt template 'serch' is unknown; known are search/2",
    "training: {prompt: {long_view_sequences: clicked}}": "long_view_sequences must be a list, got 'clicked'",
    "training: {prompt: {long_view_sequences: [clickd]}}": "holds 'clickd'; allowed are clicked, purchased, shown",
    "training: {stages: [{name: alignment, tasks: {purchases: '1'}}]}": "tasks.purchases must be a finite number, got '1'",
    "training: {stages: [{name: ../x, tasks: {purchases: 1}}]}": "stage name '../x' is no name of a folder",
    "training: {examples: {language: fr}}": "language='fr': allowed are en, zh",
    "training: {lora: {target_modules: q_proj}}": "target_modules must be a list, got 'q_proj'",
    "training: {lora: {r: 0}}": "r=0 must be at least 1",
}
"""One wrong value each, and what the error says: key, value and what is allowed."""


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_value_is_refused_when_the_recipe_is_read(line, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(line if line.startswith("name") else f"name: x\n{line}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(WRONG[line])) as refused:
        load_recipe(path)
    assert str(refused.value).startswith("recipe")


WRONG_AT_THE_START = {
    "market: {options: {items: many}}": "options.items must be a whole number, got 'many'",
    "market: {options: {items: 3}}": "items=3 is out of range; allowed are 50 to",
    "market: {importer: amazon, options: {bad_row: drop}}": "options: unknown key 'bad_row'; allowed are ",
    "market: {importer: amazon, options: {bad_rows: 1}}": "options.bad_rows must be text, got 1",
    "training: {arguments: {learning_rate: fast}}": "learning_rate='fast': numbers of at least 0 are allowed",
    "training: {stages: [{name: alignment, arguments: {num_train_epoch: 1}}]}": "num_train_epoch",
}
"""Wrong values that only the libraries of the tables or of the training know."""


@pytest.mark.parametrize("line", WRONG_AT_THE_START)
def test_a_wrong_value_is_refused_before_anything_is_written(line, tmp_path):
    from onesearch import RunFolder
    from onesearch.pipeline.run import run_recipe

    (tmp_path / "mine.yaml").write_text(f"name: x\n{line}\n", encoding="utf-8")
    recipe = load_recipe(tmp_path / "mine.yaml")
    with pytest.raises((ValueError, TypeError), match=re.escape(WRONG_AT_THE_START[line])):
        run_recipe(recipe, RunFolder(tmp_path / "run"), progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("key", "words"), [("name: ../x", "is no name of a folder"), ("seeds: [-1]", "must be at least 0")])
def test_a_wrong_value_of_a_study_is_refused_when_it_is_read(key, words, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(f"{'' if key.startswith('name') else 'name: x'}\nvariants: {{a: {{}}}}\n{key}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        load_study(path)


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


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        (True, KeywordConfig()),
        (False, None),
        (None, None),
        (
            {"fusion": "always", "core": 6, "recogniser": True, "training": {"steps": 9, "open_types": ["brand"]}},
            KeywordConfig("always", 6, True, RecogniserConfig(steps=9, open_types=("brand",))),
        ),
    ],
)
def test_a_recipe_chooses_its_keywords(keywords, expected, tmp_path):
    from onesearch.pipeline.recipe import Recipe, save_recipe

    recipe = build(Recipe, {"name": "x", "keywords": keywords}, "recipe")
    assert recipe.keywords == expected
    save_recipe(recipe, tmp_path / "recipe.yaml")
    assert load_recipe(tmp_path / "recipe.yaml") == recipe


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(FileNotFoundError, match="'demoo'.*demo"):
        load_recipe("demoo")


def test_reading_a_recipe_imports_no_heavy_library():
    code = """
import sys
from onesearch.pipeline.recipe import load_recipe, recipe_names
from onesearch.pipeline.study import load_study
from onesearch.tokenization_sid.keywords.configs import KeywordConfig, RecogniserConfig
for name in recipe_names():
    load_recipe(name)
load_study(sys.argv[1])
heavy = {"torch", "transformers", "trl", "peft", "sentence_transformers", "datasets"} & set(sys.modules)
assert not heavy, heavy
"""
    study = str(ROOT / "trainers" / "recipes" / "studies" / "views.yaml")
    subprocess.run([sys.executable, "-c", code, study], check=True)
