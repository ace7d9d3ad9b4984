"""Training a run: stages, their order and resumption, and what a checkpoint holds afterwards."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from safetensors.numpy import load_file

from onesearch import OneSearchForCausalLM, PromptLayout, RunFolder, Searcher
from onesearch.files import read_json
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.tokenization_sid.templates import PLAIN_LAYOUT
from onesearch.trainers.configs import SidLoraConfig, StageConfig
from onesearch.trainers.run_inputs import load_inputs
from onesearch.trainers.training import train_run

STAGES = ["1-alignment", "2-co-occurrence", "3-personalised"]


@pytest.fixture
def untrained(shared_run, tmp_path):
    """The tiny run without training and checkpoint."""
    run = RunFolder(tmp_path / "run")
    for part in ("market", "embeddings", "sids"):
        shutil.copytree(getattr(shared_run, part), getattr(run, part))
    return run


def steps(config, count, **changes):
    """The configuration with one stage of a few steps."""
    arguments = {**config.arguments, "max_steps": count, "eval_strategy": "no", "save_strategy": "no"}
    return replace(config, stages=(StageConfig("personalised"),), arguments=arguments, **changes)


def weights(run):
    return load_file(run.checkpoint / "model.safetensors")


def test_every_stage_leaves_its_configuration_its_log_and_its_weights(shared_run):
    for name in STAGES:
        folder = shared_run.training / name
        assert (folder / "model" / "model.safetensors").is_file() and read_json(folder / "stage.json")["name"] == name[2:]
        assert {entry["stage"] for entry in read_json(folder / "log.json")} == {name[2:]}
    log = read_json(shared_run.training / "log.json")
    assert [stage for stage in dict.fromkeys(entry["stage"] for entry in log)] == [name[2:] for name in STAGES]
    measured = [entry for entry in log if "eval_hr@10" in entry]
    assert measured and all(entry["stage"] == "personalised" for entry in measured)
    assert len(list((shared_run.training / "examples").glob("*.arrow"))) >= 14


def test_a_checkpoint_holds_all_that_its_prompts_need(shared_run, shared_searcher):
    names = {path.name for path in shared_run.checkpoint.iterdir()}
    assert {"query_encoder", "default_histories.parquet", "sid_index.safetensors"} <= names
    config = shared_searcher.model.config
    assert (config.long_view_tokens, config.long_view_sequences, config.long_view_levels) == (3, 2, 3)
    assert config.long_view_token_id == shared_searcher.tokenizer.long_view_token_id
    assert shared_searcher.tokenizer.prompt == PromptLayout()


def test_a_stopped_training_goes_on_with_the_stage_it_was_in(shared_run, run, recipe):
    expected = weights(shared_run)
    shutil.rmtree(run.checkpoint)
    shutil.rmtree(run.training / STAGES[2])
    first = (run.training / STAGES[0] / "model" / "model.safetensors").stat().st_mtime_ns
    train_run(run, recipe.training, resume=True, progress=False)
    assert (run.training / STAGES[0] / "model" / "model.safetensors").stat().st_mtime_ns == first
    found = weights(run)
    assert found.keys() == expected.keys() and all((found[name] == expected[name]).all() for name in expected)
    assert {entry["stage"] for entry in read_json(run.training / "log.json")} == {name[2:] for name in STAGES}


def test_a_stage_of_another_configuration_is_not_resumed(run, recipe):
    stages = (StageConfig("alignment", {"item-text-to-sid": 1}), *recipe.training.stages[1:])
    with pytest.raises(ValueError, match="another configuration of stage 'alignment'"):
        train_run(run, replace(recipe.training, stages=stages), resume=True, progress=False)


def test_training_anew_forgets_what_was(run, recipe):
    search = SearchConfig(num_beams=7, rank_by="item", exclude_history=True)
    train_run(run, steps(recipe.training, 1, prompt=PLAIN_LAYOUT), search, progress=False)
    assert read_json(run.training / "1-personalised" / "stage.json")["name"] == "personalised"
    assert SearchConfig.from_pretrained(run.checkpoint) == search
    searcher = Searcher.from_pretrained(run.checkpoint, num_beams=5)
    assert searcher.tokenizer.prompt == PLAIN_LAYOUT and searcher.views.query_encoder is None
    assert not (run.checkpoint / "query_encoder").exists() and len(searcher.search("red shoe", top_k=3)) == 3


WAYS = {"adapter": {"lora": SidLoraConfig(r=2)}, "streaming": {"streaming": True}, "self-distillation": {"distillation": {}}}


@pytest.mark.parametrize("changes", WAYS.values(), ids=WAYS)
def test_other_ways_to_train(untrained, recipe, changes):
    train_run(untrained, steps(recipe.training, 2, **changes), progress=False)
    searcher = Searcher.from_pretrained(untrained.checkpoint, num_beams=5)
    assert len(searcher.search("red shoe", top_k=3)) == 3
    assert not [name for name in weights(untrained) if "lora" in name]  # merged


def test_a_decoder_alone(untrained, recipe):
    model = replace(recipe.training.model, backbone="qwen3")
    train_run(untrained, steps(recipe.training, 2, model=model), progress=False)
    searcher = Searcher.from_pretrained(untrained.checkpoint, num_beams=5)
    assert isinstance(searcher.model, OneSearchForCausalLM)
    items = searcher.model.sid_index.item_ids[:3]
    assert len(searcher.search("red shoe", items, top_k=3)) == 3


def test_a_task_on_sids_of_queries_gets_them_though_prompts_show_none(untrained, recipe):
    stages = (StageConfig("mine", {"item-sid-to-query-sid": 1}),)
    config = replace(recipe.training, stages=stages, prompt=PLAIN_LAYOUT)
    builder = load_inputs(untrained, config).builder
    assert sum(map(len, builder.chunks("item-sid-to-query-sid", "train"))) > 0


def test_a_market_without_what_a_stage_learns_says_so(untrained, recipe):
    from onesearch.data.market import Market

    market = Market.load(untrained.market)
    empty = replace(market, sessions=market.sessions.select([]).flatten_indices())
    empty.save(untrained.market)
    with pytest.raises(ValueError, match="nothing to train on.*clicks"):
        train_run(untrained, steps(recipe.training, 1, prompt=PLAIN_LAYOUT), progress=False)
