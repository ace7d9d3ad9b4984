"""Averages of the weights: the formula, evaluations, the best checkpoint, and a training that was stopped."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from toy import StopAt, assert_same_weights, toy_dataset, toy_model, trainer_of, weights
from transformers import TrainerCallback, set_seed

from onesearch.trainers.sft.averaging import AVERAGE_NAME


class Noted(TrainerCallback):
    """Keeps the weights after each step."""

    def __init__(self, model):
        self.model, self.seen = model, []

    def on_step_end(self, args, state, control, **kwargs):
        self.seen.append(weights(self.model))


def trained(folder, resume=False, stop=None, **changes):
    set_seed(0)
    model = toy_model(dropout=0.1)
    noted = Noted(model)
    trainer = trainer_of(
        model, folder, callbacks=[noted, *([StopAt(stop)] if stop else [])], max_steps=6, learning_rate=1e-2, **changes
    )
    trainer.train(resume_from_checkpoint=resume)
    return model, noted.seen, trainer


def test_swa_is_the_mean_of_the_later_steps(tmp_path):
    """Six steps, of which the last three are averaged."""
    model, seen, _ = trained(tmp_path, weight_average="swa", average_from=0.5)
    expected = {name: torch.stack([step[name] for step in seen[3:]]).mean(0) for name in seen[0]}
    assert_same_weights(expected, weights(model))
    assert not torch.equal(weights(model)["model.shared.weight"], seen[-1]["model.shared.weight"])


def test_ema_is_the_formula(tmp_path):
    model, seen, _ = trained(tmp_path, weight_average="ema", ema_decay=0.3, average_from=0.0)
    average = seen[0]
    for step, own in enumerate(seen[1:], 1):
        decay = min(0.3, (1 + step) / (10 + step))
        average = {name: decay * average[name] + (1 - decay) * own[name] for name in own}
    assert_same_weights(average, weights(model))


def test_the_raw_weights_train_on_as_without_an_average(tmp_path):
    """The average is only looked at: an evaluation by it changes no later step."""
    settings = {"eval_strategy": "steps", "eval_steps": 2, "eval_dataset": toy_dataset(16, seed=5)}
    _, plain, _ = trained(tmp_path / "plain", **settings)
    _, averaged, _ = trained(tmp_path / "averaged", weight_average="swa", average_from=0.2, **settings)
    for one, two in zip(plain, averaged, strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_a_stopped_training_goes_on_to_the_same_average(tmp_path, kind):
    settings = {"weight_average": kind, "ema_decay": 0.5, "average_from": 0.2, "save_strategy": "steps", "save_steps": 1}
    whole, _, _ = trained(tmp_path / "whole", **settings)
    trained(tmp_path / "cut", stop=4, **settings)
    resumed, seen, _ = trained(tmp_path / "cut", resume=True, **settings)
    assert len(seen) == 2
    assert all(torch.equal(weights(whole)[name], value) for name, value in weights(resumed).items())


def test_the_best_checkpoint_s_average_is_kept(tmp_path):
    """The second evaluation is the best: the model ends with the average as it was then, and checkpoints hold both."""
    rates = iter((0.1, 0.9, 0.2))
    settings = {
        "weight_average": "swa", "average_from": 0.0, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2,
        "load_best_model_at_end": True, "metric_for_best_model": "hr@10", "greater_is_better": True,
    }  # fmt: skip
    measured = []

    def measure(model):
        measured.append(weights(model))
        return {"hr@10": next(rates)}

    model, seen, _ = trained(tmp_path, eval_dataset=toy_dataset(16, seed=5), retrieval_metrics=measure, **settings)
    expected = {name: torch.stack([step[name] for step in seen[:4]]).mean(0) for name in seen[0]}
    assert_same_weights(expected, weights(model))
    assert_same_weights(expected, measured[1])
    own = load_file(tmp_path / "checkpoint-4" / "model.safetensors")
    assert all(torch.equal(own[name], seen[3][name]) for name in own)
    assert (tmp_path / "checkpoint-4" / AVERAGE_NAME).is_file()


def test_a_checkpoint_without_an_average_is_named(tmp_path):
    trained(tmp_path, stop=2, save_strategy="steps", save_steps=1)
    with pytest.raises(ValueError, match=r"no average of the weights .*weight_average"):
        trained(tmp_path, resume=True, weight_average="ema")
