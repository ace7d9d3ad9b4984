"""`onesearch run` with UniSearch: its checkpoint works wherever OneSearch's does."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from onesearch import PromptLayout, RunFolder, Searcher, SidIndex
from onesearch.data.market import Market
from onesearch.files import read_json
from onesearch.modeling_onesearch.search_config_onesearch import SearchConfig
from onesearch.pipeline.appending import append_to_run
from onesearch.pipeline.recipe import EvaluationConfig, MarketConfig, load_recipe, recipe_values
from onesearch.pipeline.run import make_steps, preference_steps, run_recipe
from onesearch.serving.item_encoding import FrozenItemEncoder
from onesearch.trainers.configs import ModelConfig, TrainingConfig
from onesearch.trainers.dpo.preference_config import PreferenceConfig, PreferenceStage
from onesearch.trainers.reward.reward_config import RewardConfig
from onesearch.trainers.unisearch.training import train_unisearch_run
from onesearch.trainers.unisearch.unisearch_config import UniSearchTrainingConfig

PROMPT = PromptLayout(items=3, queries=0, sid=False, user=False, long_view_tokens=0, profile=False, default_history=False)


@pytest.fixture(scope="module")
def unisearch_run(recipe, tmp_path_factory):
    """A run of a few steps with features, statistics and a reward model."""
    options = {"items": 120, "sessions": 400, "oracle_requests": 0, "judged_queries": 5, "seed": 3, "preset": "full"}
    model = ModelConfig(
        text_vocab_size=300, d_model=32, encoder_layers=1, decoder_layers=1, attention_heads=2, ffn_dim=32, dropout=0.0
    )
    arguments = {"max_steps": 12, "per_device_train_batch_size": 16, "eval_strategy": "steps", "eval_steps": 12}
    arguments |= {"save_strategy": "no", "use_cpu": True, "logging_steps": 4}
    settings = UniSearchTrainingConfig(codebook_sizes=(8, 8, 8), warm_up=0.3, freeze=0.6, collapse=0.0)
    training = TrainingConfig(
        model=model, prompt=PROMPT, unisearch=settings, arguments=arguments, validation_requests=5, validation_beams=10
    )
    own = replace(
        recipe,
        name="unisearch",
        market=MarketConfig("simulate", None, options),
        codes=None,
        training=training,
        reward=RewardConfig(epochs=1, searches=20, text_index=False),
        search=SearchConfig(num_beams=10),
        evaluation=EvaluationConfig(sample=10, tune_cascade=False, sasrec=False),
    )
    run = RunFolder(tmp_path_factory.mktemp("unisearch") / "run")
    report = run_recipe(own, run, progress=False, baselines=False)
    return run, report


def test_the_run_has_all_parts_with_one_fingerprint(unisearch_run):
    run, report = unisearch_run
    assert set(report.retrievers) == {"onesearch", "onesearch_reward"}
    searcher = Searcher.from_pretrained(run.checkpoint)
    config = searcher.model.config
    assert config.model_type == "unisearch" and config.item_features == 16 and "click_count" in config.item_statistics
    assert config.sid_fingerprint == searcher.tokenizer.sid_fingerprint == searcher.index.fingerprint
    assert read_json(run.sids / "diagnostics.json")["fingerprint"] == config.sid_fingerprint
    assert "8-8-8" in (run.checkpoint / "README.md").read_text(encoding="utf-8")
    log = read_json(run.training / "log.json")
    assert {"utilisation_0", "perplexity_2", "collisions"} <= set().union(*log) and any("eval_hr@10" in entry for entry in log)


def test_the_searcher_ranks_by_the_reward_model(unisearch_run):
    run, _ = unisearch_run
    searcher = Searcher.from_pretrained(run.checkpoint)
    history = searcher.index.item_ids[:3]
    hits = searcher.search("red shoes", history=history, top_k=5, explain=True)
    assert len(hits) == 5 and hits[0].towers is not None and searcher.config.rerank
    plain = searcher.search("red shoes", history=history, top_k=5, rerank=False)
    assert [hit.score for hit in plain] == sorted((hit.score for hit in plain), reverse=True)


def test_the_published_codes_are_those_of_the_frozen_item_encoder(unisearch_run):
    from onesearch.data.market import Market

    run, _ = unisearch_run
    market, encoder = Market.load(run.market), FrozenItemEncoder.load(run.checkpoint)
    index = Searcher.from_pretrained(run.checkpoint).index
    codes = index.codes_of(market.items["item_id"][:])
    assert np.array_equal(encoder.encode(market).codes, codes)
    with pytest.raises(ValueError, match="no checkpoint of UniSearch"):
        FrozenItemEncoder.load(run.market)


def test_search_preference_optimisation_moves_the_generator_alone(unisearch_run, tmp_path):
    """SPO: the beam's candidates, the reward model and the session's feedback as reward, KL to the pre-trained model."""
    origin, _ = unisearch_run
    run = RunFolder(tmp_path / "run")
    shutil.copytree(origin.root, run.root)
    arguments = {"max_steps": 2, "per_device_train_batch_size": 16, "num_generations": 4, "expert_sids": 1, "logging_steps": 1}
    arguments |= {"learning_rate": 1e-3, "use_cpu": True, "save_strategy": "no"}
    stage = PreferenceStage("spo", method="grpo", preset="spo", arguments=arguments)
    config = PreferenceConfig((stage,), requests=40, validation_requests=4)
    recipe = replace(load_recipe(origin.root / "recipe.yaml"), preference=config)
    make_steps(preference_steps(recipe, run, resume=False, progress=False))
    before, after = (load_file(part.checkpoint / "model.safetensors") for part in (origin, run))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("decoder" in name for name in moved)
    assert not any("item_encoder" in name or "quantizer" in name for name in moved)  # published SIDs never move
    log = read_json(run.training / "spo" / "log.json")
    assert all(entry["kl"] >= 0 for entry in log if "kl" in entry) and any(entry.get("reward") for entry in log)
    assert (run.evaluation / "supervised" / "metrics.json").exists() and (run.evaluation / "spo" / "metrics.json").exists()
    assert Searcher.from_pretrained(run.checkpoint).search("red shoes", top_k=3)


def test_new_items_are_appended_and_published_sids_stay(unisearch_run, tmp_path):
    run, _ = unisearch_run
    items = pq.read_table(run.market / "items.parquet").slice(0, 3)
    named = items.set_column(items.column_names.index("item_id"), "item_id", [["new-0", "new-1", "new-2"]])
    pq.write_table(named, tmp_path / "new.parquet")
    before = Searcher.from_pretrained(run.checkpoint).index
    report = append_to_run(run, tmp_path / "new.parquet")
    after = Searcher.from_pretrained(run.checkpoint)
    assert report.collisions is not None and len(after.index) == len(before) + 3
    assert np.array_equal(after.index.codes_of(list(before.item_ids)), before.codes_of(list(before.item_ids)))
    copies = after.index.codes_of(["new-0", "new-1", "new-2"])
    assert np.array_equal(copies, before.codes_of(items.column("item_id").to_pylist()))
    found = after.search("anything", items=["new-1"], rerank=False)
    assert [hit.item_id for hit in found] == ["new-1"]


def test_settings_that_do_not_apply_are_refused(tmp_path):
    recipe = load_recipe("unisearch")
    assert recipe_values(recipe)["training"]["unisearch"]["codebook_sizes"] == [64, 64, 64]
    training = recipe.training
    for changes, word in (
        ({"prompt": PromptLayout()}, "long_view_tokens"),
        ({"distillation": {}}, "distillation"),
        ({"streaming": True}, "streaming"),
        ({"model": ModelConfig(backbone="qwen3")}, "qwen3"),
    ):
        with pytest.raises(ValueError, match=word):
            replace(training, **changes)


def test_a_resumed_training_of_another_configuration_is_refused(unisearch_run, caplog):
    from onesearch.trainers.training import train_run

    run, _ = unisearch_run
    recipe = load_recipe(run.root / "recipe.yaml")
    other = replace(recipe.training, unisearch=replace(recipe.training.unisearch, temperature=0.3))
    with caplog.at_level(logging.ERROR), pytest.raises(ValueError, match="another configuration"):
        train_run(run, other, resume=True, progress=False)


def test_a_finished_training_is_published_again_without_training(unisearch_run, tmp_path, monkeypatch):
    """A run that was stopped between its last step and its checkpoint, or a cell of a study, has the weights and trains no second time."""
    origin, _ = unisearch_run
    run = RunFolder(shutil.copytree(origin.root, tmp_path / "run"))
    items = Market.load(run.market).items.data.column("item_id").to_pylist()
    weights = (run.checkpoint / "model.safetensors").read_bytes()
    codes = SidIndex.load(run.sids / "sid_index.safetensors").codes_of(items)
    shutil.rmtree(run.checkpoint)
    shutil.rmtree(run.sids)

    def refused(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr("onesearch.trainers.unisearch.unisearch_trainer.UniSearchTrainer.train", refused)
    recipe = load_recipe(run.root / "recipe.yaml")
    train_unisearch_run(run, recipe.training, recipe.search, resume=True, progress=False)
    assert (run.checkpoint / "model.safetensors").read_bytes() == weights
    assert np.array_equal(SidIndex.load(run.sids / "sid_index.safetensors").codes_of(items), codes)
    with pytest.raises(AssertionError, match="trained again"):
        train_unisearch_run(run, recipe.training, recipe.search, resume=False, progress=False)
