"""Soft targets in a run: lists are made once, a killed training ends like an uninterrupted one, and nothing else changes."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import pytest
import torch
from run_copies import copied
from safetensors.torch import load_file

from onesearch.files import read_json
from onesearch.modeling_onesearch.catalogue_onesearch import SID_INDEX_NAME, SidIndex
from onesearch.serving.text_index import TextIndex
from onesearch.tokenization_sid.templates import PromptLayout
from onesearch.trainers import stages as module
from onesearch.trainers.configs import StageConfig
from onesearch.trainers.reward.reward_config import RewardConfig
from onesearch.trainers.run_inputs import load_inputs
from onesearch.trainers.soft import making
from onesearch.trainers.soft.making import FOLDER_NAME, make_lists
from onesearch.trainers.soft.soft_config import SoftTargetConfig
from onesearch.trainers.training import train_run
from onesearch.views.session_views import SessionViews

PLAIN = PromptLayout(items=3, queries=0, sid=False, user=False, long_view_tokens=0, profile=False, default_history=False)

VECTORS = replace(PLAIN, items=6, item_form="vector")

SOFT = SoftTargetConfig(
    reward=RewardConfig(hidden_size=8, attention_heads=2, tower_size=8, epochs=1),
    items=20,
    text_candidates=40,
    transition_candidates=10,
    weight=0.8,
    paths=1,
    unseen=0.2,
)


@pytest.fixture
def untrained(shared_run, tmp_path):
    return copied(shared_run, tmp_path / "untrained")


def training(recipe, layout=PLAIN, **arguments):
    values = {**recipe.training.arguments, "max_steps": 6, "eval_strategy": "no", "save_strategy": "steps", "save_steps": 2}
    values |= {"weight_average": "ema", "ema_decay": 0.5, "average_from": 0.0, "sid_smoothing": 0.1, **arguments}
    model = replace(recipe.training.model, dropout=0.1)
    stage = StageConfig("personalised", {"purchases": 1, "item-text-to-sid": 1})
    return replace(recipe.training, stages=(stage,), arguments=values, prompt=layout, model=model, soft_targets=SOFT)


def weights(run):
    return load_file(run.checkpoint / "model.safetensors")


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("layout", [PLAIN, VECTORS], ids=["tokens", "vectors"])
def test_a_killed_training_ends_like_an_uninterrupted_one(untrained, recipe, monkeypatch, layout):
    """All options at once: teacher, paths, unseen requests, smoothing and the average; the lists are not made again."""
    train_run(untrained, training(recipe, layout), progress=False)
    expected = weights(untrained)
    (lists,) = (untrained.training / FOLDER_NAME).glob("reward-*.parquet")
    written = lists.stat().st_mtime_ns
    log = read_json(untrained.training / "log.json")
    assert all(entry["soft_kl"] > 0 for entry in log if "loss" in entry and "soft_kl" in entry) and any(
        "soft_kl" in e for e in log
    )
    shutil.rmtree(untrained.checkpoint)
    shutil.rmtree(untrained.training / "1-personalised")

    made = module.SidSoftTrainer.training_step
    steps = []

    def killed(self, *arguments, **settings):
        if len(steps) == 3:
            raise Killed
        steps.append(None)
        return made(self, *arguments, **settings)

    monkeypatch.setattr(module.SidSoftTrainer, "training_step", killed)
    with pytest.raises(Killed):
        train_run(untrained, training(recipe, layout), progress=False)
    monkeypatch.setattr(module.SidSoftTrainer, "training_step", made)
    monkeypatch.setattr(making, "build_teacher", lambda *_: pytest.fail("the lists are there"))
    train_run(untrained, training(recipe, layout), resume=True, progress=False)
    found = weights(untrained)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)
    assert lists.stat().st_mtime_ns == written


def test_lists_of_other_settings_are_made_anew(untrained, recipe, monkeypatch):
    """Weight, temperature and paths belong to the training; all else to the lists. Several processes do not make them."""
    views = SessionViews(_market(untrained), SidIndex.load(untrained.sids / SID_INDEX_NAME), PLAIN)
    counts = SoftTargetConfig(teacher="transitions", items=5)
    first = make_lists(untrained, views, counts)
    folder = untrained.training / FOLDER_NAME
    assert len(list(folder.iterdir())) == 1
    assert len(make_lists(untrained, views, replace(counts, weight=0.1, temperature=2.0, paths=3))) == len(first)
    assert len(list(folder.iterdir())) == 1
    assert max(make_lists(untrained, views, replace(counts, items=3)).items.lengths) == 3
    assert len(list(folder.iterdir())) == 2
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    with pytest.raises(FileNotFoundError, match="prepare_teacher"):
        make_lists(untrained, views, replace(counts, items=4))


def _market(run):
    from onesearch.data.market import Market

    return Market.load(run.market)


@pytest.mark.parametrize("other", [{"distillation": {}}, {"streaming": True}])
def test_what_does_not_combine_is_refused(recipe, other):
    (name,) = other
    with pytest.raises(ValueError, match=f"soft_targets and {name} do not combine"):
        replace(recipe.training, soft_targets=SOFT, **other)


def test_made_queries_learn_from_the_text_match(untrained, recipe):
    stage = StageConfig("words", {"item-matches": 1, "item-queries": 1, "item-text-to-sid": 1})
    soft = SoftTargetConfig(teacher="none", made_queries=True, items=15, weight=0.8)
    config = replace(training(recipe), stages=(stage,), soft_targets=soft)
    train_run(untrained, config, progress=False)
    log = read_json(untrained.training / "log.json")
    assert any(entry.get("soft_kl", 0) > 0 for entry in log)
    assert not (untrained.training / FOLDER_NAME).exists()
    inputs = load_inputs(untrained, config)
    inputs.builder.made_lists = 15
    index = TextIndex.of(inputs.builder.market)
    rows = next(inputs.builder.chunks("item-matches", "train")).to_pylist()[:20]
    names = inputs.builder.market.items.data.column("item_id").to_pylist()
    for row in rows:
        query = inputs.tokenizer.decode(row["input_ids"], skip_special_tokens=True)
        ranked = index.ranked(query, 15)
        assert [names[item] for item in row["teacher_items"]] == [name for name, _ in ranked]
        assert row["teacher_scores"] == pytest.approx([10 * score / ranked[0][1] for _, score in ranked], rel=1e-5)
    texts = next(inputs.builder.chunks("item-text-to-sid", "train")).to_pylist()
    assert not any(row["teacher_items"] for row in texts)


def test_a_teacher_that_teaches_nothing_is_refused():
    with pytest.raises(ValueError, match="leaves no soft targets"):
        SoftTargetConfig(teacher="none")
