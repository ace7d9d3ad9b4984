"""A stage ends early where its evaluations get no better, and keeps the weights of the best one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from run_copies import copied
from safetensors.torch import load_file

from onesearch.files import read_json
from onesearch.tokenization_sid.templates import PromptLayout
from onesearch.trainers import stages as module
from onesearch.trainers.configs import StageConfig, TrainingConfig
from onesearch.trainers.run_inputs import RunInputs
from onesearch.trainers.training import train_run
from onesearch.trainers.validation import BEST, target_kind

PLAIN = PromptLayout(items=3, queries=0, sid=False, user=False, long_view_tokens=0, profile=False, default_history=False)


@pytest.fixture
def untrained(shared_run, tmp_path):
    return copied(shared_run, tmp_path / "untrained")


@pytest.fixture
def hit_rates(monkeypatch):
    """Stands in for the searches of an evaluation: these hit rates, and the weights that the model had at each."""
    seen = []

    def measured(config, inputs):
        rates = iter((0.1, 0.4, 0.2, 0.3, 0.9))

        def measure(model):
            seen.append({name: value.detach().clone() for name, value in model.state_dict().items()})
            rate = next(rates)
            return {"hr@10": rate, "mrr@10": 0.0, BEST: rate / 2}

        return measure

    monkeypatch.setattr(module, "retrieval_metrics", measured)
    return seen


def training(recipe, **changes) -> TrainingConfig:
    arguments = {
        **recipe.training.arguments,
        "max_steps": 5,
        "eval_strategy": "steps",
        "eval_steps": 1,
        "save_strategy": "steps",
        "save_steps": 1,
        "save_total_limit": 1,
    }
    stage = StageConfig("personalised", {"purchases": 1})
    return replace(recipe.training, stages=(stage,), arguments=arguments, prompt=PLAIN, **changes)


def test_the_best_weights_are_kept(untrained, recipe, hit_rates):
    """Two evaluations without a better hit rate end the stage after four of five steps; the second was the best."""
    train_run(untrained, training(recipe, patience=2), progress=False)
    assert len(hit_rates) == 4
    found = load_file(untrained.checkpoint / "model.safetensors")
    assert all(torch.equal(found[name], hit_rates[1][name]) for name in found)
    assert not all(torch.equal(found[name], hit_rates[3][name]) for name in found)
    log = read_json(untrained.training / "log.json")
    assert [entry["eval_hr@10"] for entry in log if "eval_hr@10" in entry] == [0.1, 0.4, 0.2, 0.3]


def test_without_patience_the_last_weights_are_kept(untrained, recipe, hit_rates):
    train_run(untrained, training(recipe), progress=False)
    found = load_file(untrained.checkpoint / "model.safetensors")
    assert len(hit_rates) == 5 and all(torch.equal(found[name], hit_rates[4][name]) for name in found)


def test_a_training_on_a_fixed_number_of_threads_is_the_same_on_any_machine(shared_run, recipe, tmp_path):
    found = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        run = copied(shared_run, tmp_path / str(threads), ("market", "sids"))
        config = training(recipe, threads=1)
        config = replace(config, arguments={**config.arguments, "max_steps": 2, "eval_strategy": "no", "save_strategy": "no"})
        torch.set_num_threads(threads)
        try:
            train_run(run, config, progress=False)
            assert torch.get_num_threads() == threads
        finally:
            torch.set_num_threads(before)
        found.append(load_file(run.checkpoint / "model.safetensors"))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_patience_and_threads_are_counts():
    for name in ("patience", "threads"):
        with pytest.raises(ValueError, match=f"{name}=0 must be at least 1"):
            TrainingConfig(**{name: 0})


def test_clicks_are_held_out_where_nothing_is_bought(shared_run, recipe):
    from onesearch.data.requests import build_requests
    from onesearch.trainers.run_inputs import load_inputs

    inputs: RunInputs = load_inputs(shared_run, recipe.training)
    assert target_kind(inputs.held_out) == "purchase" and all(request.purchased for request in inputs.held_out)
    clicked = [request for request in build_requests(inputs.builder.market, "validation") if not request.purchased]
    assert target_kind(clicked) == "click"
